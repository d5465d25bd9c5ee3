//! What `spantap doctor -o json` says in a guest, and what it must say on that kernel.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

/// The doctor's answer.
pub struct Report(Value);

impl Report {
    /// Reads it.
    pub fn read(json: &str) -> Result<Self> {
        serde_json::from_str(json)
            .map(Self)
            .with_context(|| format!("spantap doctor -o json wrote {json:?}"))
    }

    /// Prints its rows, and what each program costs the verifier.
    pub fn show(&self, series: &str) {
        for row in self.list("rows") {
            let [feature, state, detail] =
                ["feature", "state", "detail"].map(|name| text(row, name));
            println!("doctor: {feature}: {state}: {detail}");
        }
        for (name, count) in self.programs() {
            println!("program: {series}: {name}: {count:.0} instructions");
        }
    }

    /// Whether it is right: this kernel can be traced, by the path that it has.
    pub fn check(&self, series: &str) -> Result<()> {
        if self.0.get("able").and_then(Value::as_bool) != Some(true) {
            bail!("spantap doctor says that this kernel cannot be traced");
        }
        let release = format!("Linux {series}.");
        let kernel = self.row("kernel")?;
        if !text(kernel, "detail").starts_with(&release) {
            bail!("spantap doctor takes {series} for {kernel}");
        }
        let socket = has_socket_path(series);
        let path = text(self.row("path in use")?, "detail");
        let chosen = path.split(|c: char| !c.is_alphanumeric()).next();
        let want = if socket { "socket" } else { "syscall" };
        if chosen != Some(want) {
            bail!("spantap doctor chooses {path:?} on {series}, which is to use the {want} path");
        }
        let features = [
            ("socket path", socket),
            ("syscall path", true),
            ("TLS (uprobes)", true),
            ("traces to other hosts", socket),
        ];
        for (feature, works) in features {
            let row = self.row(feature)?;
            if (text(row, "state") == "ok") != works {
                bail!("on {series} it is wrong that {row}");
            }
        }
        Ok(())
    }

    /// Instructions of each program that loads: those the verifier walked through where the kernel
    /// tells (5.16 and later), else the program's own.
    pub fn programs(&self) -> BTreeMap<String, f64> {
        let program = |program| {
            let number = |name| Value::as_f64(Value::get(program, name)?);
            let count = number("verified").or_else(|| number("length"))?;
            let path = text(program, "path").replace(' ', "-");
            Some((format!("{path}/{}", text(program, "name")), count))
        };
        self.list("programs").filter_map(program).collect()
    }

    fn row(&self, feature: &str) -> Result<&Value> {
        self.list("rows")
            .find(|row| text(row, "feature") == feature)
            .with_context(|| format!("spantap doctor says nothing of {feature}"))
    }

    fn list(&self, name: &str) -> impl Iterator<Item = &Value> {
        self.0
            .get(name)
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
    }
}

/// Whether a kernel series has the socket path (docs/kernels.md: Linux 6.3 and later).
pub fn has_socket_path(series: &str) -> bool {
    let mut numbers = series
        .split('.')
        .map(|part| part.parse::<u32>().unwrap_or(0));
    (numbers.next(), numbers.next()) >= (Some(6), Some(3))
}

fn text<'a>(object: &'a Value, name: &str) -> &'a str {
    object.get(name).and_then(Value::as_str).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(release: &str, path: &str, socket: &str) -> Report {
        let json = format!(
            r#"{{"able": true, "rows": [
                {{"feature": "kernel", "state": "ok", "detail": "Linux {release}"}},
                {{"feature": "path in use", "state": "ok", "detail": "{path}"}},
                {{"feature": "socket path", "state": "{socket}", "detail": ""}},
                {{"feature": "syscall path", "state": "ok", "detail": ""}},
                {{"feature": "TLS (uprobes)", "state": "ok", "detail": "on"}},
                {{"feature": "traces to other hosts", "state": "{socket}", "detail": ""}}],
              "programs": [
                {{"path": "socket path", "name": "sent", "verified": 9000, "length": 700}},
                {{"path": "syscall path", "name": "returned", "verified": null, "length": 800}}]}}"#
        );
        Report::read(&json).expect("well formed")
    }

    #[test]
    fn the_path_must_be_the_kernels() {
        let old = report("6.1.0-40", "syscall: costs more", "degraded");
        let new = report("6.12.48", "socket", "ok");
        assert!(old.check("6.1").is_ok());
        assert!(new.check("6.12").is_ok());
        // On another kernel the same answers are wrong.
        assert!(new.check("6.1").is_err());
        assert!(report("6.1.0", "socket", "ok").check("6.1").is_err());
        assert!(
            report("6.12.1", "syscall", "degraded")
                .check("6.12")
                .is_err()
        );
        assert!(
            report("6.12.1", "socket", "degraded")
                .check("6.12")
                .is_err()
        );
        assert!(Report::read("{}").expect("JSON").check("6.1").is_err());
        assert!(Report::read("spantap: no").is_err());
    }

    #[test]
    fn programs_are_counted() {
        let programs = report("6.12.48", "socket", "ok").programs();
        assert_eq!(programs["socket-path/sent"], 9000.0);
        assert_eq!(programs["syscall-path/returned"], 800.0);
    }

    #[test]
    fn kernels_have_their_paths() {
        assert!(!has_socket_path("5.10") && !has_socket_path("6.1") && !has_socket_path("6.2"));
        assert!(has_socket_path("6.3") && has_socket_path("6.12") && has_socket_path("7.0"));
    }
}
