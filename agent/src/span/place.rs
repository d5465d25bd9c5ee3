//! Where an exchange took place: addresses, ports and URLs, as each side says them of itself and of the
//! other.

use std::borrow::Cow;
use std::net::IpAddr;

use super::build::{Facts, text};
use super::semconv;
use crate::event::{Address, Role};
use crate::exchange::Peer;
use crate::protocol::{Attribute, Attributes, Value};

/// What a request may say of the place.
#[derive(Clone, Copy, Debug)]
pub(super) struct Said {
    /// Whether a URL was asked for.
    pub(super) url: bool,
    /// Whether who sits at the socket's other end says for which client it asks.
    pub(super) client: bool,
}

/// Addresses and URLs: what each side says of itself and of the other.
pub(super) fn sides(facts: &mut Facts, peer: &Peer, request: &mut Attributes, said: Said) {
    match (&peer.local, &peer.remote) {
        (_, Address::Inet(remote)) => {
            let transport = if peer.datagrams { "udp" } else { "tcp" };
            facts.put(semconv::NETWORK_TRANSPORT, text(transport));
            let ip = remote.ip().to_canonical();
            facts.put(
                semconv::NETWORK_TYPE,
                text(if ip.is_ipv4() { "ipv4" } else { "ipv6" }),
            );
        }
        (_, Address::Unix(_)) => facts.put(semconv::NETWORK_TRANSPORT, text("unix")),
    }
    let named = said.client && string(request, semconv::CLIENT_ADDRESS).is_some();
    if !named {
        // The socket's peer, whatever X-Forwarded-For claims: that header is anyone's.
        request.retain(|a| a.key != semconv::CLIENT_ADDRESS && a.key != semconv::CLIENT_PORT);
    }
    let client = peer.role == Role::Server && !named;
    if let Some(address) = address(&peer.remote) {
        if client {
            facts.put(semconv::CLIENT_ADDRESS, Value::Str(address.clone().into()));
        }
        facts.put(semconv::NETWORK_PEER_ADDRESS, Value::Str(address.into()));
    }
    if let Some(port) = port(&peer.remote) {
        facts.put_port(semconv::NETWORK_PEER_PORT, port);
        if client {
            facts.put_port(semconv::CLIENT_PORT, port);
        }
    }
    match peer.role {
        Role::Server => server_place(request, &peer.local, false),
        // The whole URL was sent to a proxy: the socket's end is not who was asked.
        Role::Client if string(request, semconv::URL_FULL).is_some() => {
            request.retain(|a| a.key != semconv::URL_PATH && a.key != semconv::URL_QUERY);
        }
        Role::Client => {
            server_place(request, &peer.remote, true);
            if said.url {
                full_url(request);
            }
        }
    }
}

/// `server.address` and `server.port`: the name the client used, while it goes with the socket's
/// port; else the socket's. A proxy that passes its own Host on did not call itself.
fn server_place(request: &mut Attributes, socket: &Address, client: bool) {
    let named = string(request, semconv::SERVER_ADDRESS).is_some();
    let said = match find(request, semconv::SERVER_PORT) {
        Some(Value::Int(port)) => u16::try_from(*port).ok(),
        _ => None,
    };
    let Some(port) = port(socket) else {
        // A unix socket: its path only where no name was used.
        if let (false, Some(address)) = (named, address(socket)) {
            push(request, semconv::SERVER_ADDRESS, Value::Str(address.into()));
        }
        return;
    };
    let usual = string(request, semconv::URL_SCHEME).and_then(default_port);
    // Without a path it is a CONNECT, which names somebody else by its nature.
    let differs = client && said != Some(port) && string(request, semconv::URL_PATH).is_some();
    // A name without a port of its own goes with any.
    let elsewhere = differs && said.is_some() && said != usual;
    if (!named || elsewhere)
        && let Some(address) = address(socket)
    {
        replace(request, semconv::SERVER_ADDRESS, Value::Str(address.into()));
    }
    if said.is_none() || differs {
        replace(request, semconv::SERVER_PORT, Value::Int(port.into()));
    }
}

/// A client span has `url.full` where a server span has its parts.
fn full_url(request: &mut Attributes) {
    // Without a scheme there is no URL: the parts stay.
    let Some(scheme) = string(request, semconv::URL_SCHEME) else {
        return;
    };
    let host = string(request, semconv::SERVER_ADDRESS).unwrap_or_default();
    let path = string(request, semconv::URL_PATH).unwrap_or_default();
    let port = match find(request, semconv::SERVER_PORT) {
        Some(Value::Int(port)) if default_port(scheme).map(i64::from) != Some(*port) => Some(*port),
        _ => None,
    };
    let mut url = String::with_capacity(path.len().saturating_add(64));
    url.push_str(scheme);
    url.push_str("://");
    let bare = host.contains(':') && !host.starts_with('[');
    if bare {
        url.push('[');
    }
    url.push_str(host);
    if bare {
        url.push(']');
    }
    if let Some(port) = port {
        url.push(':');
        url.push_str(&port.to_string());
    }
    if path.starts_with('/') {
        url.push_str(path);
    }
    if let Some(query) = string(request, semconv::URL_QUERY) {
        url.push('?');
        url.push_str(query);
    }
    request.retain(|a| a.key != semconv::URL_PATH && a.key != semconv::URL_QUERY);
    push(request, semconv::URL_FULL, Value::Str(url.into()));
}

fn default_port(scheme: &str) -> Option<u16> {
    match scheme {
        "http" | "ws" => Some(80),
        "https" | "wss" => Some(443),
        _ => None,
    }
}

fn address(of: &Address) -> Option<String> {
    match of {
        // A UDP socket that is not connected has no peer.
        Address::Inet(socket) if socket.port() == 0 => None,
        Address::Inet(socket) => Some(match socket.ip().to_canonical() {
            IpAddr::V4(ip) => v4(ip.octets()),
            IpAddr::V6(ip) => ip.to_string(),
        }),
        Address::Unix(path) => path.clone(),
    }
}

/// As `Display` writes it, without its formatter: every span has at least one.
pub(super) fn v4(octets: [u8; 4]) -> String {
    let mut text = String::with_capacity(15);
    for octet in octets {
        if !text.is_empty() {
            text.push('.');
        }
        let (hundreds, tens) = (octet / 100, octet / 10 % 10);
        if hundreds > 0 {
            text.push(char::from(b'0' | hundreds));
        }
        if hundreds > 0 || tens > 0 {
            text.push(char::from(b'0' | tens));
        }
        text.push(char::from(b'0' | (octet % 10)));
    }
    text
}

fn port(of: &Address) -> Option<u16> {
    match of {
        Address::Inet(socket) => Some(socket.port()).filter(|port| *port != 0),
        Address::Unix(_) => None,
    }
}

pub(super) fn find<'a>(attributes: &'a Attributes, key: &str) -> Option<&'a Value> {
    attributes.iter().find(|a| a.key == key).map(|a| &a.value)
}

pub(super) fn string<'a>(attributes: &'a Attributes, key: &str) -> Option<&'a str> {
    match find(attributes, key) {
        Some(Value::Str(value)) => Some(value),
        _ => None,
    }
}

pub(super) fn push(attributes: &mut Attributes, key: &'static str, value: Value) {
    let key = Cow::Borrowed(key);
    attributes.push(Attribute { key, value });
}

fn replace(attributes: &mut Attributes, key: &'static str, value: Value) {
    match attributes.iter_mut().find(|a| a.key == key) {
        Some(known) => known.value = value,
        None => push(attributes, key, value),
    }
}
