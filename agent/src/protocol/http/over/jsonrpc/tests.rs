//! Calls as they are told.

use super::super::bench::{JSON, posted, told};
use crate::event::Hole;
use crate::protocol::bench::Bench;
use crate::protocol::{Flow, Part, http1};

const CALL: &str = r#"{"jsonrpc":"2.0","method":"sum","params":[1,2],"id":7}"#;

#[test]
fn calls() {
    for (ask, status, answer, want) in [
        (
            CALL,
            200,
            r#"{"jsonrpc":"2.0","result":3,"id":7}"#,
            "[sum] rpc.system.name=jsonrpc jsonrpc.protocol.version=2.0 jsonrpc.request.id=7 rpc.method=sum",
        ),
        (
            r#"{"id":"a-1","params":{"name":"secret"},"method":"shop.buy","jsonrpc":"2.0"}"#,
            200,
            r#"{"id":"a-1","error":{"code":-32000,"message":"secret"},"jsonrpc":"2.0"}"#,
            "[jsonrpc] rpc.system.name=jsonrpc jsonrpc.protocol.version=2.0 jsonrpc.request.id=a-1 \
             rpc.method=_OTHER rpc.method_original=shop.buy rpc.response.status_code=-32000 client!-32000 server!-32000",
        ),
        (
            r#"{"jsonrpc":"2.0","method":"x1234","id":null}"#,
            200,
            r#"{"jsonrpc":"2.0","error":{"code":-32601,"message":"Method not found"},"id":null}"#,
            "[jsonrpc] rpc.system.name=jsonrpc jsonrpc.protocol.version=2.0 rpc.method=_OTHER \
             rpc.method_original=x1234 rpc.response.status_code=-32601 client!-32601 server!-32601",
        ),
        (
            r#"{"jsonrpc":"2.0","method":"log","params":["x"]}"#,
            202,
            "",
            "[jsonrpc] rpc.system.name=jsonrpc jsonrpc.protocol.version=2.0 rpc.method=_OTHER \
             rpc.method_original=log",
        ),
        (
            r#"[{"jsonrpc":"2.0","method":"a","id":1},{"jsonrpc":"2.0","method":"b"}]"#,
            200,
            r#"[{"jsonrpc":"2.0","result":1,"id":1}]"#,
            "[jsonrpc] rpc.system.name=jsonrpc jsonrpc.protocol.version=2.0 spantap.jsonrpc.batch_size=2",
        ),
    ] {
        assert_eq!(posted("/rpc", ask, status, answer), want, "{ask}");
    }
}

#[test]
fn what_is_none() {
    let fine = r#"{"jsonrpc":"2.0","result":3,"id":7}"#;
    for (ask, status, answer) in [
        (r#"{"jsonrpc":"1.0","method":"sum","id":7}"#, 200, fine),
        (r#"{"method":"sum","params":[],"id":7}"#, 200, fine),
        (
            r#"{"jsonrpc":"2.0","method":"sum","id":7,"extra":1}"#,
            200,
            fine,
        ),
        (r#"[{"jsonrpc":"2.0","method":"a"},3]"#, 200, fine),
        (CALL, 200, r#"{"result":3}"#),
        (CALL, 401, "{}"),
    ] {
        assert_eq!(posted("/rpc", ask, status, answer), "", "{ask} {answer}");
    }
}

#[test]
fn the_model_context_protocol() {
    let ask = |more: &str| format!("POST /mcp HTTP/1.1\nHost: h\n{JSON}{more}");
    let initialize = r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-06-18"}}"#;
    let json = format!("HTTP/1.1 200 OK\n{JSON}\nMcp-Session-Id: secret");
    let fine = r#"{"jsonrpc":"2.0","id":0,"result":{}}"#;
    assert_eq!(
        told((&ask(""), initialize), (&json, fine)),
        "[initialize] jsonrpc.request.id=0 mcp.method.name=initialize \
         mcp.protocol.version=2025-06-18"
    );
    let call = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"weather","arguments":{"city":"secret"}}}"#;
    let events = "HTTP/1.1 200 OK\nContent-Type: text/event-stream";
    let stream = "event: message\ndata: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/progress\"}\n\n\
                  event: message\ndata: {\"jsonrpc\":\"2.0\",\"id\":1,\"error\":{\"code\":-32602}}\n\n";
    assert_eq!(
        told(
            (&ask("\nMcp-Protocol-Version: 2025-06-18"), call),
            (events, stream)
        ),
        "[tools/call] jsonrpc.request.id=1 mcp.method.name=tools/call mcp.protocol.version=2025-06-18 gen_ai.operation.name=execute_tool \
         gen_ai.tool.name=weather rpc.response.status_code=-32602 spantap.sse.events=2 \
         client!-32602 server!-32602"
    );
}

#[test]
fn only_what_was_called_names_a_span() {
    let ask = format!("POST /mcp HTTP/1.1\nHost: h\n{JSON}\nMcp-Session-Id: s");
    let answered = |question: &str, answer: &str| {
        let head = format!("HTTP/1.1 200 OK\n{JSON}");
        let told = told((&ask, question), (&head, answer));
        told.replace("jsonrpc.request.id=1 ", "")
    };
    let tool = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"x17"}}"#;
    let result = |more: &str| format!(r#"{{"jsonrpc":"2.0","id":1,"result":{{{more}}}}}"#);
    let error = |code| format!(r#"{{"jsonrpc":"2.0","id":1,"error":{{"code":{code}}}}}"#);
    let called = "mcp.method.name=tools/call gen_ai.operation.name=execute_tool";
    let known = format!("[tools/call x17] {called} gen_ai.tool.name=x17");
    let failed =
        format!("[tools/call] {called} gen_ai.tool.name=x17 client!tool_error server!tool_error");
    let long = "x".repeat(100_000);
    for (more, want) in [
        (r#""content":[]"#, &known),
        (r#""isError":false"#, &known),
        (r#""content":[{"isError":true}]"#, &known),
        (&format!(r#""content":["{long}"],"isError":true"#), &known),
        (r#""isError":true"#, &failed),
    ] {
        assert_eq!(answered(tool, &result(more)), *want);
    }
    let prompt = r#"{"jsonrpc":"2.0","id":1,"method":"prompts/get","params":{"name":"x17"}}"#;
    assert_eq!(
        answered(prompt, &error(-32602)),
        "[prompts/get] mcp.method.name=prompts/get gen_ai.prompt.name=x17 \
         rpc.response.status_code=-32602 client!-32602 server!-32602"
    );
    // What any other method answers is its own affair.
    let other = r#"{"jsonrpc":"2.0","id":1,"method":"x17"}"#;
    let fine = "[x17] mcp.method.name=x17";
    assert_eq!(answered(other, &result(r#""isError":true"#)), fine);
    for code in [-32700, -32600, -32601, -32602, -32000, 17] {
        assert_eq!(
            answered(other, &error(code)),
            format!(
                "[jsonrpc] mcp.method.name=_OTHER rpc.method_original=x17 \
                 rpc.response.status_code={code} client!{code} server!{code}"
            )
        );
    }
}

#[test]
fn what_no_answer_vouches_for_names_no_span() {
    let error = r#"{"jsonrpc":"2.0","error":{"code":-32000},"id":7}"#;
    let said = "jsonrpc.protocol.version=2.0 jsonrpc.request.id=7";
    let error_said = "rpc.response.status_code=-32000 client!-32000 server!-32000";
    for status in [200, 400, 403, 429, 500, 503] {
        assert_eq!(
            posted("/rpc", CALL, status, error),
            format!(
                "[jsonrpc] rpc.system.name=jsonrpc {said} rpc.method=_OTHER \
                 rpc.method_original=sum {error_said}"
            )
        );
    }
    let result = r#"{"jsonrpc":"2.0","result":1,"id":7}"#;
    assert_eq!(
        posted("/rpc", CALL, 403, result),
        format!(
            "[jsonrpc] rpc.system.name=jsonrpc {said} rpc.method=_OTHER rpc.method_original=sum"
        )
    );
    // What MCP has names for is few.
    let ask = format!("POST /mcp HTTP/1.1\nHost: h\n{JSON}\nMcp-Session-Id: s");
    for (method, want) in [
        (
            "notifications/initialized",
            "[notifications/initialized] mcp.method.name=notifications/initialized",
        ),
        (
            "notifications/x17",
            "[jsonrpc] mcp.method.name=_OTHER rpc.method_original=notifications/x17",
        ),
    ] {
        let question = format!(r#"{{"jsonrpc":"2.0","method":"{method}"}}"#);
        let heard = ("HTTP/1.1 202 Accepted", "");
        assert_eq!(told((&ask, &question), heard), want);
    }
    let list = r#"{"jsonrpc":"2.0","method":"tools/list","id":7}"#;
    let head = format!("HTTP/1.1 503 x\n{JSON}");
    assert_eq!(
        told((&ask, list), (&head, error)),
        format!("[tools/list] jsonrpc.request.id=7 mcp.method.name=tools/list {error_said}")
    );
}

#[test]
fn an_error_is_one_whatever_its_code_is() {
    for (error, code) in [
        (r#"{"code":-32601.0}"#, None),
        (r#"{"code":"-32601"}"#, None),
        (r#"{"code":null}"#, None),
        (r#"{"message":"no"}"#, None),
        ("{}", None),
        (r#"{"code":-5}"#, Some("-5")),
    ] {
        let answer = format!(r#"{{"jsonrpc":"2.0","error":{error},"id":7}}"#);
        let status = code.map_or(String::new(), |code| {
            format!("rpc.response.status_code={code} ")
        });
        let kind = code.unwrap_or("_OTHER");
        assert_eq!(
            posted("/rpc", CALL, 200, &answer),
            format!(
                "[jsonrpc] rpc.system.name=jsonrpc jsonrpc.protocol.version=2.0 jsonrpc.request.id=7 \
                 rpc.method=_OTHER rpc.method_original=sum {status}client!{kind} server!{kind}"
            )
        );
    }
    // Of older versions both are always there.
    let none = r#"{"jsonrpc":"2.0","error":null,"result":3,"id":7}"#;
    let told = posted("/rpc", CALL, 200, none);
    assert!(told.starts_with("[sum]") && !told.contains('!'), "{told}");
}

#[test]
fn a_result_under_another_id_vouches_for_nothing() {
    let long = "x".repeat(100_000);
    let twin = |end| format!(r#""{}{end}""#, "x".repeat(300));
    for (asked, answered, same) in [
        ("7", r#""id":7,"result":3"#, true),
        ("7", r#""result":3,"id":7"#, true),
        ("7", r#""result":3,"id":8"#, false),
        ("7", r#""id":8,"result":3"#, false),
        ("7", r#""result":3,"id":"7""#, false),
        (r#""7""#, r#""result":3,"id":7"#, false),
        (r#""7""#, r#""result":null,"id":"7""#, true),
        ("7", r#""result":3,"id":null"#, false),
        ("7", r#""result":3"#, false),
        ("null", r#""result":3,"id":null"#, true),
        // Of long ones the beginning is compared, and the id behind a long result is not read.
        (
            &twin("a"),
            &format!(r#""id":{},"result":3"#, twin("b")),
            true,
        ),
        (&twin("a"), r#""id":"x","result":3"#, false),
        ("7", &format!(r#""result":["{long}"],"id":8"#), true),
        ("7", &format!(r#""result":"{long}","id":7"#), true),
        ("7", &format!(r#""id":8,"result":"{long}""#), false),
        ("7", &format!(r#""other":"{long}","id":7"#), false),
    ] {
        let ask = format!(r#"{{"jsonrpc":"2.0","method":"sum","id":{asked}}}"#);
        let answer = format!(r#"{{"jsonrpc":"2.0",{answered}}}"#);
        let told = posted("/rpc", &ask, 200, &answer);
        let name = if same { "[sum] " } else { "[jsonrpc] " };
        assert!(told.starts_with(name), "{asked}: {told}");
        assert_eq!(told.contains("rpc.method=sum"), same, "{told}");
    }
}

#[test]
fn of_a_stream_the_event_with_the_result_vouches() {
    let ask = format!("POST /mcp HTTP/1.1\nHost: h\n{JSON}\nMcp-Session-Id: s");
    let question = r#"{"jsonrpc":"2.0","id":1,"method":"x17"}"#;
    let events = "HTTP/1.1 200 OK\nContent-Type: text/event-stream";
    let of_server = r#"{"jsonrpc":"2.0","id":0,"method":"sampling/createMessage"}"#;
    for (answer, name) in [
        (r#"{"jsonrpc":"2.0","id":1,"result":{}}"#, "[x17] "),
        (r#"{"jsonrpc":"2.0","result":{},"id":1}"#, "[x17] "),
        (r#"{"jsonrpc":"2.0","id":0,"result":{}}"#, "[jsonrpc] "),
        (r#"{"jsonrpc":"2.0","id":1}"#, "[jsonrpc] "),
    ] {
        let stream = format!("data: {of_server}\n\ndata: {answer}\n\ndata: {of_server}\n\n");
        let told = told((&ask, question), (events, &stream));
        assert!(told.starts_with(name), "{answer}: {told}");
    }
}

#[test]
fn behind_a_hole_nobody_knows_what_was_called() {
    let mut bench = Bench::new(http1::PROTOCOL);
    let body = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"x17"}}"#;
    bench.ask(
        format!(
            "POST /mcp HTTP/1.1\r\nHost: h\r\nMcp-Session-Id: s\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .as_bytes(),
    );
    bench
        .answer(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 60\r\n\r\n");
    let _ = bench.send_part(Flow::Response, br#"{"jsonrpc":"2.0","#, 43, Hole::Lost);
    let names = bench.out.iter().filter_map(|m| match &m.part {
        Part::Revise(revision) => revision.kind.as_ref().map(|(_, name)| name.as_ref()),
        _ => None,
    });
    assert_eq!(names.collect::<Vec<_>>(), ["tools/call"]);
}
