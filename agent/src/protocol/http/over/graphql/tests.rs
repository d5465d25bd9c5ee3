//! Operations as they are told.

use super::super::bench::{JSON, posted, told};

const NAMED: &str =
    r#"{"query":"query Book($id: ID!) { book(id: $id) { title } }","variables":{"id":"secret"}}"#;

#[test]
fn operations() {
    for (ask, status, answer, want) in [
        (
            NAMED,
            200,
            r#"{"data":{"book":{"errors":1}}}"#,
            "[query] graphql.operation.name=Book graphql.operation.type=query",
        ),
        (
            r#"{"operationName":"B","variables":null,"query":"mutation A{a} subscription B{b}"}"#,
            200,
            r#"{"data":null}"#,
            "[subscription] graphql.operation.name=B graphql.operation.type=subscription",
        ),
        (
            r#"{"query":"\n{ a }","extensions":{"x":{"y":1}}}"#,
            200,
            r#"{"data":{}}"#,
            "[query] graphql.operation.type=query",
        ),
        (
            r#"{"query":"query A{a} query B{b}"}"#,
            400,
            r#"{"errors":[{"message":"which?"}]}"#,
            "[GraphQL Operation]",
        ),
        (
            r#"{"query":"{ nothing }"}"#,
            400,
            r#"{"errors":[{"message":"x","extensions":{"code":"GRAPHQL_VALIDATION_FAILED"}}]}"#,
            "[query] graphql.operation.type=query client!GRAPHQL_VALIDATION_FAILED",
        ),
        (
            r#"{"query":"{ broken }"}"#,
            200,
            r#"{"errors":[{"message":"x","path":["broken"]}],"data":{"broken":null}}"#,
            "[query] graphql.operation.type=query client!_OTHER server!_OTHER",
        ),
        (
            r#"{"query":"{ a }"}"#,
            200,
            r#"{"errors":[],"data":{"a":1}}"#,
            "[query] graphql.operation.type=query",
        ),
    ] {
        assert_eq!(posted("/graphql", ask, status, answer), want, "{ask}");
    }
}

#[test]
fn what_is_none() {
    let data = r#"{"data":{}}"#;
    for (ask, answer) in [
        (r#"{"query":{"match":{"a":"b"}}}"#, data),
        (r#"{"query":"{app=\"x\"}"}"#, data),
        (r#"{"query":"select 1"}"#, data),
        (r#"{"id":1,"query":"{ a }","size":5}"#, data),
        (r#"[{"query":"{ a }"}]"#, r#"[{"data":{}}]"#),
        (r#"{"query":"{ a }"}"#, r#"{"status":"ok","data":{}}"#),
        (r#"{"query":"{ a }"}"#, r#"{"message":"no"}"#),
        (r#"{"query":"{ a }""#, r#"data"#),
    ] {
        assert_eq!(posted("/graphql", ask, 200, answer), "", "{ask} {answer}");
    }
    let ask = (
        "POST /graphql HTTP/1.1\nHost: h\nContent-Type: text/plain",
        NAMED,
    );
    assert_eq!(told(ask, (&format!("HTTP/1.1 200 OK\n{JSON}"), data)), "");
    let coded = format!("HTTP/1.1 200 OK\n{JSON}\nContent-Encoding: gzip");
    let ask = format!("POST /graphql HTTP/1.1\nHost: h\n{JSON}");
    assert_eq!(told((&ask, NAMED), (&coded, data)), "");
}

#[test]
fn in_the_target() {
    let answer = (
        "HTTP/1.1 200 OK\nContent-Type: application/graphql-response+json",
        r#"{"data":{}}"#,
    );
    for (target, want) in [
        (
            "/graphql?query=query+A%7Ba%7D%20query+B%7Bb%7D&operationName=B&variables=%7B%7D",
            "[query] graphql.operation.name=B graphql.operation.type=query",
        ),
        ("/search?query=cats", ""),
        ("/search?query=%7", ""),
    ] {
        let ask = format!("GET {target} HTTP/1.1\nHost: h");
        assert_eq!(told((&ask, ""), answer), want, "{target}");
    }
}

#[test]
fn events_bring_answers() {
    let ask = format!("POST /graphql HTTP/1.1\nHost: h\n{JSON}\nAccept: text/event-stream");
    let told = told(
        (&ask, r#"{"query":"subscription S { tick }"}"#),
        (
            "HTTP/1.1 200 OK\nContent-Type: text/event-stream",
            "event: next\ndata: {\"data\":{\"tick\":1}}\n\nevent: complete\ndata:\n\n",
        ),
    );
    let want = "[subscription] graphql.operation.name=S graphql.operation.type=subscription";
    assert_eq!(told, format!("{want} spantap.sse.events=2"));
}

#[test]
fn large_documents_and_variables() {
    let fields = "field ".repeat(2000);
    let ask = format!(r#"{{"query":"mutation M {{ {fields} }}","variables":{{}}}}"#);
    let want = "[mutation] graphql.operation.name=M graphql.operation.type=mutation";
    assert_eq!(posted("/", &ask, 200, r#"{"data":{}}"#), want);
    let file = "x".repeat(100_000);
    let ask = format!(r#"{{"query":"mutation M {{ a }}","variables":{{"f":"{file}"}}}}"#);
    assert_eq!(posted("/", &ask, 200, r#"{"data":{}}"#), want);
    // Which one is meant stands behind what is looked at.
    let two = "mutation M {a} mutation N {a}";
    let ask = format!(r#"{{"query":"{two}","variables":{{"f":"{file}"}},"operationName":"N"}}"#);
    assert_eq!(posted("/", &ask, 200, r#"{"data":{}}"#), "");
}
