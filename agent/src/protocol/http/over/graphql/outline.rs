//! A document of GraphQL: which operations it has (<https://spec.graphql.org/>, 2).
//!
//! Never true here: that more of it is understood than where its definitions begin and end; that a text
//! passes for a document which has other tokens than one, or a selection that could be none.

use smallvec::SmallVec;

/// Type and name of an operation.
type Named = (&'static str, Option<Box<str>>);

/// The operations of a document.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Outline {
    operations: SmallVec<[Named; 1]>,
}

/// Most operations of a document that are told apart.
const MAX_OPERATIONS: usize = 16;
/// Longest name.
const MAX_NAME: usize = 256;

impl Outline {
    /// Type and name of the one that is meant.
    pub fn choose(&self, name: Option<&str>) -> (Option<&'static str>, Option<String>) {
        let named = |(_, own): &&Named| own.as_deref() == name;
        let found = match (name, self.operations.as_slice()) {
            (None, [only]) => Some(only),
            (None, _) => None,
            (Some(_), all) => all.iter().find(named),
        };
        match found {
            Some((kind, own)) => (Some(kind), own.as_deref().map(str::to_owned)),
            None => (None, None),
        }
    }

    /// What it costs to hold beyond itself, in bytes.
    pub fn weight(&self) -> usize {
        let name = |own: &Option<Box<str>>| own.as_deref().map_or(0, str::len);
        let each = self.operations.iter();
        each.map(|(_, own)| name(own).saturating_add(32))
            .fold(0, usize::saturating_add)
    }
}

/// A token (2.1), of values and ignored ones no more than that they are there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token<'a> {
    Name(&'a str),
    Mark(u8),
    /// A string, or what there is of one.
    Text(&'a str),
    /// Any other value.
    Value,
    /// There is no more.
    End,
}

/// What is to come at the top of a document.
enum Expected {
    Definition,
    /// What a description stands before.
    Described,
    /// The name of an operation, and what it is.
    Name(&'static str),
    /// The first selection, behind variables and directives.
    Selection,
}

/// The operations of a document, or, if it is not `whole`, of what it begins with.
pub fn outline(text: &str, whole: bool) -> Option<Outline> {
    let mut outline = Outline::default();
    let mut rest = text;
    let mut expected = Expected::Definition;
    let (mut braces, mut others) = (0u32, 0u32);
    let mut last = Token::Value;
    loop {
        let token;
        (token, rest) = next(rest)?;
        // What stands at the cut may go on.
        if token == Token::End || !whole && rest.is_empty() {
            break;
        }
        if braces == 0 && others == 0 {
            expected = match (expected, token) {
                (Expected::Definition, Token::Mark(b'{')) => {
                    outline.add("query", None);
                    Expected::Definition
                }
                (Expected::Definition, Token::Text(_)) => Expected::Described,
                (Expected::Definition | Expected::Described, Token::Name(word)) => match word {
                    "fragment" => Expected::Selection,
                    word => Expected::Name(kind(word)?),
                },
                (Expected::Definition | Expected::Described, _) => return None,
                (Expected::Name(kind), Token::Name(name)) => {
                    outline.add(kind, Some(name).filter(|name| name.len() <= MAX_NAME));
                    Expected::Selection
                }
                (Expected::Name(kind), token) => {
                    outline.add(kind, None);
                    selection(token)?
                }
                (Expected::Selection, token) => selection(token)?,
            };
        }
        match token {
            Token::Mark(b'{') => braces = braces.saturating_add(1),
            // Nothing is selected.
            Token::Mark(b'}') if others == 0 && last == Token::Mark(b'{') => return None,
            Token::Mark(b'}') => braces = braces.checked_sub(1)?,
            Token::Mark(b'(' | b'[') => others = others.saturating_add(1),
            Token::Mark(b')' | b']') => others = others.checked_sub(1)?,
            // What has a value by itself is an argument, or a variable's default.
            Token::Mark(b'=' | b'$' | b'!') | Token::Value if others == 0 => return None,
            Token::Text(_) if others == 0 && braces > 0 => return None,
            _ => {}
        }
        last = token;
    }
    let over = braces == 0 && others == 0 && matches!(expected, Expected::Definition);
    ((over || !whole) && !outline.operations.is_empty()).then_some(outline)
}

/// Whether a text begins as a document that was cut before its first operation: with a fragment, or within
/// a description. No search has a block of text.
pub fn begins(text: &str) -> bool {
    match next(text) {
        Some((Token::Text(text), rest)) => {
            let open = text.len() == 1 || !text.ends_with('"');
            open || text.starts_with(BLOCK) || is_fragment(rest)
        }
        _ => is_fragment(text),
    }
}

fn is_fragment(text: &str) -> bool {
    match next(text) {
        Some((Token::Name("fragment"), rest)) if !rest.is_empty() => {
            matches!(next(rest), Some((Token::Name(_) | Token::End, _)))
        }
        _ => false,
    }
}

/// Where a first selection may come.
fn selection(token: Token<'_>) -> Option<Expected> {
    match token {
        Token::Mark(b'{') => Some(Expected::Definition),
        Token::Mark(b'(' | b')' | b'@') | Token::Name(_) => Some(Expected::Selection),
        _ => None,
    }
}

fn kind(word: &str) -> Option<&'static str> {
    const KINDS: [&str; 3] = ["query", "mutation", "subscription"];
    KINDS.into_iter().find(|kind| *kind == word)
}

impl Outline {
    fn add(&mut self, kind: &'static str, name: Option<&str>) {
        if self.operations.len() < MAX_OPERATIONS {
            self.operations.push((kind, name.map(Box::from)));
        }
    }
}

/// The next token and what is behind it, if it is one.
fn next(text: &str) -> Option<(Token<'_>, &str)> {
    let ignored = |c: char| matches!(c, ' ' | '\t' | '\n' | '\r' | ',' | '\u{feff}');
    let mut text = text.trim_start_matches(ignored);
    while let Some(comment) = text.strip_prefix('#') {
        let end = comment.find(['\n', '\r']).unwrap_or(comment.len());
        text = comment.get(end..)?.trim_start_matches(ignored);
    }
    let Some(first) = text.bytes().next() else {
        return Some((Token::End, ""));
    };
    let part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let (token, length) = match first {
        b'_' | b'a'..=b'z' | b'A'..=b'Z' => {
            let length = text.find(|c| !part(c)).unwrap_or(text.len());
            (Token::Name(text.get(..length)?), length)
        }
        b'-' | b'0'..=b'9' => {
            let more = |c: char| part(c) || matches!(c, '-' | '+' | '.');
            (Token::Value, text.find(|c| !more(c)).unwrap_or(text.len()))
        }
        b'"' => {
            let length = string(text);
            (Token::Text(text.get(..length)?), length)
        }
        b'.' if text.starts_with("...") => (Token::Mark(b'.'), 3),
        b'!' | b'$' | b'&' | b'(' | b')' | b':' | b'=' | b'@' | b'[' | b']' | b'{' | b'|'
        | b'}' => (Token::Mark(first), 1),
        _ => return None,
    };
    Some((token, text.get(length..)?))
}

/// What a block of text stands in.
const BLOCK: &str = "\"\"\"";

/// Length of the string a text begins with; all of it if it has no end.
fn string(text: &str) -> usize {
    let (mark, mut at) = match text.starts_with(BLOCK) {
        true => (BLOCK, BLOCK.len()),
        false => ("\"", 1),
    };
    while let Some(rest) = text.get(at..) {
        let Some(found) = rest.find(['"', '\\']) else {
            break;
        };
        let rest = rest.get(found..).unwrap_or_default();
        let passed = match rest.strip_prefix('\\') {
            // A block has one escape, of its mark.
            Some(behind) if mark == BLOCK => match behind.starts_with(BLOCK) {
                true => 4,
                false => 1,
            },
            Some(behind) => behind
                .chars()
                .next()
                .map_or(1, char::len_utf8)
                .saturating_add(1),
            None if rest.starts_with(mark) => {
                return at.saturating_add(found).saturating_add(mark.len());
            }
            None => 1,
        };
        at = at.saturating_add(found).saturating_add(passed);
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(text: &str, name: Option<&str>) -> String {
        match outline(text, true) {
            None => "-".into(),
            Some(outline) => format!("{:?}", outline.choose(name)),
        }
    }

    #[test]
    fn operations() {
        for (text, want) in [
            ("{ a }", "(Some(\"query\"), None)"),
            ("query { a(b: \"}\") }", "(Some(\"query\"), None)"),
            (
                "# {\nmutation M($x: [Int!]! = [1, 2] @d(a: {b: 1})) @d(if: true) {a{b}}",
                "(Some(\"mutation\"), Some(\"M\"))",
            ),
            (
                "fragment F on T @x { a } subscription S { ...F }",
                "(Some(\"subscription\"), Some(\"S\"))",
            ),
            (
                "query Q { a(b: \"\"\"}\" \\\"\"\" {\"\"\") }",
                "(Some(\"query\"), Some(\"Q\"))",
            ),
            ("query A {a} query B {b}", "(None, None)"),
            (
                "\"\"\"d {\"\"\" query Q {a} \"e\" fragment F on T {b}",
                "(Some(\"query\"), Some(\"Q\"))",
            ),
        ] {
            assert_eq!(told(text, None), want, "{text}");
        }
        let two = "query A {a} mutation B {b}";
        assert_eq!(told(two, Some("B")), "(Some(\"mutation\"), Some(\"B\"))");
        assert_eq!(told(two, Some("C")), "(None, None)");
    }

    #[test]
    fn what_is_no_document() {
        for text in [
            "",
            "a",
            "select { a }",
            "query",
            "query Q",
            "{ a",
            "{ a }}",
            "{}",
            "}",
            "fragment F on T { a }",
            "type T { a: Int }",
            "{app=\"x\"}",
            "{\"query\": 1}",
            "{app=\"x\"} |= \"error\"",
            "sum(rate({app}[5m]))",
            "query everything about cats",
            "\"d\" {a}",
            "\"d\" \"e\" query {a}",
            "1 query {a}",
            "query {a} \"d\"",
            "*",
        ] {
            assert_eq!(told(text, None), "-", "{text}");
        }
    }

    #[test]
    fn the_beginning_of_a_document() {
        let cut = |text| outline(text, false).map(|outline| outline.choose(None));
        assert_eq!(
            cut("query Q { a { b "),
            Some((Some("query"), Some("Q".into())))
        );
        assert_eq!(cut("fragment F on T { a { b "), None);
    }
}
