//! Heads in, attributes out.

use super::*;

fn attributes(role: Role, line: (&str, &str), headers: &[(&str, &str)]) -> String {
    let line = Line {
        method: Some(line.0),
        target: Some(line.1),
        version: "1.1",
        scheme: Some("http"),
    };
    let headers = headers.iter().map(|(n, v)| (*n, v.as_bytes()));
    let config = config::Http::default();
    let request = request(
        "test",
        line,
        headers,
        role,
        (&config, MAX_TEXT),
        &Stats::default(),
    );
    let mut text = String::new();
    for attribute in request.attributes {
        let value = match attribute.value {
            Value::Str(s) => s.into_owned(),
            Value::Int(i) => i.to_string(),
            other => format!("{other:?}"),
        };
        text += &format!("{}={value} ", attribute.key);
    }
    text.trim_end().to_owned()
}

#[test]
fn a_client_names_whom_it_asked() {
    let forwarded = [
        ("Host", "a.example"),
        ("X-Forwarded-Host", "b"),
        ("X-Forwarded-For", "1.1.1.1"),
    ];
    assert_eq!(
        attributes(Role::Client, ("GET", "/x"), &forwarded),
        "http.request.method=GET url.scheme=http url.path=/x server.address=a.example \
         server.port=80 network.protocol.version=1.1"
    );
    assert_eq!(
        attributes(Role::Server, ("GET", "/x"), &forwarded),
        "http.request.method=GET url.scheme=http url.path=/x server.address=b server.port=80 \
         client.address=1.1.1.1 network.protocol.version=1.1"
    );
}

#[test]
fn a_client_of_a_proxy_names_whom_it_asks_for() {
    let ask = |target| attributes(Role::Client, ("GET", target), &[("Host", "proxy:3128")]);
    assert_eq!(
        ask("http://u:p@api.example:9000/x?a=1#f"),
        "http.request.method=GET url.scheme=http url.path=/x url.query=a=1 \
         server.address=api.example server.port=9000 url.full=http://api.example:9000/x?a=1 \
         network.protocol.version=1.1"
    );
    assert!(ask("https://api.example").contains("server.port=443 url.full=https://api.example/"));
    let ftp = ask("ftp://files.example/a");
    assert!(!ftp.contains("server.port"), "{ftp}");
    let proxy = attributes(Role::Server, ("GET", "http://api.example:9000/x"), &[]);
    assert!(proxy.contains("server.port=9000") && !proxy.contains("url.full"));
}

#[test]
fn methods_are_known_by_configuration() {
    let told = |sent: &str, known: &[&str]| {
        let known: Vec<String> = known.iter().map(|name| (*name).to_owned()).collect();
        let mut attributes = Vec::new();
        let name = method(sent, &known, &mut attributes);
        format!("{name} {}", attributes.len())
    };
    assert_eq!(told("GET", &["GET"]), "GET 1");
    assert_eq!(told("PURGE", &["GET", "PURGE"]), "PURGE 1");
    assert_eq!(told("POST", &["GET", "PURGE"]), "HTTP 2");
    assert_eq!(told("get", &["GET"]), "HTTP 2");
}

#[test]
fn schemes_have_their_port() {
    assert_eq!(
        attributes(
            Role::Server,
            ("GET", "/"),
            &[("host", "h"), ("x-forwarded-proto", "HTTPS")]
        ),
        "http.request.method=GET url.scheme=https url.path=/ server.address=h server.port=443 \
         network.protocol.version=1.1"
    );
}

#[test]
fn hosts_that_are_none_are_left_out() {
    for host in ["", "a b", "<script>", ":80", "[::1", "user@host"] {
        let text = attributes(Role::Server, ("GET", "/"), &[("Host", host)]);
        assert!(!text.contains("server."), "{host}: {text}");
    }
}

#[test]
fn authorities() {
    assert_eq!(authority("h"), Some(("h", None)));
    assert_eq!(authority("h:8080"), Some(("h", Some(8080))));
    assert_eq!(authority("h:http"), Some(("h", None)));
    assert_eq!(
        authority("[2001:db8::1]:443"),
        Some(("2001:db8::1", Some(443)))
    );
    assert_eq!(authority("h:70000"), Some(("h", None)));
}

#[test]
fn targets() {
    let origin = Target::of(Some("GET"), "/a?b?c");
    assert_eq!((origin.path, origin.query), (Some("/a"), Some("b?c")));
    // An origin-form target may hold anything after its first slash.
    let inner = Target::of(Some("GET"), "/http://h/?q");
    assert_eq!((inner.authority, inner.path), (None, Some("/http://h/")));
    let absolute = Target::of(Some("GET"), "HTTPS://u:p@h:1?q");
    assert_eq!(absolute.authority, Some("h:1"));
    assert_eq!((absolute.path, absolute.query), (Some("/"), Some("q")));
    assert_eq!(Target::of(Some("CONNECT"), "h:1").authority, Some("h:1"));
    assert_eq!(Target::of(Some("OPTIONS"), "*").path, Some("*"));
}

#[test]
fn long_texts_are_cut_between_characters() {
    let stats = Stats::default();
    for lead in 0..4 {
        let long = format!("{}{}", "x".repeat(lead), "é€😀".repeat(2000));
        let cut = text(long.as_bytes(), MAX_TEXT, &stats);
        assert!(
            long.starts_with(&cut) && cut.len() >= MAX_TEXT - 4,
            "{lead}"
        );
    }
    assert_eq!(stats.protocol_text_cut.get(), 4);
}

#[test]
fn texts_are_cut() {
    const KEEP: usize = 1024;
    let config = config::Config::default();
    let target = format!("/{0}?{0}", "x".repeat(5000));
    let line = Line {
        method: Some("GET"),
        target: Some(&target),
        version: "1.1",
        scheme: Some("http"),
    };
    let agent = [b'u'; 5000];
    let headers = [("User-Agent", &agent[..]), ("tracestate", &agent[..])];
    let stats = Stats::default();
    let request = request(
        "test",
        line,
        headers.into_iter(),
        Role::Server,
        (&config.http, KEEP),
        &stats,
    );
    let length = |key: &str| {
        let found = request.attributes.iter().find(|a| a.key == key);
        match found.map(|a| &a.value) {
            Some(Value::Str(text)) => text.len(),
            _ => 0,
        }
    };
    for key in ["url.path", "url.query", "user_agent.original"] {
        assert_eq!(length(key), KEEP, "{key}");
    }
    assert_eq!(stats.protocol_text_cut.get(), 3);
    // What a trace context says is passed on whole.
    let state = request.carrier.and_then(|carrier| carrier.tracestate);
    assert_eq!(state.map(|text| text.len()), Some(5000));
}

#[test]
fn errors_by_side() {
    let of = |code| {
        let r = response(
            Some(code),
            [].into_iter(),
            (&config::Http::default(), MAX_TEXT),
            &Stats::default(),
        );
        (r.client_error, r.server_error)
    };
    assert_eq!(of(302), (None, None));
    assert_eq!(of(404), (Some("404".into()), None));
    assert_eq!(of(503), (Some("503".into()), Some("503".into())));
}
