//! Rust source without what is not code: comments and the insides of literals become spaces, so
//! that a word found is a word meant. Line numbers stay.

/// One file's code.
pub struct Code {
    /// Comments and literals blanked; as many lines as the file.
    pub text: String,
    /// The same without what is only compiled for tests, wherever in the file it stands.
    pub own: String,
    /// Lines that are not only there for tests.
    pub length: usize,
}

impl Code {
    /// Blanks a file.
    pub fn read(text: &str) -> Self {
        let text = blank(text);
        let (own, gone) = without_tests(&text);
        let length = text.lines().count() - gone;
        Self { text, own, length }
    }

    /// Every whole word of the code, with its line and the text that follows it.
    pub fn words(&self) -> impl Iterator<Item = (usize, &str, &str)> {
        words(&self.text)
    }

    /// The same of what is compiled outside tests too.
    pub fn own_words(&self) -> impl Iterator<Item = (usize, &str, &str)> {
        words(&self.own)
    }
}

fn words(text: &str) -> impl Iterator<Item = (usize, &str, &str)> {
    let mut line = 1;
    let mut rest = text;
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

/// Blanked code with every `#[cfg(test)]` and what it stands before blanked too, and how many lines
/// that took.
fn without_tests(text: &str) -> (String, usize) {
    let mut own = String::with_capacity(text.len());
    let mut rest = text;
    let mut lines = 0;
    while let Some((at, attribute)) = TESTS
        .iter()
        .filter_map(|attribute| Some((rest.find(attribute)?, attribute)))
        .min()
    {
        let (before, from) = rest.split_at(at);
        let end = match attribute.starts_with("#!") {
            true => from.len(),
            false => item(from),
        };
        let (gone, after) = from.split_at(end);
        own += before;
        own.extend(gone.chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
        lines += newlines(gone.trim_end()) + 1;
        rest = after;
    }
    (own + rest, lines)
}

/// What says that the next item, field or statement, or the whole file, is for tests alone.
const TESTS: &[&str] = &["#[cfg(test)]", "#[cfg(all(test", "#![cfg(test)]"];

/// Length of an item, field or statement with its attributes.
fn item(text: &str) -> usize {
    let start = attributes(text);
    let head = text[start..].split(['{', ';', '=']).next().unwrap_or("");
    let has = |word: &str| words(head).any(|(_, found, _)| found == word);
    let to_semicolon = !has("fn") && SIMPLE.iter().any(|word| has(word));
    let to_comma = !ITEMS.iter().any(|word| has(word)) && !to_semicolon;
    let mut depth = 0_usize;
    for (at, c) in text[start..].char_indices() {
        let end = start + at + 1;
        match c {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' if depth == 0 => return end - 1,
            '}' if depth == 1 && !to_semicolon => return end,
            ')' | ']' | '}' => depth -= 1,
            ';' if depth == 0 => return end,
            ',' if depth == 0 && to_comma => return end,
            _ => {}
        }
    }
    text.len()
}

/// Length of the attributes that a text begins with, blanks among them.
fn attributes(text: &str) -> usize {
    let mut at = 0;
    loop {
        let rest = &text[at..];
        let skipped = rest.len() - rest.trim_start().len();
        if !rest[skipped..].starts_with('#') {
            return at + skipped;
        }
        let mut depth = 0_usize;
        let close = rest.find(|c| {
            depth += usize::from(c == '[');
            depth -= usize::from(c == ']' && depth > 0);
            c == ']' && depth == 0
        });
        match close {
            Some(close) => at += close + 1,
            None => return text.len(),
        }
    }
}

/// Items and statements that end with a semicolon, whatever braces they have.
const SIMPLE: &[&str] = &["use", "const", "static", "type", "let"];
/// Items in which a comma outside brackets ends nothing.
const ITEMS: &[&str] = &[
    "fn",
    "mod",
    "impl",
    "struct",
    "enum",
    "trait",
    "union",
    "macro_rules",
];

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

    /// The words that are compiled outside tests, and the lines.
    #[track_caller]
    fn own(text: &str, words: &[&str], length: usize) {
        let code = Code::read(text);
        assert_eq!(newlines(&code.own), newlines(text));
        let found: Vec<_> = code.own_words().map(|(_, word, _)| word).collect();
        assert_eq!((found.as_slice(), code.length), (words, length));
    }

    #[test]
    fn tests_are_left_out_wherever_they_stand() {
        own("a;\n#[cfg(test)]\nmod tests;\nb;\n", &["a", "b"], 2);
        own(
            "a;\n#[cfg(test)]\nmod tests {\n    fn f() {}\n}\nb;\n",
            &["a", "b"],
            2,
        );
        own("#[cfg(test)]\nuse a::{b, c};\nd;\n", &["d"], 1);
        own(
            "#[cfg(test)]\n#[allow(x, reason = \"]\")]\npub fn f<A, B>(a: [u8; 2]) {\n    b;\n}\nc;\n",
            &["c"],
            1,
        );
        own(
            "struct S {\n    #[cfg(test)]\n    a: Vec<u8>,\n    b: u8,\n}\n",
            &["struct", "S", "b", "u8"],
            3,
        );
        own(
            "fn f() {\n    #[cfg(test)]\n    {\n        a;\n    }\n    b;\n    #[cfg(test)]\n    let c = D { e };\n    f\n}\n",
            &["fn", "f", "b", "f"],
            4,
        );
        own("#![cfg(test)]\na;\nb;\n", &[], 0);
        own("#[cfg(all(test, unix))]\nconst fn a() {}\nb\n", &["b"], 1);
        own("// #[cfg(test)]\na;\nb\n", &["a", "b"], 3);
    }
}
