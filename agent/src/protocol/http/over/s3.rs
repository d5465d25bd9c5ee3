//! S3: what is asked of a store that speaks Amazon's API, by the heads alone. Sources: the Amazon S3
//! API reference, <https://docs.aws.amazon.com/AmazonS3/latest/API/>; attributes and names: semantic
//! conventions for S3 and for the AWS SDK (1.42.0).
//!
//! A request is S3's by the scope of its signature (version 4), in its head or, where it was signed
//! beforehand, in its query; and the response has the id of a request. What is not signed stays HTTP.
//!
//! Never true here: that a key's id, a signature or a token is looked at; that an operation or a
//! bucket is told where the host leaves open which of them the path names.

use std::borrow::Cow;

use super::heads::{decoded, parameters};
use super::{Application, Head, Said, Tap};
use crate::protocol::{Attribute, Attributes};

/// The registry's entry.
pub const APPLICATION: &dyn Application = &S3;

#[derive(Debug)]
struct S3;

impl Application for S3 {
    fn asked(&self, head: &Head<'_>) -> Option<Box<dyn Tap>> {
        let region = region(head)?;
        let place = Place::of(head.path(), head.field("host"))?;
        let copies = head.field("x-amz-copy-source").is_some();
        let operation = place.operation(head.method, head.query(), copies)?;
        let mut asked = vec![
            Attribute::fixed("rpc.system.name", "aws-api"),
            Attribute::text("rpc.method", format!("S3/{operation}")),
        ];
        place.describe(operation, &mut asked);
        for (name, value) in parameters(head.query()) {
            match name {
                "uploadId" => asked.push(Attribute::text("aws.s3.upload_id", decoded(value)?)),
                "partNumber" if operation.starts_with("UploadPart") => {
                    let number = value.parse::<u16>().ok()?;
                    asked.push(Attribute::int("aws.s3.part_number", number.into()));
                }
                _ => {}
            }
        }
        if let Some(source) = head.field("x-amz-copy-source") {
            let source = std::str::from_utf8(source).ok().and_then(decoded);
            asked.extend(source.map(|s| Attribute::text("aws.s3.copy_source", s)));
        }
        asked.extend(region.map(|r| Attribute::text("cloud.region", r.to_owned())));
        Some(Box::new(Call { operation, asked }))
    }
}

/// One call.
#[derive(Debug)]
struct Call {
    operation: &'static str,
    /// What is told once the answer is S3's too.
    asked: Attributes,
}

impl Tap for Call {
    fn answered(&mut self, head: &Head<'_>, said: &mut Said) -> bool {
        let ids = ["x-amz-request-id", "x-amzn-requestid", "x-amzn-request-id"];
        let Some(id) = ids.iter().find_map(|name| head.field(name)) else {
            return false;
        };
        said.name = Some(Cow::Owned(format!("S3.{}", self.operation)));
        said.asked.append(&mut self.asked);
        let answered = said.answered.get_or_insert_default();
        let mut put = |key, value: &[u8]| {
            if let Ok(value) = std::str::from_utf8(value) {
                answered
                    .attributes
                    .push(Attribute::text(key, value.to_owned()));
            }
        };
        put("aws.request_id", id);
        if let Some(id) = head.field("x-amz-id-2") {
            put("aws.extended_request_id", id);
        }
        // Nothing of a body is wanted.
        true
    }

    fn weight(&self) -> usize {
        crate::protocol::weight(&self.asked)
    }
}

/// The region of a request that is signed for S3; a signature may be for several, and name none.
fn region<'a>(head: &Head<'a>) -> Option<Option<&'a str>> {
    let scope = match head.field("authorization") {
        Some(signed) => {
            let signed = std::str::from_utf8(signed.strip_prefix(b"AWS4-")?).ok()?;
            let (_, scope) = signed.split_once("Credential=")?;
            scope.split([',', ' ']).next()?
        }
        None => {
            let mut all = parameters(head.query());
            all.find(|(name, _)| *name == "X-Amz-Credential")?.1
        }
    };
    // As it is, or percent-encoded.
    let separator = if scope.contains('/') { "/" } else { "%2F" };
    let scope = scope.strip_suffix("aws4_request")?;
    let scope = scope.strip_suffix(separator)?.strip_suffix("s3")?;
    let scope = scope.strip_suffix(separator)?;
    let last = scope.rsplit(separator).next()?;
    let named = last.bytes().any(|b| b.is_ascii_alphabetic());
    Some(
        named
            .then_some(last)
            .filter(|last| last.len() <= LONGEST_REGION),
    )
}

/// What a request names, by its host and path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place<'a> {
    /// The bucket, where the host names it.
    hosted: Option<&'a str>,
    /// Whether the host is one that has no bucket in its name.
    plain: bool,
    /// The path behind its first `/`.
    path: &'a str,
}

/// What part of a store an operation is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Level {
    Service,
    Bucket,
    Object,
}

impl<'a> Place<'a> {
    fn of(path: &'a str, host: Option<&'a [u8]>) -> Option<Self> {
        let path = path.strip_prefix('/')?;
        let host = std::str::from_utf8(host?).ok()?;
        let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
        // The labels before the service's own: `bucket.s3.eu-central-1.amazonaws.com`.
        let mut at = 0_usize;
        let mut service = None;
        for label in name.split('.') {
            if label == "s3" || label.starts_with("s3-") {
                service = Some(at);
                break;
            }
            at = at.saturating_add(label.len()).saturating_add(1);
        }
        let hosted = match service {
            Some(at) => name
                .get(..at.saturating_sub(1))
                .filter(|name| !name.is_empty()),
            None => None,
        };
        let address = name.starts_with('[') || name.parse::<std::net::Ipv4Addr>().is_ok();
        let plain = service.is_some() || address || !name.contains('.');
        Some(Self {
            hosted,
            plain,
            path,
        })
    }

    /// Bucket and key, where the path begins with the bucket.
    fn split(&self) -> (&'a str, &'a str) {
        self.path.split_once('/').unwrap_or((self.path, ""))
    }

    fn level(&self) -> Level {
        let (bucket, key) = self.split();
        match self.hosted {
            Some(_) if self.path.is_empty() => Level::Bucket,
            Some(_) => Level::Object,
            None if bucket.is_empty() => Level::Service,
            None if key.is_empty() => Level::Bucket,
            None => Level::Object,
        }
    }

    fn operation(&self, method: &str, query: &str, copies: bool) -> Option<&'static str> {
        let asks = Asks::of(query)?;
        let level = self.level();
        let sure = self.plain || level == Level::Object || asks.is_of_buckets();
        let operation = operation(level, method, asks, copies);
        operation.filter(|_| sure)
    }

    fn describe(&self, operation: &str, out: &mut Attributes) {
        let (bucket, key) = match self.hosted {
            Some(bucket) => (Some(bucket), Some(self.path)),
            None if self.plain || self.level() == Level::Bucket => {
                let (bucket, key) = self.split();
                (Some(bucket), Some(key))
            }
            None => (None, None),
        };
        let mut put = |name, value: Option<&str>| {
            let value = value.filter(|value| !value.is_empty()).and_then(decoded);
            out.extend(value.map(|value| Attribute::text(name, value)));
        };
        if operation != "ListBuckets" {
            put("aws.s3.bucket", bucket);
            put("aws.s3.key", key);
        }
    }
}

/// What a query asks for besides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asks<'a> {
    /// Nothing that makes it another operation.
    Plain,
    /// A part of what the path names (`?acl`).
    Part(&'a str),
    /// The second form of a list.
    List,
    /// A multipart upload, or a part of it.
    Upload { part: bool },
}

impl<'a> Asks<'a> {
    /// `None` where that is two things at once.
    fn of(query: &'a str) -> Option<Self> {
        let mut asks = Self::Plain;
        let mut part = false;
        for (name, value) in parameters(query) {
            let next = match name {
                "partNumber" => {
                    part = true;
                    continue;
                }
                "list-type" if value == "2" => Self::List,
                "uploadId" => Self::Upload { part },
                _ if is_detail(name) => continue,
                _ => Self::Part(name),
            };
            if asks != Self::Plain {
                return None;
            }
            asks = next;
        }
        Some(match asks {
            Self::Upload { .. } => Self::Upload { part },
            asks => asks,
        })
    }

    /// Whether nothing but a bucket can be asked this.
    fn is_of_buckets(self) -> bool {
        match self {
            Self::List => true,
            Self::Part(part) => OF_BUCKETS.contains(&part),
            Self::Plain | Self::Upload { .. } => false,
        }
    }
}

fn operation(level: Level, method: &str, asks: Asks<'_>, copies: bool) -> Option<&'static str> {
    use Level::{Bucket, Object, Service};
    let name = match (level, method, asks) {
        (Service, "GET", Asks::Plain) => "ListBuckets",
        (Bucket, "GET", Asks::List) => "ListObjectsV2",
        (Bucket, "GET", Asks::Plain) => "ListObjects",
        (Bucket, "PUT", Asks::Plain) => "CreateBucket",
        (Bucket, "DELETE", Asks::Plain) => "DeleteBucket",
        (Bucket, "HEAD", Asks::Plain) => "HeadBucket",
        (Object, "GET", Asks::Plain) => "GetObject",
        (Object, "HEAD", Asks::Plain) => "HeadObject",
        (Object, "PUT", Asks::Plain) if copies => "CopyObject",
        (Object, "PUT", Asks::Plain) => "PutObject",
        (Object, "DELETE", Asks::Plain) => "DeleteObject",
        (Object, "GET", Asks::Upload { part: false }) => "ListParts",
        (Object, "PUT", Asks::Upload { part: true }) if copies => "UploadPartCopy",
        (Object, "PUT", Asks::Upload { part: true }) => "UploadPart",
        (Object, "POST", Asks::Upload { part: false }) => "CompleteMultipartUpload",
        (Object, "DELETE", Asks::Upload { part: false }) => "AbortMultipartUpload",
        (level, method, Asks::Part(part)) => {
            let is = |known: &&(Level, &str, &str, &str)| {
                (known.0, known.1, known.2) == (level, method, part)
            };
            OPERATIONS.iter().find(is)?.3
        }
        _ => return None,
    };
    Some(name)
}

/// Whether a name in a query leaves the operation what it is. Amazon adds parts as time goes by: what
/// is not known here makes it another one. So does a source that is named here: it may be a copy.
fn is_detail(name: &str) -> bool {
    let begins = |prefix: &str| {
        let first = name.get(..prefix.len());
        first.is_some_and(|first| first.eq_ignore_ascii_case(prefix))
    };
    DETAILS.contains(&name)
        || begins("response-")
        || begins("x-amz-") && !begins("x-amz-copy-source")
}

/// Such names: of lists, of versions, and what clients say for themselves.
const DETAILS: [&str; 19] = [
    "bucket-region",
    "continuation-token",
    "delimiter",
    "encoding-type",
    "fetch-owner",
    "key-marker",
    "marker",
    "max-buckets",
    "max-keys",
    "max-parts",
    "max-uploads",
    "part-number-marker",
    "prefix",
    "select-type",
    "start-after",
    "upload-id-marker",
    "version-id-marker",
    "versionId",
    "x-id",
];
/// Parts that no object has.
const OF_BUCKETS: [&str; 11] = [
    "cors",
    "delete",
    "encryption",
    "lifecycle",
    "location",
    "notification",
    "object-lock",
    "policy",
    "versioning",
    "versions",
    "website",
];
const OPERATIONS: [(Level, &str, &str, &str); 36] = [
    (Level::Bucket, "POST", "delete", "DeleteObjects"),
    (Level::Bucket, "GET", "uploads", "ListMultipartUploads"),
    (Level::Bucket, "GET", "versions", "ListObjectVersions"),
    (Level::Bucket, "GET", "location", "GetBucketLocation"),
    (Level::Bucket, "GET", "acl", "GetBucketAcl"),
    (Level::Bucket, "PUT", "acl", "PutBucketAcl"),
    (Level::Bucket, "GET", "cors", "GetBucketCors"),
    (Level::Bucket, "PUT", "cors", "PutBucketCors"),
    (Level::Bucket, "DELETE", "cors", "DeleteBucketCors"),
    (Level::Bucket, "GET", "encryption", "GetBucketEncryption"),
    (Level::Bucket, "PUT", "encryption", "PutBucketEncryption"),
    (
        Level::Bucket,
        "DELETE",
        "encryption",
        "DeleteBucketEncryption",
    ),
    (
        Level::Bucket,
        "GET",
        "lifecycle",
        "GetBucketLifecycleConfiguration",
    ),
    (
        Level::Bucket,
        "PUT",
        "lifecycle",
        "PutBucketLifecycleConfiguration",
    ),
    (
        Level::Bucket,
        "DELETE",
        "lifecycle",
        "DeleteBucketLifecycle",
    ),
    (
        Level::Bucket,
        "GET",
        "object-lock",
        "GetObjectLockConfiguration",
    ),
    (
        Level::Bucket,
        "PUT",
        "object-lock",
        "PutObjectLockConfiguration",
    ),
    (Level::Bucket, "GET", "policy", "GetBucketPolicy"),
    (Level::Bucket, "PUT", "policy", "PutBucketPolicy"),
    (Level::Bucket, "DELETE", "policy", "DeleteBucketPolicy"),
    (Level::Bucket, "GET", "tagging", "GetBucketTagging"),
    (Level::Bucket, "PUT", "tagging", "PutBucketTagging"),
    (Level::Bucket, "DELETE", "tagging", "DeleteBucketTagging"),
    (Level::Bucket, "GET", "versioning", "GetBucketVersioning"),
    (Level::Bucket, "PUT", "versioning", "PutBucketVersioning"),
    (Level::Object, "POST", "uploads", "CreateMultipartUpload"),
    (Level::Object, "GET", "acl", "GetObjectAcl"),
    (Level::Object, "PUT", "acl", "PutObjectAcl"),
    (Level::Object, "GET", "attributes", "GetObjectAttributes"),
    (Level::Object, "GET", "retention", "GetObjectRetention"),
    (Level::Object, "PUT", "retention", "PutObjectRetention"),
    (Level::Object, "GET", "tagging", "GetObjectTagging"),
    (Level::Object, "PUT", "tagging", "PutObjectTagging"),
    (Level::Object, "DELETE", "tagging", "DeleteObjectTagging"),
    (Level::Object, "POST", "restore", "RestoreObject"),
    (Level::Object, "POST", "select", "SelectObjectContent"),
];
/// Longest name of a region that is believed.
const LONGEST_REGION: usize = 32;

#[cfg(test)]
mod tests {
    use super::super::bench::{Fields, of_heads};
    use super::*;

    const SIGNED: (&str, &str) = (
        "authorization",
        "AWS4-HMAC-SHA256 Credential=AKID/20260101/eu-central-1/s3/aws4_request, \
         SignedHeaders=host, Signature=abc",
    );
    const ANSWERED: Fields<'_> = &[("x-amz-request-id", "4442587FB7D0A2F9")];

    /// Operation, bucket and key of a signed request.
    fn asked(host: &str, line: &str) -> String {
        let fields = [("host", host), SIGNED];
        let said = of_heads(APPLICATION, line, &fields, (200, ANSWERED));
        let Some(said) = said else {
            return "-".into();
        };
        let value = |key: &str| {
            let found = said.iter().find_map(|line| line.strip_prefix(key));
            found
                .and_then(|rest| rest.strip_prefix(" = "))
                .unwrap_or("-")
        };
        let operation = value("name").trim_start_matches("S3.");
        assert_eq!(value("rpc.method"), format!("S3/{operation}"));
        format!(
            "{operation} {} {}",
            value("aws.s3.bucket"),
            value("aws.s3.key")
        )
    }

    #[test]
    fn operations_follow_from_method_path_and_query() {
        for (line, want) in [
            ("GET /", "ListBuckets - -"),
            ("GET /?x-id=ListBuckets", "ListBuckets - -"),
            ("PUT /b", "CreateBucket b -"),
            ("PUT /b/", "CreateBucket b -"),
            ("HEAD /b", "HeadBucket b -"),
            ("GET /b?list-type=2&prefix=acl", "ListObjectsV2 b -"),
            ("GET /b?prefix=x", "ListObjects b -"),
            ("GET /b?location", "GetBucketLocation b -"),
            ("POST /b?delete=", "DeleteObjects b -"),
            (
                "PUT /b/a%20key/%C3%A4?x-id=PutObject",
                "PutObject b a key/ä",
            ),
            ("GET /b/k?versionId=1", "GetObject b k"),
            ("GET /b/k?partNumber=3", "GetObject b k"),
            ("HEAD /b/k", "HeadObject b k"),
            ("DELETE /b/k", "DeleteObject b k"),
            ("POST /b/k?uploads", "CreateMultipartUpload b k"),
            ("PUT /b/k?uploadId=u&partNumber=7", "UploadPart b k"),
            ("POST /b/k?uploadId=u", "CompleteMultipartUpload b k"),
            ("DELETE /b/k?uploadId=u", "AbortMultipartUpload b k"),
            ("GET /b/k?uploadId=u", "ListParts b k"),
            ("GET /b/k?tagging", "GetObjectTagging b k"),
            ("PATCH /b/k", "-"),
            (
                "GET /b/k?versionId=1&response-content-type=x",
                "GetObject b k",
            ),
            ("GET /b?prefix=x&marker=m&max-keys=2", "ListObjects b -"),
            ("GET /b/k?acl&versionId=1", "GetObjectAcl b k"),
            // What is asked for is none of what is known here, or two things at once.
            ("PUT /b?logging", "-"),
            ("DELETE /b?replication", "-"),
            ("GET /b?inventory&id=1", "-"),
            ("PUT /b?accelerate", "-"),
            ("GET /b/k?torrent", "-"),
            ("GET /b?session", "-"),
            ("GET /b?list-type=3", "-"),
            ("GET /b/k?acl&tagging", "-"),
            ("GET /b/k?acl&uploadId=u", "-"),
            ("PUT /b/k?x-amz-copy-source=%2Fb%2Fl", "-"),
            ("POST /b/k?unheard-of", "-"),
            ("GET /b/k%ff", "GetObject b -"),
        ] {
            assert_eq!(asked("localhost:9000", line), want, "{line}");
        }
    }

    #[test]
    fn a_bucket_is_told_where_it_is_sure() {
        for (host, line, want) in [
            (
                "b.s3.eu-central-1.amazonaws.com",
                "GET /k/l",
                "GetObject b k/l",
            ),
            (
                "b.c.s3-eu-west-1.amazonaws.com",
                "PUT /k",
                "PutObject b.c k",
            ),
            (
                "b.s3.amazonaws.com",
                "GET /?list-type=2",
                "ListObjectsV2 b -",
            ),
            ("s3.amazonaws.com", "GET /b/k", "GetObject b k"),
            ("s3.example.com:9000", "PUT /b", "CreateBucket b -"),
            ("127.0.0.1:9000", "GET /b/k", "GetObject b k"),
            ("[::1]:9000", "GET /b/k", "GetObject b k"),
            ("minio", "GET /b/k", "GetObject b k"),
            // The host may be a bucket's.
            ("store.example.com", "GET /b/k", "GetObject - -"),
            ("store.example.com", "GET /b", "-"),
            ("store.example.com", "PUT /b", "-"),
            (
                "store.example.com",
                "GET /b?list-type=2",
                "ListObjectsV2 b -",
            ),
            ("store.example.com", "GET /", "-"),
        ] {
            assert_eq!(asked(host, line), want, "{host} {line}");
        }
    }

    #[test]
    fn both_halves_must_be_its() {
        let line = "GET /b/k";
        let host = ("host", "localhost");
        let is = |fields: Fields<'_>, line: &str, answer: Fields<'_>| {
            of_heads(APPLICATION, line, fields, (200, answer)).is_some()
        };
        assert!(is(&[host, SIGNED], line, ANSWERED));
        assert!(!is(&[host, SIGNED], line, &[("server", "nginx")]));
        assert!(!is(&[host], line, ANSWERED));
        let other = SIGNED.1.replace("/s3/", "/dynamodb/");
        assert!(!is(&[host, ("authorization", &other)], line, ANSWERED));
        assert!(!is(&[host, ("authorization", "Bearer x")], line, ANSWERED));
        let presigned = "GET /b/k?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=\
                         AKID%2F20260101%2Fus-east-1%2Fs3%2Faws4_request&X-Amz-Signature=abc";
        assert!(is(&[host], presigned, ANSWERED));
        let said = of_heads(APPLICATION, presigned, &[host], (404, ANSWERED)).expect("S3's");
        assert_eq!(
            said,
            [
                "name = S3.GetObject",
                "rpc.system.name = aws-api",
                "rpc.method = S3/GetObject",
                "aws.s3.bucket = b",
                "aws.s3.key = k",
                "cloud.region = us-east-1",
                "aws.request_id = 4442587FB7D0A2F9",
            ]
        );
    }

    #[test]
    fn no_secret_is_told() {
        let fields = [
            ("host", "localhost"),
            SIGNED,
            ("x-amz-security-token", "secret-token"),
            ("x-amz-copy-source", "/b/from%20here"),
        ];
        let line = "PUT /b/k?uploadId=an%20id&partNumber=2";
        let said = of_heads(APPLICATION, line, &fields, (200, ANSWERED)).expect("S3's");
        let all = said.join("\n");
        for secret in ["AKID", "abc", "secret-token"] {
            assert!(!all.contains(secret), "{all}");
        }
        for told in [
            "rpc.method = S3/UploadPartCopy",
            "aws.s3.upload_id = an id",
            "aws.s3.part_number = 2",
            "aws.s3.copy_source = /b/from here",
            "cloud.region = eu-central-1",
        ] {
            assert!(all.contains(told), "{told}: {all}");
        }
    }
}
