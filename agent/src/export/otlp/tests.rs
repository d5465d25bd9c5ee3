//! Against a receiver in this process: what is sent, and how each answer is taken.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tonic::Code;
use tonic_types::{ErrorDetails, StatusExt};

use super::Otlp;
use crate::config::Protocol::{self, Grpc, HttpProtobuf};
use crate::export::receiver::{Pki, Receiver, Reply};
use crate::export::tests::{otlp, spans};
use crate::export::{Answer, Exporter};

const BOTH: [Protocol; 2] = [HttpProtobuf, Grpc];

fn sent() -> Answer {
    Answer::Sent {
        rejected: 0,
        warning: String::new(),
    }
}

/// What one attempt that meets `reply` comes to.
async fn attempt(protocol: Protocol, reply: Reply) -> Answer {
    let receiver = Receiver::start([reply]).await;
    let mut exporter = Otlp::new(&otlp(&receiver, protocol)).unwrap();
    exporter.export(&spans(1, 2)).await
}

#[tokio::test]
async fn sends_spans_with_headers_and_gzip() {
    for protocol in BOTH {
        for gzip in [false, true] {
            let receiver = Receiver::start([]).await;
            let mut config = otlp(&receiver, protocol);
            config.gzip = gzip;
            config.headers = vec![("X-Token".to_owned(), "s3cret, yes".to_owned())];
            let mut exporter = Otlp::new(&config).unwrap();
            // The second goes over the same connection.
            assert_eq!(exporter.export(&spans(1, 3)).await, sent());
            assert_eq!(exporter.export(&spans(4, 200)).await, sent());
            let log = receiver.log.lock().unwrap();
            assert_eq!(log.spans(), 203);
            let service = log.traces[0].resource_spans[0].clone();
            assert_eq!(service.resource.unwrap().attributes[0].key, "service.name");
            let headers = &log.headers[1];
            assert_eq!(headers["x-token"], "s3cret, yes");
            let agent = headers["user-agent"].to_str().unwrap();
            assert!(
                agent.starts_with("OTel-OTLP-Exporter-spantap/0."),
                "{agent}"
            );
            let encoding = match protocol {
                HttpProtobuf => headers.get("content-encoding"),
                Grpc => headers.get("grpc-encoding"),
            };
            assert_eq!(encoding.is_some(), gzip);
        }
    }
}

#[tokio::test]
async fn http_statuses() {
    for status in [429, 502, 503, 504] {
        let answer = attempt(HttpProtobuf, Reply::Http(status, "x", "y")).await;
        assert!(
            matches!(answer, Answer::Later { after: None, .. }),
            "{status}: {answer:?}"
        );
    }
    for status in [301, 307, 400, 401, 403, 404, 413, 500, 501] {
        // A redirect is not followed, though it leads to a place that would take the spans.
        let answer = attempt(HttpProtobuf, Reply::Http(status, "location", "/v1/traces")).await;
        assert!(matches!(answer, Answer::Refused(_)), "{status}: {answer:?}");
    }
}

#[tokio::test]
async fn retry_after() {
    let seconds = attempt(HttpProtobuf, Reply::Http(503, "retry-after", "7")).await;
    assert!(matches!(seconds, Answer::Later { after: Some(after), .. } if after.as_secs() == 7));
    let far = "Fri, 31 Dec 2100 23:59:59 GMT";
    let date = attempt(HttpProtobuf, Reply::Http(429, "retry-after", far)).await;
    assert!(matches!(date, Answer::Later { after: Some(after), .. } if after.as_secs() > 1 << 30));
    let past = "Sun, 06 Nov 1994 08:49:37 GMT";
    let date = attempt(HttpProtobuf, Reply::Http(429, "retry-after", past)).await;
    assert!(matches!(
        date,
        Answer::Later {
            after: Some(Duration::ZERO),
            ..
        }
    ));
    let odd = attempt(HttpProtobuf, Reply::Http(429, "retry-after", "soon")).await;
    assert!(matches!(odd, Answer::Later { after: None, .. }));
}

#[tokio::test]
async fn grpc_statuses() {
    use Code::*;
    let codes = [
        (Cancelled, true),
        (DeadlineExceeded, true),
        (Aborted, true),
        (OutOfRange, true),
        (Unavailable, true),
        (DataLoss, true),
        (ResourceExhausted, false),
        (Unknown, false),
        (InvalidArgument, false),
        (NotFound, false),
        (AlreadyExists, false),
        (PermissionDenied, false),
        (FailedPrecondition, false),
        (Unimplemented, false),
        (Internal, false),
        (Unauthenticated, false),
    ];
    for (code, again) in codes {
        let answer = attempt(Grpc, Reply::Grpc(tonic::Status::new(code, "because"))).await;
        let (Answer::Later { why, .. } | Answer::Refused(why)) = &answer else {
            panic!("{code:?}: {answer:?}");
        };
        assert!(why.contains("because"), "{why}");
        assert_eq!(
            matches!(answer, Answer::Later { .. }),
            again,
            "{code:?}: {answer:?}"
        );
    }
    let details = ErrorDetails::with_retry_info(Some(Duration::from_secs(3)));
    let busy = tonic::Status::with_error_details(ResourceExhausted, "busy", details);
    let answer = attempt(Grpc, Reply::Grpc(busy)).await;
    assert!(matches!(answer, Answer::Later { after: Some(after), .. } if after.as_secs() == 3));
}

#[tokio::test]
async fn partial_success() {
    for protocol in BOTH {
        let answer = attempt(protocol, Reply::Partial(1, "too long")).await;
        let warning = "too long".to_owned();
        assert_eq!(
            answer,
            Answer::Sent {
                rejected: 1,
                warning
            }
        );
    }
}

#[tokio::test]
async fn an_endless_answer_is_cut() {
    let answer = attempt(HttpProtobuf, Reply::Body(8 << 20)).await;
    assert_eq!(answer, sent());
}

#[tokio::test]
async fn nobody_there_and_nobody_answering() {
    for protocol in BOTH {
        let receiver = Receiver::start([Reply::Hang]).await;
        let mut config = otlp(&receiver, protocol);
        config.timeout = Duration::from_millis(200);
        let mut exporter = Otlp::new(&config).unwrap();
        let answer = exporter.export(&spans(1, 1)).await;
        assert!(matches!(answer, Answer::Later { .. }), "{answer:?}");
        drop(receiver);
        config.timeout = Duration::from_secs(10);
        let mut exporter = Otlp::new(&config).unwrap();
        let answer = exporter.export(&spans(1, 1)).await;
        assert!(matches!(answer, Answer::Later { .. }), "{answer:?}");
    }
}

#[tokio::test]
async fn tls_and_mutual_tls() {
    let folder = tempfolder();
    let pki = Pki::new();
    let root = folder.join("root.pem");
    std::fs::write(&root, pki.root()).unwrap();
    let (certificate, key) = pki.issue("client");
    let (client, client_key) = (folder.join("client.pem"), folder.join("client.key"));
    std::fs::write(&client, certificate.pem()).unwrap();
    std::fs::write(&client_key, key.serialize_pem()).unwrap();
    let stranger = folder.join("stranger.pem");
    std::fs::write(&stranger, Pki::new().root()).unwrap();
    for protocol in BOTH {
        for mutual in [false, true] {
            let receiver = Receiver::with("127.0.0.1:0", [], Some(pki.acceptor(mutual))).await;
            let mut config = otlp(&receiver, protocol);
            config.endpoint = config
                .endpoint
                .replace("http://127.0.0.1", "https://localhost");
            config.certificate = Some(stranger.clone());
            let answer = Otlp::new(&config).unwrap().export(&spans(1, 1)).await;
            assert!(
                matches!(answer, Answer::Later { .. }),
                "whom we do not trust: {answer:?}"
            );
            config.certificate = Some(root.clone());
            let answer = Otlp::new(&config).unwrap().export(&spans(1, 1)).await;
            assert_eq!(
                answer == sent(),
                !mutual,
                "{protocol:?} {mutual} {answer:?}"
            );
            config.client_certificate = Some(client.clone());
            config.client_key = Some(client_key.clone());
            let answer = Otlp::new(&config).unwrap().export(&spans(1, 1)).await;
            assert_eq!(answer, sent(), "{protocol:?} {mutual}");
        }
    }
    std::fs::remove_dir_all(folder).unwrap();
}

fn tempfolder() -> std::path::PathBuf {
    let folder = std::env::temp_dir().join(format!("spantap-otlp-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

/// What a gRPC server says first is HTTP/2 and reads like nothing.
#[tokio::test]
async fn a_grpc_port_that_is_asked_over_http_is_hinted_at() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let settings = b"\0\0\x06\x04\0\0\0\0\0\0\x05\0\0\x40\0";
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.read_buf(&mut Vec::new()).await.unwrap();
        stream.write_all(settings).await.unwrap();
        stream
    });
    let mut config = otlp(&Receiver::start([]).await, HttpProtobuf);
    config.endpoint = format!("http://{address}/v1/traces");
    let answer = Otlp::new(&config).unwrap().export(&spans(1, 1)).await;
    let Answer::Later { why, .. } = answer else {
        panic!("{answer:?}");
    };
    assert!(why.contains("--otlp-protocol grpc"), "{why}");
    drop(server);
}
