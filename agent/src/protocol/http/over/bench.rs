//! One exchange of HTTP/1, for unit tests.

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
