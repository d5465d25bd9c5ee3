//! One exchange, for unit tests: of HTTP/1, or of heads alone.

use super::{Application, Head, Said};
use crate::protocol::bench::Bench;
use crate::protocol::{Flow, Part, Value, http1};

/// What is told of an exchange with these heads' first lines and fields, and bodies: its name, what was
/// asked, what was answered and errors, without what HTTP says. In whatever portions it comes that must be
/// the same.
pub fn told(ask: (&str, &str), answer: (&str, &str)) -> String {
    let message = |(head, body): (&str, &str)| {
        let head = head.replace('\n', "\r\n");
        format!("{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len())
    };
    let (ask, answer) = (message(ask), message(answer));
    let whole = play(ask.as_bytes(), answer.as_bytes(), 64 * 1024);
    for portion in [1, 2, 7, 64] {
        let other = play(ask.as_bytes(), answer.as_bytes(), portion);
        assert_eq!(whole, other, "portions of {portion}");
    }
    whole
}

/// The same of a POST of JSON that is answered by JSON.
pub fn posted(path: &str, ask: &str, status: u16, answer: &str) -> String {
    told(
        (
            &format!("POST {path} HTTP/1.1\nHost: api.test\n{JSON}"),
            ask,
        ),
        (&format!("HTTP/1.1 {status} x\n{JSON}"), answer),
    )
}

/// A field.
pub const JSON: &str = "Content-Type: application/json; charset=utf-8";

fn play(ask: &[u8], answer: &[u8], portion: usize) -> String {
    let mut bench = Bench::new(http1::PROTOCOL);
    for (flow, bytes) in [(Flow::Request, ask), (Flow::Response, answer)] {
        for bytes in bytes.chunks(portion.min(bytes.len())) {
            let _ = bench.send(flow, bytes);
        }
    }
    assert_eq!(bench.parser.weight(), 0, "nothing is held of what is over");
    let mut lines = Vec::new();
    let shown = |key: &str, value: &Value| match value {
        Value::Str(text) => format!("{key}={text}"),
        Value::Int(number) => format!("{key}={number}"),
        Value::Bool(is) => format!("{key}={is}"),
        Value::Double(number) => format!("{key}={number}"),
        Value::List(list) => format!("{key}={}", list.join(",")),
    };
    for message in &bench.out {
        match &message.part {
            Part::Revise(revision) => {
                if let Some((protocol, name)) = &revision.kind {
                    assert_eq!(*protocol, "http1");
                    lines.push(format!("[{name}]"));
                }
                lines.extend(revision.with.iter().map(|a| shown(&a.key, &a.value)));
            }
            Part::Trailers(response) => {
                lines.extend(response.attributes.iter().map(|a| shown(&a.key, &a.value)));
                let errors = [
                    ("client", &response.client_error),
                    ("server", &response.server_error),
                ];
                for (whose, error) in errors {
                    lines.extend(error.as_ref().map(|error| format!("{whose}!{error}")));
                }
            }
            _ => {}
        }
    }
    lines.join(" ")
}

/// A head's fields, by their names in lower case.
pub type Fields<'a> = &'a [(&'a str, &'a str)];

/// What an application tells of an exchange by its heads alone: `line` is its method and target.
pub fn of_heads(
    application: &dyn Application,
    line: &str,
    asked: Fields<'_>,
    (code, answered): (u16, Fields<'_>),
) -> Option<Vec<String>> {
    let (method, target) = line.split_once(' ').unwrap_or_default();
    assert!(!target.is_empty(), "a method and a target: {line}");
    let find = |fields: Fields<'_>, name: &str| -> Option<Vec<u8>> {
        let mut fields = fields.iter();
        let found = fields.find(|(known, _)| *known == name)?;
        Some(found.1.as_bytes().to_vec())
    };
    let leak = |found: Option<Vec<u8>>| found.map(|bytes| &*bytes.leak());
    let of_request = |name: &str| leak(find(asked, name));
    let of_response = |name: &str| leak(find(answered, name));
    let mut tap = application.asked(&Head::new((method, target), None, &of_request))?;
    let mut said = Said::default();
    let head = Head::new(("", ""), Some(code), &of_response);
    if !tap.answered(&head, &mut said) {
        assert!(said.name.is_none() && said.asked.is_empty() && said.answered.is_none());
        return None;
    }
    let mut lines: Vec<_> = said.name.iter().map(|n| format!("name = {n}")).collect();
    let answered = said.answered.iter().flat_map(|r| &r.attributes);
    for attribute in said.asked.iter().chain(answered) {
        let value = match &attribute.value {
            Value::Str(text) => text.to_string(),
            Value::Int(number) => number.to_string(),
            other => format!("{other:?}"),
        };
        lines.push(format!("{} = {value}", attribute.key));
    }
    Some(lines)
}
