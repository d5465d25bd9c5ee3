//! Rust source without what is not code: comments and the insides of literals become spaces, so
//! that a word found is a word meant. Line numbers stay.

/// One file's code.
pub struct Code {
    /// Comments and literals blanked; as many lines as the file.
    pub text: String,
    /// First line (from 1) of the file's own tests, or one past the last.
    pub tests: usize,
}

impl Code {
    /// Blanks a file.
    pub fn read(text: &str) -> Self {
        let blank = blank(text);
        let lines: Vec<&str> = blank.lines().collect();
        let is_test =
            |pair: &[&str]| pair[0].trim_end() == "#[cfg(test)]" && pair[1].starts_with("mod ");
        let tests = lines
            .windows(2)
            .position(is_test)
            .map_or(lines.len(), |at| at)
            + 1;
        Self { text: blank, tests }
    }

    /// Every whole word of the code, with its line and the text that follows it.
    pub fn words(&self) -> impl Iterator<Item = (usize, &str, &str)> {
        let mut line = 1;
        let mut rest = self.text.as_str();
        std::iter::from_fn(move || {
            let start = rest.find(is_word)?;
            line += newlines(&rest[..start]);
            rest = &rest[start..];
            let end = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
            let (word, after) = rest.split_at(end);
            rest = after;
            Some((line, word, after))
        })
    }
}

/// Lines begun in a piece of text.
pub fn newlines(text: &str) -> usize {
    text.bytes().filter(|byte| *byte == b'\n').count()
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn blank(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    let mut before = ' ';
    while let Some(c) = rest.chars().next() {
        let length = literal(rest, before).unwrap_or(0);
        if length > 0 {
            let (gone, left) = rest.split_at(length);
            out.extend(gone.chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
            rest = left;
            before = ' ';
        } else {
            out.push(c);
            rest = &rest[c.len_utf8()..];
            before = c;
        }
    }
    out
}

/// Length of the comment or literal that `rest` starts with.
fn literal(rest: &str, before: char) -> Option<usize> {
    if rest.starts_with("//") {
        return Some(rest.find('\n').unwrap_or(rest.len()));
    }
    if rest.starts_with("/*") {
        return Some(block(rest));
    }
    if rest.starts_with('\'') {
        return character(rest);
    }
    if rest.starts_with('"') {
        return string(rest);
    }
    if is_word(before) {
        return None;
    }
    let prefix = rest
        .find(|c| !matches!(c, 'b' | 'c' | 'r'))
        .filter(|at| *at <= 2)?;
    let body = &rest[prefix..];
    let raw = rest[..prefix].contains('r');
    if !raw {
        return string(body).map(|length| length + prefix);
    }
    let hashes = body.bytes().take_while(|byte| *byte == b'#').count();
    let body = body[hashes..].strip_prefix('"')?;
    let close = format!("\"{}", "#".repeat(hashes));
    let end = body.find(&close).map_or(body.len(), |at| at + close.len());
    Some(prefix + hashes + 1 + end)
}

fn block(rest: &str) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    while at < rest.len() {
        match rest.as_bytes().get(at..at + 2) {
            Some(b"/*") => (depth, at) = (depth + 1, at + 2),
            Some(b"*/") => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    rest.len()
}

fn string(body: &str) -> Option<usize> {
    let inside = body.strip_prefix('"')?;
    let mut escaped = false;
    for (at, c) in inside.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return Some(at + 2),
            _ => {}
        }
    }
    Some(body.len())
}

/// A character literal; None for a lifetime.
fn character(rest: &str) -> Option<usize> {
    let mut inside = rest[1..].char_indices();
    match inside.next()? {
        (_, '\\') => {
            inside.next()?;
            inside.find(|(_, c)| *c == '\'').map(|(at, _)| at + 2)
        }
        _ => inside
            .next()
            .filter(|(_, c)| *c == '\'')
            .map(|(at, _)| at + 2),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, words: &[&str]) {
        let code = Code::read(text);
        assert_eq!(newlines(&code.text), newlines(text));
        assert_eq!(
            code.words().map(|(_, word, _)| word).collect::<Vec<_>>(),
            words
        );
    }

    #[test]
    fn comments_and_literals_are_blank() {
        check("a // b\nc", &["a", "c"]);
        check("a /* b /* c */ d */ e", &["a", "e"]);
        check(r#"a("b \" c", 'd', '\'', b"e", '\u{1F}') f"#, &["a", "f"]);
        check(
            "r#\"a\nb \"\"# c r\"d\\\" e br##\"x\"# \"## f",
            &["c", "e", "f"],
        );
        check(
            "fn f<'a>(x: &'a str) {}",
            &["fn", "f", "a", "x", "a", "str"],
        );
        check("bar\"x\" cr_b", &["bar", "cr_b"]);
    }

    #[test]
    fn tests_begin_at_their_module() {
        let text = "a\n#[cfg(test)]\nuse b;\nc\n#[cfg(test)]\nmod tests {\n}\n";
        assert_eq!(Code::read(text).tests, 5);
        assert_eq!(Code::read("a\nb\n").tests, 3);
    }
}
