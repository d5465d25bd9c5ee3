//! Parameters: names and values as CGI has them (RFC 3875, 4.1), which say of a request what its head
//! said to the web server.
//!
//! Never true here: that a name whose value may be another's is used where parameters are missing.

use std::borrow::Cow;
use std::net::IpAddr;

use super::NAME;
use crate::config;
use crate::event::Role;
use crate::protocol::http::{self, Line};
use crate::protocol::reader::Reader;
use crate::protocol::{Attribute, Request};
use crate::stats::Stats;

/// Reads a request's parameters; `whole`: they are all it has. Returns whether they could be read to
/// their end, too.
pub fn request(
    bytes: &[u8],
    whole: bool,
    role: Role,
    config: (&config::Http, usize),
    stats: &Stats,
) -> (Request, bool) {
    let mut reader = Reader::new(bytes);
    let mut params = Params::default();
    while let Some((name, value)) = pair(&mut reader) {
        params.take(name, value);
    }
    let whole = whole && reader.is_empty();
    let target = params.target(whole);
    let host = params.host(role, whole);
    let line = Line {
        method: params.method,
        target: target.as_deref(),
        version: "1.0",
        scheme: params.scheme(whole),
    };
    let host = host.as_deref().map(|host| ("host", host.as_bytes()));
    let fields = params.fields.iter();
    let fields = fields.map(|(name, value)| (name.as_str(), *value));
    let fields = fields.filter(|(name, _)| whole || !is_forwarding(name));
    let headers = host.into_iter().chain(fields);
    let mut request = http::request(NAME, line, headers, role, config, stats);
    // Who sits at the socket says for whom it asks.
    let own = |a: &Attribute| !matches!(&*a.key, "client.address" | "client.port");
    request.attributes.retain(own);
    if role == Role::Server
        && let Some(client) = params.client
    {
        let address = Attribute::text("client.address", client.to_canonical().to_string());
        request.attributes.push(address);
        let port = params.client_port.filter(|port| *port != 0);
        let port = port.map(|port| Attribute::int("client.port", port.into()));
        request.attributes.extend(port);
    }
    (request, whole)
}

/// A name and its value (FastCGI specification 1.0, section 3.4).
fn pair<'a>(reader: &mut Reader<'a>) -> Option<(&'a [u8], &'a [u8])> {
    let mut ahead = *reader;
    let (name, value) = (length(&mut ahead)?, length(&mut ahead)?);
    let pair = (ahead.take(name)?, ahead.take(value)?);
    *reader = ahead;
    Some(pair)
}

/// One byte, or four where the highest bit is set.
fn length(reader: &mut Reader<'_>) -> Option<usize> {
    let first = *reader.rest().first()?;
    if first < 0x80 {
        return reader.u8().map(usize::from);
    }
    let length = reader.u32()? & 0x7fff_ffff;
    usize::try_from(length).ok()
}

/// Where a gateway of the web server's own may say otherwise of whom was asked.
fn is_forwarding(name: &str) -> bool {
    name == "forwarded" || name.starts_with("x-forwarded-")
}

/// Parameters that mean something here.
#[derive(Debug, Default)]
struct Params<'a> {
    method: Option<&'a str>,
    uri: Option<&'a str>,
    /// DOCUMENT_URI, as nginx has it.
    document: Option<&'a str>,
    script: Option<&'a str>,
    path_info: Option<&'a str>,
    query: Option<&'a str>,
    scheme: Option<&'a str>,
    https: Option<&'a str>,
    host: Option<&'a str>,
    server: Option<&'a str>,
    port: Option<&'a str>,
    client: Option<IpAddr>,
    client_port: Option<u16>,
    /// Headers but for Host, by their names on the wire of HTTP.
    fields: Vec<(String, &'a [u8])>,
}

impl<'a> Params<'a> {
    fn take(&mut self, name: &[u8], value: &'a [u8]) {
        let text = std::str::from_utf8(value).ok();
        let slot = match name {
            b"REQUEST_METHOD" => &mut self.method,
            b"REQUEST_URI" => &mut self.uri,
            b"DOCUMENT_URI" => &mut self.document,
            b"SCRIPT_NAME" => &mut self.script,
            b"PATH_INFO" => &mut self.path_info,
            b"QUERY_STRING" => &mut self.query,
            b"REQUEST_SCHEME" => &mut self.scheme,
            b"HTTPS" => &mut self.https,
            b"HTTP_HOST" => &mut self.host,
            b"SERVER_NAME" => &mut self.server,
            b"SERVER_PORT" => &mut self.port,
            b"REMOTE_ADDR" => {
                self.client = text.and_then(|text| text.parse().ok());
                return;
            }
            b"REMOTE_PORT" => {
                self.client_port = text.and_then(|text| text.parse().ok());
                return;
            }
            // CGI leaves out the prefix of these two (RFC 3875, 4.1.2 and 4.1.3); some say both.
            b"CONTENT_TYPE" | b"CONTENT_LENGTH" => return self.field(name, value),
            b"HTTP_CONTENT_TYPE" | b"HTTP_CONTENT_LENGTH" => return,
            _ => {
                if let Some(name) = name.strip_prefix(b"HTTP_") {
                    self.field(name, value);
                }
                return;
            }
        };
        *slot = text.filter(|text| !text.is_empty());
    }

    /// A header (RFC 3875, 4.1.18).
    fn field(&mut self, name: &[u8], value: &'a [u8]) {
        let plain = |b: &u8| match b {
            b'_' => '-',
            other => char::from(other.to_ascii_lowercase()),
        };
        if !value.is_empty() {
            self.fields.push((name.iter().map(plain).collect(), value));
        }
    }

    /// What was asked for. Without REQUEST_URI, which is no CGI but usual, it is put together.
    fn target(&self, whole: bool) -> Option<Cow<'a, str>> {
        if let Some(uri) = self.uri {
            return Some(Cow::Borrowed(uri));
        }
        if !whole {
            return None;
        }
        let path = match self.document {
            Some(document) => document.to_owned(),
            None => {
                let both = [self.script, self.path_info];
                both.into_iter().flatten().collect()
            }
        };
        if path.is_empty() {
            return None;
        }
        Some(Cow::Owned(match self.query {
            Some(query) => format!("{path}?{query}"),
            None => path,
        }))
    }

    /// By whose name the web server was asked. The web server itself asks by a socket alone.
    fn host(&self, role: Role, whole: bool) -> Option<Cow<'a, str>> {
        if role == Role::Client || !whole {
            return None;
        }
        if let Some(host) = self.host {
            return Some(Cow::Borrowed(host));
        }
        // What nginx calls a server that has no name.
        let name = self.server.filter(|name| *name != "_")?;
        Some(match self.port {
            Some(port) if !name.contains(':') => Cow::Owned(format!("{name}:{port}")),
            _ => Cow::Borrowed(name),
        })
    }

    fn scheme(&self, whole: bool) -> Option<&'static str> {
        if !whole {
            return None;
        }
        let secure = match (self.scheme, self.https) {
            (Some(scheme), _) => scheme.eq_ignore_ascii_case("https"),
            (None, Some(https)) => !https.eq_ignore_ascii_case("off"),
            (None, None) => false,
        };
        Some(if secure { "https" } else { "http" })
    }
}
