//! From what was typed about OTLP to where requests go, by the rules of the OTLP exporter
//! specification: the base URL gets the signal's path for HTTP, the signal's own URL is taken as it
//! is, and a scheme decides about TLS. Nothing here resolves names or opens files.

use super::endpoint::shown;
use super::setting::{Origin, OtlpDraft};
use super::{Otlp, Protocol};

/// A signal's own URL and path, and where the two kinds of URL came from.
pub struct Sources<'a> {
    /// The URL of the signal, used as it is.
    pub own: Option<&'a str>,
    /// The path of the signal.
    pub path: &'static str,
    /// Where the base URL came from.
    pub base: &'a Origin,
    /// Where the signal's came from.
    pub signal: &'a Origin,
}

/// The path of spans.
pub const TRACES: &str = "/v1/traces";
/// The path of the agent's counters.
pub const METRICS: &str = "/v1/metrics";

/// Finishes the draft. What is odd but usable goes to `warnings`.
pub fn finish(
    draft: &OtlpDraft,
    from: &Sources<'_>,
    warnings: &mut Vec<String>,
) -> Result<Otlp, String> {
    if draft.client_certificate.is_some() != draft.client_key.is_some() {
        return Err("export.otlp.client_certificate and export.otlp.client_key go together".into());
    }
    Ok(Otlp {
        endpoint: endpoint(draft, from, warnings)?,
        protocol: draft.protocol,
        headers: draft.headers.clone(),
        gzip: draft.gzip,
        timeout: draft.timeout,
        certificate: draft.certificate.clone(),
        client_certificate: draft.client_certificate.clone(),
        client_key: draft.client_key.clone(),
    })
}

fn endpoint(
    draft: &OtlpDraft,
    from: &Sources<'_>,
    warnings: &mut Vec<String>,
) -> Result<String, String> {
    // A flag for the base URL is stronger than a variable for the signal's; within one layer the
    // signal's own goes first.
    let stronger = draft.endpoint.is_none() || from.signal.layer() >= from.base.layer();
    let own = from.own.filter(|_| stronger);
    match (draft.protocol, own, draft.endpoint.as_deref()) {
        (Protocol::HttpProtobuf, Some(url), _) => http(url, None, warnings),
        (Protocol::HttpProtobuf, None, Some(url)) => http(url, Some(from.path), warnings),
        (Protocol::HttpProtobuf, None, None) => Ok(format!("http://localhost:4318{}", from.path)),
        (Protocol::Grpc, None, None) => Ok("http://localhost:4317".into()),
        (Protocol::Grpc, Some(url), _) | (Protocol::Grpc, None, Some(url)) => {
            grpc(url, draft.insecure, warnings)
        }
    }
}

/// `add` is the path that goes behind a base URL.
fn http(url: &str, add: Option<&str>, warnings: &mut Vec<String>) -> Result<String, String> {
    let url = match scheme(url) {
        Some(("http" | "https", _)) => url.to_owned(),
        Some((other, _)) => {
            return Err(format!(
                "`{}`: OTLP over HTTP cannot use `{other}:`",
                shown(url)
            ));
        }
        None => {
            warnings.push(format!(
                "OTLP endpoint `{}` has no scheme; taken as http",
                shown(url)
            ));
            format!("http://{url}")
        }
    };
    let (_, rest) = scheme(&url).unwrap_or(("", ""));
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    authority_is_right(authority, &url)?;
    let after = rest.get(authority.len()..).unwrap_or_default();
    let path = after.split(['?', '#']).next().unwrap_or_default();
    let query = after.get(path.len()..).unwrap_or_default();
    let head = url.get(..url.len() - after.len()).unwrap_or_default();
    let Some(add) = add else {
        let path = if path.is_empty() { "/" } else { path };
        return Ok(format!("{head}{path}{query}"));
    };
    if path.ends_with(add) {
        warnings.push(format!(
            "OTLP endpoint `{}` is a base to which {add} is added; give the full URL as \
             the endpoint of the signal",
            shown(&url)
        ));
    }
    Ok(format!("{head}{}{add}{query}", path.trim_end_matches('/')))
}

fn grpc(target: &str, insecure: bool, warnings: &mut Vec<String>) -> Result<String, String> {
    let (scheme, rest) = match scheme(target) {
        Some((scheme @ ("http" | "https"), rest)) => (Some(scheme), rest),
        Some(("dns", rest)) => (None, rest.trim_start_matches('/')),
        Some((other, _)) => {
            return Err(format!(
                "`{}`: OTLP over gRPC cannot use `{other}:`",
                shown(target)
            ));
        }
        None => (None, target),
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    authority_is_right(authority, target)?;
    let after = rest.get(authority.len()..).unwrap_or_default();
    if !matches!(after, "" | "/") {
        warnings.push(format!(
            "OTLP endpoint `{}`: gRPC has no use for its path or query",
            shown(target)
        ));
    }
    let plain = if insecure { "http" } else { "https" };
    match scheme {
        Some(scheme) => Ok(format!("{scheme}://{authority}")),
        None if has_port(authority) => Ok(format!("{plain}://{authority}")),
        None => Ok(format!("{plain}://{authority}:4317")),
    }
}

/// A URL's scheme and what follows `://` (for `dns:host`, what follows the colon).
fn scheme(url: &str) -> Option<(&str, &str)> {
    match url.split_once("://") {
        Some((scheme, rest)) => Some((scheme, rest)),
        None => url
            .split_once(':')
            .filter(|(scheme, _)| matches!(*scheme, "dns" | "unix" | "unix-abstract" | "xds")),
    }
}

fn has_port(authority: &str) -> bool {
    let after_brackets = authority.rsplit(']').next().unwrap_or(authority);
    after_brackets.contains(':')
}

fn authority_is_right(authority: &str, url: &str) -> Result<(), String> {
    let host = authority.rsplit('@').next().unwrap_or(authority);
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if !port.ends_with(']') => (name, Some(port)),
        _ => (host, None),
    };
    let named = !name.is_empty() && !name.contains(char::is_whitespace);
    let ported = port.is_none_or(|p| p.parse::<u16>().is_ok());
    match named && ported {
        true => Ok(()),
        false => Err(format!(
            "`{}` is not the address of an OTLP receiver",
            shown(url)
        )),
    }
}
