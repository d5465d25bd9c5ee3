//! Values at their places, as another reader finds them.

use super::*;
use proptest::prelude::*;
use serde_json::json;

const PATHS: &[Path] = &[
    &[],
    &["model"],
    &["usage", "total"],
    &["choices", EACH, "reason"],
    &["list", EACH],
    &["a", "b", "c"],
    &["a"],
];

/// What a reader finds, the bytes coming in such portions.
fn read(paths: &'static [Path], keep: usize, text: &[u8], portion: usize) -> (Vec<String>, Reader) {
    let mut found = Vec::new();
    let mut reader = Reader::new(paths, keep);
    for bytes in text.chunks(portion.max(1)) {
        reader.read(bytes, |index, value| found.push(show(index, value)));
    }
    (found, reader)
}

fn show(index: usize, value: Value<'_>) -> String {
    match value {
        Value::Text(text) => format!("{index} {:?}", String::from_utf8_lossy(text)),
        Value::Long(text) => format!("{index} long {:?}", String::from_utf8_lossy(text)),
        Value::Number(text) => match text.parse::<f64>() {
            Ok(number) => format!("{index} {number}"),
            Err(_) => format!("{index} {text}"),
        },
        Value::Bool(is) => format!("{index} {is}"),
        Value::Null => format!("{index} null"),
        Value::Object => format!("{index} object"),
        Value::Array => format!("{index} array"),
    }
}

/// What is at the paths of a document.
fn walk(value: &serde_json::Value, at: &mut Vec<String>, found: &mut Vec<String>) {
    let fits = |path: &Path| {
        let same = |(step, key): (&&str, &String)| match *step {
            EACH => key == "\0",
            step => step == key,
        };
        path.len() == at.len() && path.iter().zip(at.iter()).all(same)
    };
    for (index, path) in PATHS.iter().enumerate() {
        if !fits(path) {
            continue;
        }
        found.push(match value {
            serde_json::Value::String(text) => show(index, Value::Text(text.as_bytes())),
            serde_json::Value::Number(n) => show(index, Value::Number(&n.to_string())),
            serde_json::Value::Bool(is) => show(index, Value::Bool(*is)),
            serde_json::Value::Null => show(index, Value::Null),
            serde_json::Value::Object(_) => show(index, Value::Object),
            serde_json::Value::Array(_) => show(index, Value::Array),
        });
    }
    match value {
        serde_json::Value::Object(map) => {
            for (key, value) in map {
                at.push(key.clone());
                walk(value, at, found);
                at.pop();
            }
        }
        serde_json::Value::Array(list) => {
            for value in list {
                at.push("\0".into());
                walk(value, at, found);
                at.pop();
            }
        }
        _ => {}
    }
}

#[test]
fn values_at_their_places() {
    let text = br#" {"model" : "m\u0061\ud83d\ude00\n", "other":{"model":["}\"]",1]},
        "choices":[{"reason":null},{"x":[[]],"reason":"stop"}],"usage":{"total":-1.5e2},
        "list":[1,"two",[3],{},true],"a":{"b":{"c":false}},"\u006dodel":7} "#;
    let want = [
        "0 object",
        "1 \"ma😀\\n\"",
        "3 null",
        "3 \"stop\"",
        "2 -150",
        "4 1",
        "4 \"two\"",
        "4 array",
        "4 object",
        "4 true",
        "6 object",
        "5 false",
        "1 7",
    ];
    for portion in 1..text.len() {
        let (found, reader) = read(PATHS, 64, text, portion);
        assert_eq!(found, want, "{portion}");
        assert!(reader.is_whole());
        assert_eq!(reader.weight(), 0);
    }
}

#[test]
fn long_texts_are_cut() {
    for (text, want) in [
        (r#"{"model":"12345678"}"#, "1 \"12345678\""),
        (r#"{"model":"123456789"}"#, "1 long \"12345678\""),
        (r#"{"model":"1234567\u0038\u0039"}"#, "1 long \"12345678\""),
    ] {
        for portion in [1, 3, 100] {
            let (found, _) = read(PATHS, 8, text.as_bytes(), portion);
            assert_eq!(found[1..], [want], "{text} {portion}");
        }
    }
    let key = "k".repeat(1000);
    let (found, reader) = read(
        PATHS,
        8,
        format!("{{\"{key}\":1,\"model\":2}}").as_bytes(),
        7,
    );
    assert_eq!(found[1..], ["1 2"]);
    assert!(reader.weight() == 0);
}

#[test]
fn what_is_no_json_ends() {
    for text in [
        "model",
        "{]",
        "[}",
        "{\"model\":}",
        "{\"model\" 1}",
        "{model:1}",
        "{\"model\":1,}",
        "[1 2]",
        "{\"x\":{\"y\":[}}",
        "{\"model\":\"\\x\"}",
        "{\"model\":\"\\u00g0\"}",
        "{\"model\":nul}",
        "{\"model\":-}",
        "{} {}",
    ] {
        for portion in [1, 100] {
            let (_, reader) = read(PATHS, 8, text.as_bytes(), portion);
            assert!(reader.is_broken(), "{text}");
        }
    }
    for (text, fits) in [
        (r#"{"a":{"b":1,"x":2},"model":"x","id":1"#, false),
        (r#"{"a":{"b":1,"x":2},"model":"x","list":[{"id":1}]}"#, true),
        (r#"[{"id":1}]"#, true),
    ] {
        let mut reader = Reader::strict(PATHS, 8);
        reader.read(text.as_bytes(), |_, _| {});
        assert_eq!(reader.is_broken(), !fits, "{text}");
    }
    const EACHS: &[Path] = &[&[EACH, "model"]];
    for (text, fits) in [
        (r#"[{"model":1},{"id":1}]"#, false),
        (r#"[{"model":1}]"#, true),
    ] {
        let mut reader = Reader::strict(EACHS, 8);
        reader.read(text.as_bytes(), |_, _| {});
        assert_eq!(reader.is_broken(), !fits, "{text}");
    }
}

#[test]
fn depth_costs_nothing() {
    let deep = format!(
        "{{\"x\":{}1{}, \"model\":1}}",
        "[".repeat(100_000),
        "]".repeat(100_000)
    );
    let (found, reader) = read(PATHS, 8, deep.as_bytes(), 1000);
    assert_eq!(found, ["0 object", "1 1"]);
    assert!(reader.is_whole());
}

fn document() -> impl Strategy<Value = serde_json::Value> {
    let key = prop_oneof![
        Just("model".to_owned()),
        Just("usage".to_owned()),
        Just("total".to_owned()),
        Just("choices".to_owned()),
        Just("reason".to_owned()),
        Just("list".to_owned()),
        Just("a".to_owned()),
        Just("b".to_owned()),
        Just("c".to_owned()),
        any::<String>(),
    ];
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(|is| json!(is)),
        any::<i64>().prop_map(|n| json!(n)),
        (-1e9..1e9_f64).prop_map(|n| json!(n)),
        any::<String>().prop_map(|text| json!(text)),
        "[\\\\\"{}\\[\\],:\n]{0,8}".prop_map(|text| json!(text)),
    ];
    leaf.prop_recursive(6, 64, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(|list| json!(list)),
            prop::collection::vec((key.clone(), inner), 0..6)
                .prop_map(|pairs| serde_json::Value::Object(pairs.into_iter().collect())),
        ]
    })
}

proptest! {
    /// The same values as another reader finds, in whatever portions they come.
    #[test]
    fn as_another_reader_reads(document in document(), portion in 1usize..40, pretty: bool) {
        prop_assume!(document.is_object() || document.is_array());
        let text = match pretty {
            true => serde_json::to_string_pretty(&document),
            false => serde_json::to_string(&document),
        };
        let text = text.expect("text");
        let mut want = Vec::new();
        walk(&document, &mut Vec::new(), &mut want);
        let (found, reader) = read(PATHS, usize::MAX, text.as_bytes(), portion);
        prop_assert_eq!(found, want);
        prop_assert!(reader.is_whole());
    }

    /// What is no JSON comes to an end, and what is cut differently is read alike.
    #[test]
    fn anything_ends(text in "[{}\\[\\]\",:\\\\a-c0-9eu tfn.-]{0,64}", portion in 1usize..9) {
        let (one, first) = read(PATHS, 8, text.as_bytes(), 1000);
        let (other, second) = read(PATHS, 8, text.as_bytes(), portion);
        prop_assert_eq!(one, other);
        prop_assert_eq!(first.is_broken(), second.is_broken());
        // Nothing that another reader takes is broken.
        if serde_json::from_str::<serde_json::Value>(&text).is_ok() {
            prop_assert!(!first.is_broken());
        }
    }
}
