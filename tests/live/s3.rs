//! S3: a store that speaks its API (versitygw), asked by boto3 and by @aws-sdk/client-s3.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use spantap_tests::agent::Capture;
use spantap_tests::process::free_port;
use spantap_tests::program::Setup;
use spantap_tests::{Case, Deed, Span, Stage, install};

use crate::deeds::{Cell, Way};

/// All of them.
pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for driver in DRIVERS {
        // What an older connection needs is the same for all.
        let ways: &[Way] = match driver.0 {
            "boto3" => &[Way::OLD, Way::NEW, Way::NEW.by(Capture::Syscall)],
            _ => &[Way::NEW],
        };
        for &way in ways {
            cases.push(way.case("s3", driver.0, move |stage| run(stage, driver, way)));
        }
    }
    cases
}

/// How a driver is started, but for its arguments.
type Program = fn(&Path) -> Result<Setup>;

const DRIVERS: &[(&str, Program)] = &[("boto3", boto), ("node", node)];

fn boto(folder: &Path) -> Result<Setup> {
    let (file, _) = install::app("s3/client.py")?;
    let python = install::python_of("s3", &[])?.join("python");
    Ok(Setup::new("python", folder, python).arg(file))
}

fn node(folder: &Path) -> Result<Setup> {
    let folder_of = install::modules("node-s3", "s3", &["client.js"])?;
    Ok(Setup::new("node", folder, "node").arg(folder_of.join("client.js")))
}

fn run(stage: &mut Stage, (name, program): &(&str, Program), way: Way) -> Result<()> {
    let port = free_port()?;
    let store = install::go_build("go-s3", "s3", &["main.go", "go.mod", "go.sum"])?;
    let server = Setup::new("versitygw", &stage.folder, store).arg(format!("127.0.0.1:{port}"));
    let server = server.arg(stage.folder.join("store")).port(port).start()?;
    let signed = stage.folder.join("signed");
    let driver = program(&stage.folder)?
        .arg(format!("http://127.0.0.1:{port}"))
        .arg(&signed);
    let agent = stage.agent()?.ports(&[port]);
    let cell = Cell::new("s3", name, &server, way);
    let spans = cell.run(stage, agent, driver, &deeds(way.before))?;
    unsigned(stage, &spans, &fs::read_to_string(signed)?)
}

/// What signs this URL is replaced in every span; both of its ends are seen to have had it.
fn unsigned(stage: &mut Stage, spans: &[Span], signed: &str) -> Result<()> {
    for name in ["X-Amz-Signature", "X-Amz-Credential"] {
        let (_, value) = signed
            .split_once(&format!("{name}="))
            .with_context(|| format!("no {name} in {signed}"))?;
        let value = value.split('&').next().unwrap_or_default();
        stage.check(value.len() > 16, || format!("{name} is {value}"));
        let replaced = format!("{name}=REDACTED");
        let mut had = 0;
        for span in spans {
            let told = format!("{:?}", span.attributes);
            stage.check(!told.contains(value), || format!("{name}: {told}"));
            had += usize::from(told.contains(&replaced));
        }
        stage.check(had == 2, || format!("{had} spans have {replaced}"));
    }
    Ok(())
}

/// What both clients do.
fn deeds(before: bool) -> Vec<Deed> {
    let plain = "a key/ä";
    let part = of("UploadPart", "big").with("aws.s3.part_number", 1);
    let mut deeds = vec![
        of_bucket("CreateBucket"),
        of("PutObject", plain),
        of("GetObject", plain),
        // Signed beforehand.
        of("GetObject", plain),
        of("HeadObject", plain),
        of("CopyObject", "copy").with("aws.s3.copy_source", "first/a key/ä"),
        of_bucket("ListObjectsV2"),
        of("CreateMultipartUpload", "big"),
        part,
        of("CompleteMultipartUpload", "big"),
        of("CreateMultipartUpload", "none"),
        of("AbortMultipartUpload", "none"),
        of("GetObject", "absent")
            .with("http.response.status_code", 404)
            .fails_client("404"),
        of("DeleteObject", "big"),
        of_bucket("DeleteObjects"),
        of_bucket("DeleteBucket"),
    ];
    if !before {
        deeds.push(call("ListBuckets").without("aws.s3.bucket"));
    }
    deeds
}

fn of(operation: &str, key: &str) -> Deed {
    of_bucket(operation).with("aws.s3.key", key)
}

fn of_bucket(operation: &str) -> Deed {
    call(operation).with("aws.s3.bucket", "first")
}

fn call(operation: &str) -> Deed {
    let attributes = [
        ("rpc.system.name", "aws-api".to_owned()),
        ("rpc.method", format!("S3/{operation}")),
        ("cloud.region", "eu-central-1".to_owned()),
        ("network.protocol.name", "http".to_owned()),
    ];
    Deed::new(&format!("S3.{operation}"), attributes)
}
