//! The command line as a person meets it: what comes out where, and the exit code.

use std::io::{Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::process::{Command, Stdio};

fn spantap(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_spantap"));
    command.args(arguments).env_clear();
    command
}

/// Exit code, standard output, standard error.
fn run(arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = spantap(arguments).output().expect("it starts");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    (
        output.status.code(),
        text(output.stdout),
        text(output.stderr),
    )
}

#[test]
fn data_and_diagnostics_go_their_own_ways() {
    for (arguments, code, out, err) in [
        (&["--help"][..], 0, "Examples:", ""),
        (&["--version"], 0, "spantap ", ""),
        (&["config", "show", "--port", "80"], 0, "ports: [80]", ""),
        (
            &["config", "show", "-o", "json"],
            0,
            "\"origin\": \"default\"",
            "",
        ),
        (&["config", "check"], 0, "right (", ""),
        (
            &["config", "check", "--otlp-endpoint", "c:1"],
            0,
            "1 warning)",
            "no scheme",
        ),
        (
            &["config", "check", "--config", "/nope.yaml"],
            2,
            "",
            "/nope.yaml",
        ),
        (&["agent", "--port", "http"], 2, "", "--port"),
        (&["agent", "--prot", "80"], 2, "", "'--port'"),
        (&["watch", "--status", "fast"], 2, "", "--status"),
        (&["completions", "fish"], 0, "complete", ""),
        (&["man"], 0, ".TH", ""),
        (&["nonsense"], 2, "", "nonsense"),
    ] {
        let (status, stdout, stderr) = run(arguments);
        assert_eq!(status, Some(code), "{arguments:?}: {stderr}");
        for (text, part) in [(&stdout, out), (&stderr, err)] {
            match part {
                "" => assert_eq!(text, "", "{arguments:?}"),
                part => assert!(text.contains(part), "{arguments:?}: {part} in {text}"),
            }
        }
    }
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let mut child = spantap(&["completions", "zsh"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    drop(child.stdout.take());
    let mut said = String::new();
    let mut stderr = child.stderr.take().expect("piped");
    stderr.read_to_string(&mut said).expect("text");
    assert_eq!(child.wait().expect("it ends").code(), Some(0));
    assert_eq!(said, "");
}

/// A standard error that is full or closed loses its lines, and changes no exit code.
#[test]
fn a_standard_error_that_fails_is_no_failure() {
    let full = || std::fs::File::create("/dev/full").expect("Linux has it");
    let (reader, closed) = std::io::pipe().expect("a pipe");
    drop(reader);
    let wrong = ["config", "check", "--config", "/nope.yaml"];
    let odd = ["config", "check", "--otlp-endpoint", "c:1"];
    for (stderr, arguments, code) in [
        (Stdio::from(full()), wrong, 2),
        (Stdio::from(full()), odd, 0),
        (Stdio::from(closed), odd, 0),
    ] {
        let mut command = spantap(&arguments);
        let status = command.stdout(Stdio::null()).stderr(stderr).status();
        assert_eq!(
            status.expect("it starts").code(),
            Some(code),
            "{arguments:?}"
        );
    }
}

/// What `run` starts: waits for its byte, then becomes the command, arguments untouched.
#[test]
fn the_gate_holds_the_command_back_until_told() {
    for (told, command, code, out) in [
        (
            true,
            &["sh", "-c", "echo $0 $@; exit 7", "-a", "--", "b"][..],
            7,
            "-a -- b\n",
        ),
        (true, &["/nope/nope"], 127, ""),
        (true, &["/"], 126, ""),
        (false, &["sh", "-c", "echo started"], 1, ""),
    ] {
        let (gate, mut opener) = std::io::pipe().expect("a pipe");
        let path = format!("/proc/{}/fd/{}", std::process::id(), gate.as_raw_fd());
        let child = spantap(&["exec-when-told", &path, "--"])
            .args(command)
            .env("PATH", "/usr/bin:/bin")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it starts");
        if told {
            opener.write_all(b"!").expect("somebody reads");
        }
        drop(opener);
        let output = child.wait_with_output().expect("it ends");
        assert_eq!(output.status.code(), Some(code), "{command:?}");
        assert_eq!(String::from_utf8_lossy(&output.stdout), out, "{command:?}");
    }
}
