//! Names of the attributes that spans get or are looked at for whatever their protocol; those of one
//! protocol stand with it. Those without the `spantap.` prefix are OpenTelemetry's.
//! Source: <https://github.com/open-telemetry/semantic-conventions>, version 1.42.0, as generated
//! into the crate opentelemetry-semantic-conventions 0.33.1.

/// Schema URL of the version followed.
pub const SCHEMA_URL: &str = "https://opentelemetry.io/schemas/1.42.0";

/// Client's address, as the server's socket has it.
pub const CLIENT_ADDRESS: &str = "client.address";
/// Client's port.
pub const CLIENT_PORT: &str = "client.port";
/// Class of error.
pub const ERROR_TYPE: &str = "error.type";
/// Bytes of request body on the wire.
pub const HTTP_REQUEST_BODY_SIZE: &str = "http.request.body.size";
/// Prefix of recorded request headers.
pub const HTTP_REQUEST_HEADER: &str = "http.request.header.";
/// Method, or `_OTHER`.
pub const HTTP_REQUEST_METHOD: &str = "http.request.method";
/// Method as sent, where it is not a known one.
pub const HTTP_REQUEST_METHOD_ORIGINAL: &str = "http.request.method_original";
/// Bytes of response body on the wire.
pub const HTTP_RESPONSE_BODY_SIZE: &str = "http.response.body.size";
/// Prefix of recorded response headers.
pub const HTTP_RESPONSE_HEADER: &str = "http.response.header.";
/// Status code.
pub const HTTP_RESPONSE_STATUS_CODE: &str = "http.response.status_code";
/// How a call of gRPC went, by name.
pub const RPC_RESPONSE_STATUS_CODE: &str = "rpc.response.status_code";
/// The store's own code: SQLSTATE, an error's number, an error's first word.
pub const DB_RESPONSE_STATUS_CODE: &str = "db.response.status_code";
/// Route of a server span: low in cardinality.
pub const HTTP_ROUTE: &str = "http.route";
/// Peer's address on the socket.
pub const NETWORK_PEER_ADDRESS: &str = "network.peer.address";
/// Peer's port on the socket.
pub const NETWORK_PEER_PORT: &str = "network.peer.port";
/// `http`.
pub const NETWORK_PROTOCOL_NAME: &str = "network.protocol.name";
/// `1.1`.
pub const NETWORK_PROTOCOL_VERSION: &str = "network.protocol.version";
/// `tcp`, `udp` or `unix`.
pub const NETWORK_TRANSPORT: &str = "network.transport";
/// `ipv4` or `ipv6`.
pub const NETWORK_TYPE: &str = "network.type";
/// Who was asked: name, else address.
pub const SERVER_ADDRESS: &str = "server.address";
/// Port that was asked.
pub const SERVER_PORT: &str = "server.port";
/// `service.name` of who was asked.
pub const SERVICE_PEER_NAME: &str = "service.peer.name";
/// `service.namespace` of who was asked.
pub const SERVICE_PEER_NAMESPACE: &str = "service.peer.namespace";
/// Whole URL, client spans.
pub const URL_FULL: &str = "url.full";
/// Path.
pub const URL_PATH: &str = "url.path";
/// Query without `?`.
pub const URL_QUERY: &str = "url.query";
/// Scheme.
pub const URL_SCHEME: &str = "url.scheme";
/// Route of a client span: low in cardinality.
pub const URL_TEMPLATE: &str = "url.template";
/// User agent as sent.
pub const USER_AGENT_ORIGINAL: &str = "user_agent.original";

/// Why the span has its parent: [`crate::trace::Method::name`].
pub const LINK_METHOD: &str = "spantap.link.method";
/// 0 to 1; 1 is exact.
pub const LINK_CONFIDENCE: &str = "spantap.link.confidence";
/// Seconds from the request's first byte to the response's.
pub const TIME_TO_FIRST_BYTE: &str = "spantap.time_to_first_byte";
/// False where bytes or the end of the exchange were not seen; absent otherwise.
pub const COMPLETE: &str = "spantap.complete";
/// True where fields of a head are not known, as they point to what was said before the agent came.
pub const PARTIAL: &str = "spantap.partial";
/// Names of shapes that break the protocol in a way that matters.
pub const SUSPICIOUS: &str = "spantap.suspicious";
/// Where the bytes stopped making sense.
pub const MALFORMED: &str = "spantap.malformed";
/// The exchange ended by leaving its protocol (101, CONNECT).
pub const UPGRADED: &str = "spantap.upgraded";

/// Nothing moved for the configured time.
pub const EVENT_TIMEOUT: &str = "spantap.timeout";
/// The connection was reset.
pub const EVENT_RESET: &str = "spantap.reset";
/// The connection ended before the exchange did.
pub const EVENT_CLOSED: &str = "spantap.closed";

/// `spantap.missing.*`: bytes of this exchange that were not captured, by cause.
pub fn missing(cause: crate::event::Hole) -> &'static str {
    use crate::event::Hole;
    match cause {
        Hole::Budget => "spantap.missing.budget",
        Hole::NoBuffer | Hole::Supposed => "spantap.missing.no_buffer",
        Hole::Fault => "spantap.missing.fault",
        Hole::Compat => "spantap.missing.compat",
        Hole::Iovecs => "spantap.missing.iovecs",
        Hole::Lost => "spantap.missing.lost",
        Hole::Unseen => "spantap.missing.unseen",
    }
}
