//! Globs over whole texts: `*` any run of characters (`/` too), `?` any one, `[a-z]` and `[!a-z]`
//! sets, `\` the next character as it is. A malformed set stands for itself.
//!
//! Written here since the patterns are few and the texts short: globset would bring regex-automata
//! and aho-corasick for one function. Matching keeps one way back, so its cost is at most
//! pattern × text, whatever the pattern.

/// A compiled pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Glob {
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Many,
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
        let mut parts = Vec::new();
        let mut rest = pattern.chars();
        while let Some(c) = rest.next() {
            match c {
                '*' if parts.last() == Some(&Part::Many) => {}
                '*' => parts.push(Part::Many),
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
        Self { parts }
    }

    /// Whether all of `text` matches.
    pub fn matches(&self, text: &str) -> bool {
        let mut part = 0;
        let mut rest = text.chars();
        let mut back: Option<(usize, std::str::Chars<'_>)> = None;
        loop {
            let before = rest.clone();
            match (self.parts.get(part), rest.next()) {
                (Some(Part::Many), _) => {
                    part += 1;
                    rest = before.clone();
                    back = Some((part, before));
                    continue;
                }
                (Some(one), Some(c)) if one.matches(c) => {
                    part += 1;
                    continue;
                }
                (None, None) => return true,
                _ => {}
            }
            // Let the last `*` take one character more.
            let Some((after, text)) = back.as_mut() else {
                return false;
            };
            if text.next().is_none() {
                return false;
            }
            part = *after;
            rest = text.clone();
        }
    }
}

impl Part {
    fn matches(&self, c: char) -> bool {
        match self {
            Self::Many => false,
            Self::One => true,
            Self::Char(own) => *own == c,
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
    fn hostile_patterns_end_soon() {
        let text = "a".repeat(4096);
        let glob = Glob::new(&format!("{}b", "a*".repeat(64)));
        let began = std::time::Instant::now();
        assert!(!glob.matches(&text));
        assert!(began.elapsed().as_secs() < 2);
    }
}
