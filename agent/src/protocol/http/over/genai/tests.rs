//! Calls of models as they are told.

use super::super::bench::{JSON, posted, told};
use crate::protocol::bench::Bench;
use crate::protocol::http1;

const ASK: &str = r#"{"messages":[{"role":"user","content":"secret \"model\": {"}],"model":"gpt-4o","max_tokens":50,"temperature":0.5,"top_p":1}"#;
const ASKED: &str = "[chat gpt-4o] gen_ai.operation.name=chat gen_ai.request.model=gpt-4o \
                     gen_ai.request.max_tokens=50 gen_ai.request.temperature=0.5 gen_ai.request.top_p=1";

#[test]
fn calls() {
    let answer = r#"{"id":"c-1","object":"chat.completion","model":"gpt-4o-2024","choices":[
        {"index":0,"message":{"content":"secret"},"finish_reason":"stop"},{"finish_reason":"length"}],
        "usage":{"prompt_tokens":9,"completion_tokens":12,"total_tokens":21}}"#;
    assert_eq!(
        posted("/v1/chat/completions", ASK, 200, answer),
        format!(
            "{ASKED} gen_ai.response.id=c-1 gen_ai.response.model=gpt-4o-2024 \
             gen_ai.usage.input_tokens=9 gen_ai.usage.output_tokens=12 \
             gen_ai.response.finish_reasons=stop,length"
        )
    );
    let ask = r#"{"input":["secret"],"model":"e-3","encoding_format":"base64"}"#;
    let answer = r#"{"object":"list","data":[{"embedding":[0.1,0.2]}],"model":"e-3","usage":{"prompt_tokens":3}}"#;
    assert_eq!(
        posted("/v1/embeddings", ask, 200, answer),
        "[embeddings e-3] gen_ai.operation.name=embeddings gen_ai.request.model=e-3 \
         gen_ai.response.model=e-3 gen_ai.usage.input_tokens=3"
    );
    let ask = r#"{"input":"secret","model":"o3"}"#;
    let answer = r#"{"id":"r-1","object":"response","status":"completed","model":"o3","output":[{"id":"m"}],"usage":{"input_tokens":1,"output_tokens":2}}"#;
    assert_eq!(
        posted("/v1/responses?x=1", ask, 200, answer),
        "[chat o3] gen_ai.operation.name=chat gen_ai.request.model=o3 gen_ai.response.id=r-1 \
         gen_ai.response.model=o3 gen_ai.usage.input_tokens=1 gen_ai.usage.output_tokens=2"
    );
}

#[test]
fn errors() {
    for (status, answer, want) in [
        (
            429,
            r#"{"error":{"message":"secret","type":"requests","code":"rate_limit_exceeded"}}"#,
            " client!rate_limit_exceeded",
        ),
        (
            500,
            r#"{"error":{"type":"server_error","code":null}}"#,
            " client!server_error server!server_error",
        ),
    ] {
        let told = posted("/v1/chat/completions", ASK, status, answer);
        assert_eq!(told, format!("{ASKED}{want}"), "{answer}");
    }
}

#[test]
fn a_refused_model_names_no_span() {
    let refused = ASKED.replace("[chat gpt-4o]", "[chat]");
    for status in [400, 401, 404, 422] {
        let answer = r#"{"error":"model not found"}"#;
        let told = posted("/v1/chat/completions", ASK, status, answer);
        assert_eq!(told, refused, "{status}");
    }
}

#[test]
fn streams() {
    let ask = format!("POST /v1/chat/completions HTTP/1.1\nHost: api.openai.com:443\n{JSON}");
    let events = "data: {\"id\":\"c-2\",\"object\":\"chat.completion.chunk\",\"model\":\"m-1\",\
                  \"choices\":[{\"delta\":{\"content\":\"secret\"},\"finish_reason\":null}]}\n\n\
                  data: {\"id\":\"c-2\",\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}],\"usage\":null}\n\n\
                  data: {\"choices\":[],\"usage\":{\"prompt_tokens\":5,\"completion_tokens\":6}}\n\n\
                  data: [DONE]\n\n";
    let told = told(
        (&ask, r#"{"model":"m","messages":[],"stream":true}"#),
        ("HTTP/1.1 200 OK\nContent-Type: text/event-stream", events),
    );
    assert_eq!(
        told,
        "[chat m] gen_ai.operation.name=chat gen_ai.provider.name=openai gen_ai.request.model=m \
         gen_ai.request.stream=true gen_ai.response.id=c-2 gen_ai.response.model=m-1 \
         gen_ai.usage.input_tokens=5 gen_ai.usage.output_tokens=6 \
         gen_ai.response.finish_reasons=stop spantap.sse.events=4"
    );
}

#[test]
fn a_long_prompt_leaves_the_answer() {
    let long = "x".repeat(300_000);
    let ask = format!(r#"{{"messages":["{long}"],"model":"m"}}"#);
    let answer = r#"{"object":"chat.completion","model":"m-1","usage":{"prompt_tokens":70000}}"#;
    assert_eq!(
        posted("/chat/completions", &ask, 200, answer),
        "[chat] gen_ai.operation.name=chat gen_ai.response.model=m-1 gen_ai.usage.input_tokens=70000"
    );
}

#[test]
fn an_answer_is_needed_whole_until_it_is_read() {
    let message = |first: &str, length: usize| {
        format!("{first}\r\n{JSON}\r\nContent-Length: {length}\r\n\r\n")
    };
    let mut bench = Bench::new(http1::PROTOCOL);
    let chat = "POST /v1/chat/completions HTTP/1.1";
    bench.ask(message(chat, ASK.len()).as_bytes());
    assert!(!bench.parser.needs_whole(), "a prompt may be long");
    bench.ask(ASK.as_bytes());
    assert!(bench.parser.needs_whole());
    bench.answer(message("HTTP/1.1 200 OK", 11).as_bytes());
    bench.answer(b"{\"id\":");
    assert!(bench.parser.needs_whole());
    bench.answer(b"\"x\"}\n");
    assert!(!bench.parser.needs_whole());

    bench.ask((message(chat, ASK.len()) + ASK).as_bytes());
    bench.answer(message("HTTP/1.1 200 OK", 100_000).as_bytes());
    assert!(bench.parser.needs_whole());
    bench.answer(b"no JSON");
    assert!(!bench.parser.needs_whole(), "nobody reads it");

    let mut bench = Bench::new(http1::PROTOCOL);
    bench.ask((message("POST /v1/chat HTTP/1.1", ASK.len()) + ASK).as_bytes());
    assert!(!bench.parser.needs_whole(), "nobody's");
}

#[test]
fn what_is_none() {
    let fine = r#"{"model":"m","usage":{}}"#;
    for (path, ask, answer) in [
        ("/v1/responses", r#"{"survey":1,"input":"x"}"#, fine),
        ("/v1/responses", r#"{"model":"x"}"#, fine),
        ("/v1/chat", ASK, fine),
        ("/v1/chat/completions", ASK, r#"{"ok":true}"#),
        ("/v1/chat/completions", ASK, "oops"),
    ] {
        assert_eq!(posted(path, ask, 200, answer), "", "{path} {ask} {answer}");
    }
}
