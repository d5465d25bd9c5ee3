//! JSON-RPC 2.0 over HTTP: which method was called, and how that went; and the Model Context Protocol,
//! which is JSON-RPC. Sources: <https://www.jsonrpc.org/specification>; MCP's transport,
//! <https://modelcontextprotocol.io/specification/2025-06-18/basic/transports>; attributes and names:
//! <https://opentelemetry.io/docs/specs/semconv/rpc/json-rpc/> and
//! <https://opentelemetry.io/docs/specs/semconv/gen-ai/mcp/> (1.42.0).
//!
//! The conventions leave `rpc.method` out by default where any name may be called (RPC spans, note 7),
//! since it may have any value. Here it is always told: nobody but the agent knows it, and what no answer
//! vouches for is `_OTHER`. Only a `result` under the request's id vouches, with a status of 2xx: servers
//! refuse what they do not have by any code (-32602 from those that look at parameters first), and an
//! error of a method's own looks the same. MCP's version of JSON-RPC is 2.0 always, and not told.
//!
//! Never true here: that parameters, results or an error's message are told; that a session's id is,
//! which lets its holder in; that a span is named by what the server did not call, but for a name that
//! MCP has given.

use std::borrow::Cow;

use super::document::{Documents, name};
use super::{Application, Head, Look, Said, Tap};
use crate::protocol::json::{EACH, Path, Reader, Value};
use crate::protocol::{Attribute, Flow};

/// The registry's entry.
pub const APPLICATION: &dyn Application = &JsonRpc;

#[derive(Debug)]
struct JsonRpc;

impl Application for JsonRpc {
    fn asked(&self, head: &Head<'_>) -> Option<Box<dyn Tap>> {
        let fits = head.method == "POST"
            && (head.is_json()
                || head.is_of("application/json-rpc")
                || head.is_of("application/jsonrequest"));
        if !fits {
            return None;
        }
        let version = head.field("mcp-protocol-version");
        let context = version.is_some() || head.field("mcp-session-id").is_some();
        Some(Box::new(Call {
            context,
            context_version: version.and_then(|text| name(Value::Text(text))),
            ..Call::new()
        }))
    }
}

/// What a request has, alone or in a batch; of the parameters what MCP's name.
const ASKED: &[Path] = &[
    &["jsonrpc"],
    &["method"],
    &["id"],
    &["params"],
    &["params", "name"],
    &["params", "protocolVersion"],
    &[EACH],
    &[EACH, "jsonrpc"],
    &[EACH, "method"],
    &[EACH, "id"],
    &[EACH, "params"],
];
/// What a response has.
const ANSWERED: &[Path] = &[
    &[],
    &["jsonrpc"],
    &["id"],
    &["result"],
    &["result", "isError"],
    &["error"],
    &["error", "code"],
    &[EACH, "jsonrpc"],
];
/// Where the result is among them.
const RESULT: usize = 3;
/// Bytes that are looked at of a request and of a response.
const REQUEST: u64 = 8 * 1024;
const RESPONSE: u64 = 64 * 1024;

/// One call, or a batch of them.
#[derive(Debug)]
struct Call {
    question: Reader,
    version: bool,
    method: Option<String>,
    /// Its id, be it null; a notification has none.
    id: Option<Id>,
    /// Calls in a batch, and those among them that say what they are.
    batch: u64,
    versions: u64,
    /// Whether it is MCP's, and of which version.
    context: bool,
    context_version: Option<String>,
    /// `params.name`: what is called or got.
    target: Option<String>,
    lost: bool,
    answer: Documents,
    /// Whether the answer has no body.
    silent: bool,
    /// Whether its status is that of a call that was made.
    served: bool,
    answered: bool,
    /// Of the document under way: whether it has a result, and whether its id is the request's, where it
    /// has come.
    result: bool,
    paired: Option<bool>,
    /// Whether a document has the result that was asked for.
    fulfilled: bool,
    /// Whether there is an error, and its code, if that is one.
    refused: bool,
    code: Option<String>,
    /// Whether the result is that of a tool that failed, or of none.
    failed: bool,
    /// How much of the answer was read.
    read: u64,
}

impl Call {
    fn new() -> Self {
        Self {
            question: Reader::strict(ASKED, MAX_TEXT),
            version: false,
            method: None,
            id: None,
            batch: 0,
            versions: 0,
            context: false,
            context_version: None,
            target: None,
            lost: false,
            answer: Documents::new(|| Reader::new(ANSWERED, MAX_TEXT)),
            silent: false,
            served: false,
            answered: false,
            result: false,
            paired: None,
            fulfilled: false,
            refused: false,
            code: None,
            failed: false,
            read: 0,
        }
    }

    fn ask(&mut self, bytes: &[u8]) -> Look {
        let mut refuted = false;
        self.question.read(bytes, |index, value| match index {
            0 => {
                self.version = value.text() == Some(VERSION);
                refuted |= !self.version;
            }
            1 => {
                self.method = name(value);
                refuted |= self.method.is_none();
            }
            2 => self.id = Some(Id::of(value)),
            4 => self.target = name(value),
            5 => self.context_version = self.context_version.take().or(name(value)),
            6 => {
                self.batch = self.batch.saturating_add(1);
                refuted |= value != Value::Object;
            }
            7 => {
                self.versions = self.versions.saturating_add(1);
                refuted |= value.text() != Some(VERSION);
            }
            _ => {}
        });
        match refuted || self.question.is_broken() {
            true => Look::Not,
            false => Look::More,
        }
    }

    fn answer(&mut self, bytes: &[u8]) -> Look {
        self.read = self.read.saturating_add(bytes.len() as u64);
        let more = self.answer.read(bytes, |index, value| match index {
            // Of an event stream each event is a document, and the last of them the answer.
            0 => (self.result, self.paired) = (false, self.id.is_none().then_some(true)),
            1 | 7 => self.answered |= value.text() == Some(VERSION),
            2 => {
                let id = Id::of(value);
                self.paired = Some(self.id.as_ref().map_or(id.is_null(), |own| *own == id));
                self.fulfilled |= self.result && self.paired == Some(true);
            }
            RESULT => {
                self.result = true;
                self.fulfilled |= self.paired == Some(true);
            }
            4 => self.failed |= value == Value::Bool(true),
            5 => self.refused |= value == Value::Object,
            6 => self.code = value.int().map(|code| code.to_string()),
            _ => {}
        });
        if more { Look::More } else { Look::Enough }
    }

    /// Whether it is a call, by both halves; a notification is answered by nothing.
    fn is_call(&self) -> bool {
        let asked = self.version && self.method.is_some();
        let batch = self.batch > 0 && self.versions == self.batch;
        let heard = self.id.is_none() && self.silent;
        !self.lost && (asked || batch) && (self.answered || heard)
    }

    /// Whether the answer has the result that was asked for; `cut`: whether there is more of it than was
    /// read, which may hold the id.
    fn is_vouched(&self, cut: bool) -> bool {
        let result = self.result || self.answer.is_within(RESULT);
        let unpaired = cut && result && self.paired != Some(false);
        self.served && !self.refused && (self.fulfilled || unpaired)
    }

    /// Whether the name is MCP's, and nobody says that there is no such method.
    fn is_given(&self, context: bool) -> bool {
        let code = self.code.as_deref();
        let denied = code.is_some_and(|code| NOT_CALLED.contains(&code));
        let method = self.method.as_deref();
        context && !denied && method.is_some_and(|method| MCP_METHODS.contains(&method))
    }

    /// `vouched`: whether the server has the method; `known`: and what the parameters name.
    fn tell(&mut self, vouched: bool, known: bool, said: &mut Said) {
        if !self.is_call() {
            return;
        }
        let asked = &mut said.asked;
        let initializes = self.method.as_deref() == Some("initialize");
        let context = self.context || initializes && self.context_version.is_some();
        let named = vouched || self.is_given(context);
        let failed = context && self.failed && self.method.as_deref() == Some(TOOL);
        if !context {
            asked.push(Attribute::fixed("rpc.system.name", "jsonrpc"));
            asked.push(Attribute::fixed("jsonrpc.protocol.version", VERSION));
        }
        if let Some(id) = self.id.take().and_then(Id::told) {
            asked.push(Attribute::text("jsonrpc.request.id", id));
        }
        said.name = Some(Cow::Borrowed("jsonrpc"));
        match self.method.take() {
            // Anything may stand there (RPC spans, `rpc.method`).
            Some(method) if !named => {
                let key = if context { MCP_METHOD } else { "rpc.method" };
                asked.push(Attribute::fixed(key, "_OTHER"));
                asked.push(Attribute::text("rpc.method_original", method));
            }
            Some(method) if context => said.name = Some(self.context(method, known, asked)),
            Some(method) => {
                said.name = Some(method.clone().into());
                asked.push(Attribute::text("rpc.method", method));
            }
            None => {
                let calls = i64::try_from(self.batch).unwrap_or(i64::MAX);
                asked.push(Attribute::int(BATCH, calls));
            }
        }
        // All errors are, and what a tool says of itself, on both sides.
        let code = self.code.take();
        let error = match &code {
            Some(code) => Some(Cow::Owned(code.clone())),
            None if self.refused => Some(Cow::Borrowed("_OTHER")),
            None => failed.then_some(Cow::Borrowed("tool_error")),
        };
        if let Some(error) = error {
            let response = said.answered.get_or_insert_default();
            let status = code.map(|code| Attribute::text("rpc.response.status_code", code));
            response.attributes.extend(status);
            response.client_error = Some(error.clone());
            response.server_error = Some(error);
        }
    }

    /// What MCP's conventions have; the span's name.
    fn context(
        &mut self,
        method: String,
        known: bool,
        asked: &mut crate::protocol::Attributes,
    ) -> Cow<'static, str> {
        let key = match method.as_str() {
            TOOL => Some("gen_ai.tool.name"),
            "prompts/get" => Some("gen_ai.prompt.name"),
            _ => None,
        };
        let mut span = method.clone();
        asked.push(Attribute::text(MCP_METHOD, method));
        if let Some(version) = self.context_version.take() {
            asked.push(Attribute::text("mcp.protocol.version", version));
        }
        if key == Some("gen_ai.tool.name") {
            asked.push(Attribute::fixed("gen_ai.operation.name", "execute_tool"));
        }
        if let (Some(key), Some(target)) = (key, self.target.take()) {
            if known {
                span = format!("{span} {target}");
            }
            asked.push(Attribute::text(key, target));
        }
        span.into()
    }
}

impl Tap for Call {
    fn answered(&mut self, head: &Head<'_>, _said: &mut Said) -> bool {
        let empty = head.field("content-length") == Some(b"0");
        self.silent = matches!(head.code, Some(202 | 204)) || empty && head.code == Some(200);
        self.served = matches!(head.code, Some(200..=299));
        self.context |= head.field("mcp-session-id").is_some();
        // A notification's answer has no body.
        self.answer.begin(head) || self.silent
    }

    fn budget(&self, flow: Flow) -> u64 {
        match flow {
            Flow::Request => REQUEST,
            Flow::Response if self.answer.is_stream() => u64::MAX,
            Flow::Response => RESPONSE,
        }
    }

    fn read(&mut self, flow: Flow, bytes: &[u8]) -> Look {
        match flow {
            Flow::Request => self.ask(bytes),
            Flow::Response => self.answer(bytes),
        }
    }

    fn end(&mut self, flow: Flow, whole: bool, said: &mut Said) {
        match flow {
            // A method that was read is called, whatever its parameters are; of a batch all count.
            Flow::Request => self.lost = !whole && self.method.is_none(),
            // A server answers a call of a tool that it does not have with any error, or with a
            // result that says so (MCP, tools, "Error Handling"); a long one is what a tool gave.
            Flow::Response => {
                let long = self.read >= RESPONSE;
                let vouched = self.is_vouched(long || !whole);
                let known = vouched && (whole || long) && !self.failed;
                self.tell(vouched, known, said);
            }
        }
    }

    fn weight(&self) -> usize {
        let texts = [&self.method, &self.context_version, &self.target];
        let each = texts.into_iter().flatten().map(String::capacity);
        let each = each.chain(self.id.as_ref().map(|id| id.0.capacity()));
        each.fold(self.answer.weight(), usize::saturating_add)
            .saturating_add(self.question.weight())
    }
}

/// An id, as it stands in JSON, but for a text's escapes and its last quote; of a long one the beginning.
#[derive(Debug, PartialEq, Eq)]
struct Id(Vec<u8>);

impl Id {
    fn of(value: Value<'_>) -> Self {
        Self(match value {
            Value::Text(text) | Value::Long(text) => [b"\"", text].concat(),
            Value::Number(number) => number.into(),
            Value::Bool(is) => is.to_string().into(),
            Value::Null => NULL.into(),
            // None that is allowed.
            Value::Object | Value::Array => Vec::new(),
        })
    }

    fn is_null(&self) -> bool {
        self.0 == NULL
    }

    /// As text, if it is one that is told.
    fn told(self) -> Option<String> {
        let text = match self.0.as_slice() {
            [b'"', text @ ..] => text,
            number @ [b'-' | b'0'..=b'9', ..] => number,
            _ => return None,
        };
        name(Value::Text(text)).filter(|text| text.len() <= MAX_ID)
    }
}

const VERSION: &str = "2.0";
const NULL: &[u8] = b"null";
/// Codes by which no method was called: parse error, invalid request, method not found (5.1).
const NOT_CALLED: [&str; 3] = ["-32700", "-32600", "-32601"];
const MCP_METHOD: &str = "mcp.method.name";
/// MCP's method of calling a tool.
const TOOL: &str = "tools/call";
/// Those of MCP that a client may call or tell of (semantic conventions, `mcp.method.name`).
const MCP_METHODS: [&str; 17] = [
    "completion/complete",
    "initialize",
    "logging/setLevel",
    "notifications/cancelled",
    "notifications/initialized",
    "notifications/progress",
    "notifications/roots/list_changed",
    "ping",
    "prompts/get",
    "prompts/list",
    "resources/list",
    "resources/read",
    "resources/subscribe",
    "resources/templates/list",
    "resources/unsubscribe",
    TOOL,
    "tools/list",
];
/// The conventions have no attribute for a batch.
const BATCH: &str = "spantap.jsonrpc.batch_size";
/// Longest text that is looked at.
const MAX_TEXT: usize = 256;
/// Longest id that is told.
const MAX_ID: usize = 64;

#[cfg(test)]
mod tests;
