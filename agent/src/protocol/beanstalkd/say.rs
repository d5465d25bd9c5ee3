//! What spans say of commands and answers (semantic-conventions 1.42.0, `docs/messaging/messaging-spans.md`).

use std::borrow::Cow;

use super::line::{Command, Fields, What, Word};
use crate::protocol::messaging::{Operation, Transfer};
use crate::protocol::{Attribute, Request, Response};

/// A command's request, about this tube.
pub(super) fn request(command: &Command, fields: &Fields, tube: Option<Box<str>>) -> Request {
    let further = details(fields);
    let operation = match command.what {
        What::Put => Operation::Send,
        What::Reserve | What::Take => Operation::Receive,
        What::Settle => Operation::Settle,
        _ => return call(command.name, tube, further),
    };
    let transfer = Transfer {
        system: "beanstalkd",
        name: command.name,
        operation,
        destination: tube.map(|tube| Cow::Owned(tube.into())),
        count: None,
        carrier: None,
        messages: Vec::new(),
    };
    transfer.request("beanstalkd", further)
}

/// What the conventions have no type for.
fn call(name: &'static str, tube: Option<Box<str>>, further: Vec<Attribute>) -> Request {
    let mut attributes = vec![
        Attribute::fixed("messaging.system", "beanstalkd"),
        Attribute::fixed("messaging.operation.name", name),
    ];
    let operation = match tube {
        Some(tube) => {
            let operation = format!("{name} {tube}");
            attributes.push(Attribute::text("messaging.destination.name", tube.into()));
            Cow::Owned(operation)
        }
        None => Cow::Borrowed(name),
    };
    attributes.extend(further);
    Request::call("beanstalkd", operation, attributes)
}

/// An answer that begins with this word.
pub(super) fn response(command: &Command, word: &'static str, fields: &Fields) -> Response {
    let failed = command.answers.first() != Some(&word);
    let own = matches!(
        word,
        "BURIED" | "DRAINING" | "OUT_OF_MEMORY" | "INTERNAL_ERROR"
    );
    let error = failed.then_some(Cow::Borrowed(word));
    Response {
        attributes: match word {
            // Statistics are no message.
            "OK" => Vec::new(),
            // The job's number was said by who asked.
            _ if command.words.contains(&Word::Id) => size(fields).into_iter().collect(),
            _ => details(fields),
        },
        server_error: error.clone().filter(|_| own),
        client_error: error,
        messages: Vec::new(),
    }
}

fn details(fields: &Fields) -> Vec<Attribute> {
    let id = fields.id.map(|id| id.to_string());
    let id = id.map(|id| Attribute::text("messaging.message.id", id));
    id.into_iter().chain(size(fields)).collect()
}

fn size(fields: &Fields) -> Option<Attribute> {
    let size = fields.size.map(i64::from);
    size.map(|size| Attribute::int("messaging.message.body.size", size))
}
