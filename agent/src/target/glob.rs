//! Globs over whole texts: `*` any run of characters (`/` too), `?` any one, `[a-z]` and `[!a-z]`
//! sets, `\` the next character as it is. A malformed set stands for itself. In a glob of paths
//! `*`, `?` and sets stay within a segment, and `**` is what `*` is elsewhere.
//!
//! Written here since the patterns are few and the texts short: globset would bring regex-automata
//! and aho-corasick for one function. Matching keeps one way back to the last `*` and one to the
//! last run that crosses segments, so its cost is bounded whatever the pattern: pattern × text, and
//! times the longest segment for paths.

/// A compiled pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Glob {
    parts: Vec<Part>,
    /// Whether a `/` is matched by nothing but itself and `**`.
    path: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Many,
    /// Any run without a `/`.
    Within,
    One,
    Char(char),
    Set {
        inverted: bool,
        ranges: Vec<(char, char)>,
    },
}

impl Glob {
    /// Compiles `pattern`; every text is a valid pattern.
    pub fn new(pattern: &str) -> Self {
        Self::compile(pattern, false)
    }

    /// The same for paths, segment by segment.
    pub fn of_path(pattern: &str) -> Self {
        Self::compile(pattern, true)
    }

    fn compile(pattern: &str, path: bool) -> Self {
        let mut parts = Vec::new();
        let mut rest = pattern.chars();
        while let Some(c) = rest.next() {
            match c {
                '*' if path && !rest.as_str().starts_with('*') => parts.push(Part::Within),
                '*' if parts.last() == Some(&Part::Many) => {}
                '*' => {
                    if path {
                        rest.next();
                    }
                    parts.push(Part::Many);
                }
                '?' => parts.push(Part::One),
                '\\' => parts.push(Part::Char(rest.next().unwrap_or('\\'))),
                '[' => match set(rest.as_str()) {
                    Some((part, after)) => {
                        parts.push(part);
                        rest = after.chars();
                    }
                    None => parts.push(Part::Char('[')),
                },
                c => parts.push(Part::Char(c)),
            }
        }
        Self { parts, path }
    }

    /// Whether all of `text` matches.
    pub fn matches(&self, text: &str) -> bool {
        let mut part = 0;
        let mut rest = text.chars();
        let mut many: Option<Back<'_>> = None;
        let mut within: Option<Back<'_>> = None;
        loop {
            let before = rest.clone();
            match (self.parts.get(part), rest.next()) {
                (Some(star @ (Part::Many | Part::Within)), _) => {
                    part += 1;
                    rest = before.clone();
                    let back = Some((part, before));
                    match star {
                        Part::Within => within = back,
                        _ => (many, within) = (back, None),
                    }
                    continue;
                }
                (Some(one), Some(c)) if one.matches(c, self.path) => {
                    part += 1;
                    continue;
                }
                (None, None) => return true,
                _ => {}
            }
            // Let the last star that can take one character more do so.
            let again = longer(&mut within, |c| c != '/').or_else(|| {
                within = None;
                longer(&mut many, |_| true)
            });
            match again {
                Some(again) => (part, rest) = again,
                None => return false,
            }
        }
    }
}

/// The part after a star, and what of the text the star has not taken.
type Back<'a> = (usize, std::str::Chars<'a>);

fn longer<'a>(back: &mut Option<Back<'a>>, takes: impl Fn(char) -> bool) -> Option<Back<'a>> {
    let (_, text) = back.as_mut()?;
    text.next().filter(|c| takes(*c))?;
    back.clone()
}

impl Part {
    fn matches(&self, c: char, path: bool) -> bool {
        match self {
            Self::Many | Self::Within => false,
            Self::Char(own) => *own == c,
            _ if path && c == '/' => false,
            Self::One => true,
            Self::Set { inverted, ranges } => {
                ranges.iter().any(|(low, high)| (*low..=*high).contains(&c)) != *inverted
            }
        }
    }
}

/// The set that begins after its `[`, and what follows its `]`.
fn set(text: &str) -> Option<(Part, &str)> {
    let inverted = text.starts_with(['!', '^']);
    let body = if inverted { text.get(1..)? } else { text };
    let mut ranges = Vec::new();
    let mut chars = body.chars();
    while let Some(low) = chars.next() {
        if low == ']' && !ranges.is_empty() {
            return Some((Part::Set { inverted, ranges }, chars.as_str()));
        }
        let mut ahead = chars.clone();
        match (ahead.next(), ahead.next()) {
            (Some('-'), Some(high)) if high != ']' => {
                ranges.push((low, high));
                chars = ahead;
            }
            _ => ranges.push((low, low)),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pattern: &str, yes: &[&str], no: &[&str]) {
        let glob = Glob::new(pattern);
        for text in yes {
            assert!(glob.matches(text), "{pattern} must match {text}");
        }
        for text in no {
            assert!(!glob.matches(text), "{pattern} must not match {text}");
        }
    }

    #[test]
    fn globs() {
        check("nginx", &["nginx"], &["nginx2", "xnginx", ""]);
        check("*", &["", "a", "/a/b c"], &[]);
        check("python*", &["python", "python3.11"], &["/usr/bin/python"]);
        check("*/bin/*", &["/usr/bin/x", "/bin/"], &["/usr/sbin/x"]);
        check(
            "a*b*c",
            &["abc", "aXbYc", "abbcc", "abcbc"],
            &["abcd", "acb"],
        );
        check("?x", &["ax", "ñx"], &["x", "aax"]);
        check("[a-c]1", &["a1", "c1"], &["d1", "-1"]);
        check("[!a-c]1", &["d1"], &["a1", "1"]);
        check("[]a]", &["]", "a"], &["b"]);
        check("[a-]", &["a", "-"], &["b"]);
        check("[ab", &["[ab"], &["a"]);
        check("\\*", &["*"], &["a", "\\"]);
        check("a\\", &["a\\"], &["a"]);
        check("**a**", &["a", "bab"], &["b"]);
        check("", &[""], &["a"]);
    }

    #[test]
    fn globs_of_paths() {
        for (glob, path, is) in [
            ("/a", "/a", true),
            ("/a", "/ab", false),
            ("/a/*", "/a/b", true),
            ("/a/*", "/a/b/c", false),
            ("/a/**", "/a/b/c", true),
            ("/**/c", "/a/b/c", true),
            ("/**/x*/c", "/a/xb/d/xe/c", true),
            ("/**/x*/c", "/a/xb/d/e/c", false),
            ("/***", "/a/b", true),
            ("/?/b", "/a/b", true),
            ("/?", "//", false),
            ("/[!a]", "//", false),
            ("*", "", true),
            ("", "", true),
            ("", "/", false),
            ("/*.html", "/index.html", true),
        ] {
            assert_eq!(Glob::of_path(glob).matches(path), is, "{glob} {path}");
        }
        let long = "a".repeat(5000);
        let glob = "*a".repeat(20) + "b";
        assert!(!Glob::of_path(&glob).matches(&long));
    }

    #[test]
    fn hostile_patterns_end_soon() {
        let text = "a".repeat(4096);
        let glob = Glob::new(&format!("{}b", "a*".repeat(64)));
        let began = std::time::Instant::now();
        assert!(!glob.matches(&text));
        assert!(began.elapsed().as_secs() < 2);
    }
}
