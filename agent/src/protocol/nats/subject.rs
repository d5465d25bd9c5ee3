//! What subjects tell: whose they are, and how they are named where a name must be low in
//! cardinality.

/// What a message is for, by its subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// The programs' own.
    Message,
    /// To one who asked, by the clients' usual prefix.
    Answer,
    /// JetStream: what became of a message that was delivered.
    Acknowledgement,
    /// JetStream: messages are asked for, which come one by one.
    Pull,
    /// JetStream: something is asked of the server.
    Api,
    /// JetStream: its own flow control.
    Flow,
}

/// By the subjects of the clients' and of JetStream (nats-server, `jetstream_api.go`).
pub(super) fn purpose(subject: &[u8]) -> Purpose {
    for (prefix, purpose) in [
        (INBOX, Purpose::Answer),
        (b"$JS.ACK.", Purpose::Acknowledgement),
        (b"$JS.FC.", Purpose::Flow),
    ] {
        if subject.starts_with(prefix) {
            return purpose;
        }
    }
    match api(subject) {
        Some(rest) if rest.starts_with(b"CONSUMER.MSG.NEXT.") => Purpose::Pull,
        Some(_) => Purpose::Api,
        None => Purpose::Message,
    }
}

/// What follows `$JS.API.` or `$JS.<domain>.API.`.
fn api(subject: &[u8]) -> Option<&[u8]> {
    let rest = subject.strip_prefix(b"$JS.")?;
    rest.strip_prefix(b"API.").or_else(|| {
        let dot = memchr::memchr(b'.', rest)?;
        rest.get(dot.saturating_add(1)..)?.strip_prefix(b"API.")
    })
}

/// `$JS.API.CONSUMER.CREATE.>`: what is asked of JetStream, without what it is asked of.
pub(super) fn api_template(subject: &str) -> Option<String> {
    let mut out = String::new();
    for (at, word) in subject.split('.').enumerate() {
        if at > 0 {
            out.push('.');
        }
        // The second may be a domain's name.
        if at > 1 && !API.contains(&word) {
            out.push('>');
            return Some(out);
        }
        out.push_str(word);
    }
    None
}

/// Whether a subscription to `pattern` gets what is sent to `subject`.
pub(super) fn matches(pattern: &[u8], subject: &[u8]) -> bool {
    let mut words = subject.split(|b| *b == b'.');
    for part in pattern.split(|b| *b == b'.') {
        match (part, words.next()) {
            (b">", Some(_)) => return true,
            (b"*", Some(_)) => {}
            (part, Some(word)) if part == word => {}
            _ => return false,
        }
    }
    words.next().is_none()
}

/// Whether it stands for many.
pub(super) fn is_pattern(subject: &str) -> bool {
    subject.split('.').any(|word| matches!(word, "*" | ">"))
}

/// How clients begin the subjects that they are answered on.
pub(super) const INBOX: &[u8] = b"_INBOX.";
/// Words of JetStream's subjects that say what is asked.
const API: [&str; 27] = [
    "API", "INFO", "STREAM", "CONSUMER", "DIRECT", "META", "ACCOUNT", "SERVER", "CREATE", "UPDATE",
    "DELETE", "PURGE", "NAMES", "LIST", "MSG", "GET", "NEXT", "DURABLE", "SNAPSHOT", "RESTORE",
    "LEADER", "STEPDOWN", "PEER", "REMOVE", "PAUSE", "UNPIN", "MOVE",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subjects_have_purposes() {
        for (subject, expected) in [
            ("orders.new", Purpose::Message),
            ("$KV.bucket.key", Purpose::Message),
            ("_INBOX.a.b", Purpose::Answer),
            ("$JS.ACK.S.c.1.1.1.1.0", Purpose::Acknowledgement),
            ("$JS.FC.S.c.x", Purpose::Flow),
            ("$JS.API.CONSUMER.MSG.NEXT.S.c", Purpose::Pull),
            ("$JS.hub.API.CONSUMER.MSG.NEXT.S.c", Purpose::Pull),
            ("$JS.API.STREAM.INFO.S", Purpose::Api),
            ("$JS.EVENT.x", Purpose::Message),
        ] {
            assert_eq!(purpose(subject.as_bytes()), expected, "{subject}");
        }
    }

    #[test]
    fn what_is_asked_of_jetstream_is_named_by_its_verb() {
        for (subject, expected) in [
            ("$JS.API.INFO", None),
            ("$JS.API.STREAM.CREATE.S", Some("$JS.API.STREAM.CREATE.>")),
            (
                "$JS.API.CONSUMER.CREATE.S.x.a.b",
                Some("$JS.API.CONSUMER.CREATE.>"),
            ),
            (
                "$JS.API.DIRECT.GET.KV_b.$KV.b.k",
                Some("$JS.API.DIRECT.GET.>"),
            ),
            ("$JS.hub.API.STREAM.NAMES", None),
        ] {
            assert_eq!(api_template(subject).as_deref(), expected, "{subject}");
        }
    }

    #[test]
    fn patterns_match() {
        for (pattern, subject, expected) in [
            ("a.b", "a.b", true),
            ("a.b", "a.b.c", false),
            ("a.*", "a.b", true),
            ("a.*", "a", false),
            ("a.*.c", "a.b.c", true),
            ("a.>", "a.b.c", true),
            ("a.>", "a", false),
            (">", "a", true),
        ] {
            let got = matches(pattern.as_bytes(), subject.as_bytes());
            assert_eq!(got, expected, "{pattern} {subject}");
        }
    }
}
