//! What two hellos agreed on, and the table in which the plaintext's side finds it.
//!
//! A TLS session's plaintext is a connection of its own, whose records may come through another
//! ring than those of the socket that carries it: the table is shared, and locked for a look-up.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::hello::{ClientHello, ServerHello};
use super::names::{self, Version};
use crate::connection::Table;
use crate::event::ConnectionId;
use crate::protocol::{Attribute, Attributes};
use crate::stats::Stats;

/// What is known of a connection once both hellos have passed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handshake {
    /// The version in use.
    pub version: Version,
    /// The cipher suite's number; [`names::cipher`] names it.
    pub cipher: u16,
    /// Whom the client wanted to talk to.
    pub server_name: Option<Box<str>>,
    /// Protocols the client offered to speak inside.
    pub alpn_offered: Vec<Box<str>>,
    /// The one the server chose, where that is not encrypted itself (up to TLS 1.2).
    pub alpn: Option<Box<str>>,
}

impl Handshake {
    /// Of a server's hello and, where it was seen, the client's.
    pub fn new(client: Option<ClientHello>, server: ServerHello) -> Self {
        let client = client.unwrap_or_default();
        Self {
            version: server.version,
            cipher: server.cipher,
            server_name: client.server_name,
            alpn_offered: client.alpn,
            alpn: server.alpn,
        }
    }

    /// Adds what a span of the plaintext says of its encryption: `tls.protocol.name` (`tls`),
    /// `tls.protocol.version` (`1.3`), `tls.cipher` (IANA's name), `tls.next_protocol`; and
    /// `server.address` from the server's name, where nothing better is known. Source: semantic
    /// conventions 1.42.0, registry `tls`, where `tls.client.server_name` has become
    /// `server.address`.
    pub fn describe(&self, attributes: &mut Attributes) {
        version(self.version, attributes);
        add(attributes, "tls.cipher", &names::cipher(self.cipher));
        if let Some(alpn) = &self.alpn {
            add(attributes, "tls.next_protocol", alpn);
        }
        if let Some(name) = &self.server_name {
            add(attributes, "server.address", name);
        }
    }
}

/// Adds a version's name and number.
pub fn version(version: Version, attributes: &mut Attributes) {
    add(attributes, "tls.protocol.name", version.name());
    add(attributes, "tls.protocol.version", &version.number());
}

/// Adds an attribute that is not there.
pub fn add(attributes: &mut Attributes, key: &'static str, value: &str) {
    if attributes.iter().all(|known| known.key != key) {
        attributes.push(Attribute::text(key, value.to_owned()));
    }
}

/// The handshakes of all shards' connections, by the socket's connection. Bounded: past
/// `MAX_HANDSHAKES` one that was not looked up for long is forgotten; counted, while it is in use.
#[derive(Debug)]
pub struct Handshakes(Mutex<Table<Known>>);

#[derive(Debug)]
struct Known {
    handshake: Arc<Handshake>,
    /// Whether the socket is gone. Spans of what passed on it may still come.
    gone: bool,
}

/// About 16 MiB where every name is as long as can be, 4 MiB of usual ones.
const MAX_HANDSHAKES: usize = 16_384;

impl Default for Handshakes {
    fn default() -> Self {
        Self::new(MAX_HANDSHAKES)
    }
}

impl Handshakes {
    /// A table of at most so many.
    pub fn new(most: usize) -> Self {
        Self(Mutex::new(Table::new(most)))
    }

    /// Keeps what was agreed on a connection.
    pub fn insert(&self, connection: ConnectionId, handshake: Arc<Handshake>, stats: &Stats) {
        let known = Known {
            handshake,
            gone: false,
        };
        let evicted = self.lock().insert(connection, known);
        if evicted.is_some_and(|(old, known)| old != connection && !known.gone) {
            stats.protocol_handshakes_evicted.add(1);
        }
    }

    /// What was agreed on a connection: to be asked with the socket's, which a session of
    /// plaintext names as its carrier. `None` where the hellos were not seen, or not yet.
    pub fn get(&self, carrier: ConnectionId) -> Option<Arc<Handshake>> {
        let mut known = self.lock();
        known.get(carrier).map(|known| Arc::clone(&known.handshake))
    }

    /// The socket is gone: its handshake may be forgotten for others.
    pub fn gone(&self, connection: ConnectionId) {
        if let Some(known) = self.lock().get(connection) {
            known.gone = true;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Table<Known>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::Value;

    fn handshake() -> Handshake {
        Handshake {
            version: Version(0x0303),
            cipher: 0xC02F,
            server_name: Some("shop.test".into()),
            alpn_offered: vec!["h2".into(), "http/1.1".into()],
            alpn: Some("h2".into()),
        }
    }

    #[test]
    fn a_span_is_told_what_it_does_not_say_itself() {
        let said = |attributes: &Attributes| -> Vec<String> {
            let show = |a: &Attribute| match &a.value {
                Value::Str(text) => format!("{}={text}", a.key),
                other => panic!("{other:?}"),
            };
            attributes.iter().map(show).collect()
        };
        let mut attributes = Vec::new();
        handshake().describe(&mut attributes);
        let all = [
            "tls.protocol.name=tls",
            "tls.protocol.version=1.2",
            "tls.cipher=TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
            "tls.next_protocol=h2",
            "server.address=shop.test",
        ];
        assert_eq!(said(&attributes), all);
        let mut attributes = vec![Attribute::fixed("server.address", "host.header")];
        handshake().describe(&mut attributes);
        assert_eq!(said(&attributes)[0], "server.address=host.header");
        assert_eq!(attributes.len(), all.len());
    }

    #[test]
    fn the_table_is_bounded() {
        let (table, stats) = (Handshakes::new(4), Stats::default());
        let one = Arc::new(handshake());
        for id in 0..10 {
            table.insert(ConnectionId(id), Arc::clone(&one), &stats);
            table.insert(ConnectionId(id), Arc::clone(&one), &stats);
            assert_eq!(table.get(ConnectionId(id)).as_deref(), Some(&*one));
        }
        assert_eq!(stats.protocol_handshakes_evicted.get(), 6);
        let known = (0..10).filter(|id| table.get(ConnectionId(*id)).is_some());
        assert_eq!(known.count(), 4);
        assert_eq!(table.get(ConnectionId(99)), None);
        for id in 0..10 {
            table.gone(ConnectionId(id));
        }
        for id in 10..14 {
            table.insert(ConnectionId(id), Arc::clone(&one), &stats);
        }
        assert_eq!(stats.protocol_handshakes_evicted.get(), 6);
    }
}
