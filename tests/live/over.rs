//! What is spoken over HTTP, in two languages, both ways: GraphQL, JSON-RPC, calls of a language model,
//! server-sent events. The libraries are real but for the model and the tools, for which each server
//! stands in.

use std::path::Path;

use anyhow::Result;
use spantap_tests::agent::Capture;
use spantap_tests::process::free_port;
use spantap_tests::program::Setup;
use spantap_tests::{Case, Deed, Stage, install};

use crate::deeds::{Cell, Way};

/// All of them.
pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (pair, way) in [
        (&PYTHON_TO_NODE, Way::NEW),
        (&PYTHON_TO_NODE, Way::OLD),
        (&NODE_TO_PYTHON, Way::NEW),
        (&NODE_TO_PYTHON, Way::NEW.by(Capture::Syscall)),
    ] {
        let name = format!("over::{}::{}", pair.name, way.name());
        cases.push(Case::new(name, move |stage| run(stage, pair, way)));
    }
    cases
}

/// Who asks, and who answers.
struct Pair {
    name: &'static str,
    client: fn(&Path) -> Result<Setup>,
    server: fn(&Path) -> Result<Setup>,
    /// `error.type` of a field that broke.
    broken: &'static str,
    /// Whether the server tells notifications by their status alone.
    silent: bool,
}

const PYTHON_TO_NODE: Pair = Pair {
    name: "python-to-node",
    client: |folder| python(folder, "client"),
    server: |folder| node(folder, "server"),
    broken: "INTERNAL_SERVER_ERROR",
    silent: true,
};

const NODE_TO_PYTHON: Pair = Pair {
    name: "node-to-python",
    client: |folder| node(folder, "client"),
    server: |folder| python(folder, "server"),
    broken: "_OTHER",
    silent: false,
};

fn python(folder: &Path, script: &str) -> Result<Setup> {
    let (file, _) = install::app(&format!("over/{script}.py"))?;
    let program = install::python_of("over", &[])?.join("python");
    Ok(Setup::new(script, folder, program).arg(file))
}

fn node(folder: &Path, script: &str) -> Result<Setup> {
    let scripts = install::modules("node-over", "over", &["server.js", "client.js"])?;
    let script_file = scripts.join(format!("{script}.js"));
    Ok(Setup::new(script, folder, "node").arg(script_file))
}

fn run(stage: &mut Stage, pair: &'static Pair, way: Way) -> Result<()> {
    let port = free_port()?;
    let word = port.to_string();
    let server = (pair.server)(&stage.folder)?.arg(&word).port(port);
    let server = server.start()?;
    let cell = Cell::new("http1", pair.name, &server, way);
    let agent = stage.agent()?.ports(&[port]);
    let client = (pair.client)(&stage.folder)?.arg(&word);
    cell.run(stage, agent, client, &list(pair)).map(drop)
}

/// What every client does.
fn list(pair: &Pair) -> Vec<Deed> {
    let mut deeds = vec![
        graphql("query", Some("Book")),
        graphql("mutation", Some("Add")),
        graphql("query", None).fails(pair.broken),
    ];
    let fails = |deed: Deed, code: &str| deed.fails(code).with("rpc.response.status_code", code);
    deeds.extend([
        rpc("sum", "sum"),
        // An error vouches for no method, whatever its code.
        fails(rpc("jsonrpc", "_OTHER"), "-32001").with("rpc.method_original", "fails"),
        fails(rpc("jsonrpc", "_OTHER"), "-32601").with("rpc.method_original", "nothing"),
        // No answer vouches for what a notification names.
        rpc("jsonrpc", "_OTHER")
            .with("rpc.method_original", "sum")
            .without("jsonrpc.request.id")
            .with(
                "http.response.status_code",
                if pair.silent { 204 } else { 200 },
            ),
        Deed::new("jsonrpc", [("rpc.system.name", "jsonrpc")])
            .with("spantap.jsonrpc.batch_size", 2)
            .without("rpc.method"),
        tool("tools/call weather", "weather"),
        tool("tools/call", "broken").fails("tool_error"),
    ]);
    let answered = |deed: Deed| {
        deed.with("gen_ai.response.id", "chat-1")
            .with("gen_ai.response.model", "tiny-1")
            .with("gen_ai.usage.input_tokens", 9)
            .with("gen_ai.usage.output_tokens", 2)
            .with("gen_ai.response.finish_reasons", "[\"stop\"]")
    };
    deeds.extend([
        answered(model("chat", "tiny"))
            .with("gen_ai.request.max_tokens", 5)
            .with("gen_ai.request.temperature", 0.5)
            .without("spantap.sse.events"),
        answered(model("chat", "tiny"))
            .with("gen_ai.request.stream", true)
            .with("spantap.sse.events", 4),
        // A long prompt, and an answer as long.
        answered(model("chat", "long")),
        model("embeddings", "tiny").with("gen_ai.usage.input_tokens", 3),
        Deed::new("chat", [("gen_ai.request.model", "none")])
            .with("gen_ai.operation.name", "chat")
            .fails_client("model_not_found"),
        Deed::new("GET /events", [("http.request.method", "GET")]).with("spantap.sse.events", 3),
    ]);
    deeds
}

fn graphql(kind: &str, name: Option<&str>) -> Deed {
    let deed = Deed::new(kind, [("graphql.operation.type", kind)])
        .with("http.request.method", "POST")
        .with("network.protocol.name", "http")
        .without("graphql.document");
    match name {
        Some(name) => deed.with("graphql.operation.name", name),
        None => deed.without("graphql.operation.name"),
    }
}

fn rpc(name: &str, method: &str) -> Deed {
    Deed::new(
        name,
        [("rpc.system.name", "jsonrpc"), ("rpc.method", method)],
    )
    .with("jsonrpc.protocol.version", "2.0")
}

fn tool(span: &str, name: &str) -> Deed {
    let facts = [
        ("mcp.method.name", "tools/call"),
        ("gen_ai.operation.name", "execute_tool"),
        ("gen_ai.tool.name", name),
    ];
    Deed::new(span, facts).without("rpc.system.name")
}

fn model(operation: &str, name: &str) -> Deed {
    let facts = [
        ("gen_ai.operation.name", operation),
        ("gen_ai.request.model", name),
    ];
    Deed::new(&format!("{operation} {name}"), facts).without("gen_ai.provider.name")
}
