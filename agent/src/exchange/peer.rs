//! What is known of the connection of exchanges.

use crate::event::{Address, ConnectionId, Role, StreamKey};
use crate::protocol::Flow;

/// What is known of the connection an exchange happened on; shared by all of them.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Which connection end.
    pub connection: ConnectionId,
    /// This end.
    pub local: Address,
    /// The other end.
    pub remote: Address,
    /// Who we are in the dialogue (by content where the kernel did not say).
    pub role: Role,
    /// The connection's name on both ends.
    pub key: Option<StreamKey>,
    /// Whether offsets on it mean the same on both ends.
    pub shares_offsets: bool,
    /// As in [`Open::line`](crate::event::Open::line).
    pub line: u64,
    /// The connection that carries it, where it is a TLS session.
    pub carrier: Option<ConnectionId>,
    /// Whether it is of UDP.
    pub datagrams: bool,
    /// Whether the other end is the receiver that spans are exported to: what it is sent makes none.
    pub receiver: bool,
}

impl Peer {
    /// Where on the wire a message begins that begins at an offset of what a process sent.
    pub(super) fn on_the_wire(&self, flow: Flow, offset: u64) -> u64 {
        let sent = (flow == Flow::Request) == (self.role == Role::Client);
        if sent && offset > 0 {
            offset + self.line
        } else {
            offset
        }
    }

    /// Whether the other end is surely on this host.
    pub fn is_near(&self) -> bool {
        match (&self.local, &self.remote) {
            (Address::Inet(local), Address::Inet(remote)) => {
                let (local, remote) = (local.ip().to_canonical(), remote.ip().to_canonical());
                local == remote || remote.is_loopback()
            }
            _ => true,
        }
    }
}
