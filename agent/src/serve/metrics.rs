//! The counters in Prometheus's text format, version 0.0.4, which every scraper reads; OpenMetrics
//! would tell nothing more of them (docs/decisions/0034-metrics.md).

use std::fmt::{Display, Write as _};
use std::sync::OnceLock;

use crate::stats::{GAUGES, Stats};

/// The content type.
pub const KIND: &str = "text/plain; version=0.0.4; charset=utf-8";

/// All there is to tell.
pub fn text(stats: &Stats, ready: bool) -> String {
    let mut out = String::with_capacity(LENGTH);
    for (name, what, value) in stats.read() {
        let named = format!("spantap_{}", name.replace('.', "_"));
        match GAUGES.contains(&name) {
            true => family(&mut out, (&named, "gauge", what), "", value),
            false => family(
                &mut out,
                (&format!("{named}_total"), "counter", what),
                "",
                value,
            ),
        }
    }
    let build = ("spantap_build_info", "gauge", "The version that runs.");
    let version = concat!("{version=\"", env!("CARGO_PKG_VERSION"), "\"}");
    family(&mut out, build, version, 1);
    let what =
        "Whether everything is attached and spans find room on their way out, as /readyz says.";
    family(
        &mut out,
        ("spantap_ready", "gauge", what),
        "",
        u8::from(ready),
    );
    if let Some(process) = Process::look() {
        process.tell(&mut out);
    }
    out
}

fn family(out: &mut String, about: (&str, &str, &str), labels: &str, value: impl Display) {
    let (name, kind, what) = about;
    // Backslashes and ends of lines are written as in C.
    let what = what.trim().replace('\\', "\\\\").replace('\n', "\\n");
    let _ = write!(
        out,
        "# HELP {name} {what}\n# TYPE {name} {kind}\n{name}{labels} {value}\n"
    );
}

/// What all programs tell of themselves, by the names that Prometheus's own libraries use.
struct Process {
    /// Seconds of CPU.
    cpu: f64,
    /// Bytes of memory.
    resident: u64,
    /// Since 1970, seconds.
    start: f64,
}

impl Process {
    /// None where /proc is not there, or not as it is known.
    fn look() -> Option<Self> {
        let own = procfs::process::Process::myself().ok()?.stat().ok()?;
        let seconds = |ticks: u64| ticks as f64 / procfs::ticks_per_second() as f64;
        // The file that has it has all interrupts, too, and is long.
        static BOOT: OnceLock<Option<u64>> = OnceLock::new();
        let boot = (*BOOT.get_or_init(|| procfs::boot_time_secs().ok()))?;
        Some(Self {
            cpu: seconds(own.utime.saturating_add(own.stime)),
            resident: own.rss.saturating_mul(procfs::page_size()),
            start: boot as f64 + seconds(own.starttime),
        })
    }

    fn tell(&self, out: &mut String) {
        let cpu = "CPU time of all its threads, in seconds.";
        let resident = "Memory that is resident, in bytes.";
        let start = "When it was started, in seconds since 1970.";
        family(
            out,
            ("process_cpu_seconds_total", "counter", cpu),
            "",
            self.cpu,
        );
        let name = "process_resident_memory_bytes";
        family(out, (name, "gauge", resident), "", self.resident);
        family(
            out,
            ("process_start_time_seconds", "gauge", start),
            "",
            self.start,
        );
    }
}

/// About what it comes to.
const LENGTH: usize = 48 * 1024;

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::SystemTime;

    use super::*;

    /// Of each name its kind and value, where all is as the format wants it.
    fn read(text: &str) -> BTreeMap<&str, (&str, f64)> {
        let mut families = BTreeMap::new();
        let lines: Vec<&str> = text.lines().collect();
        assert!(text.ends_with('\n'));
        for family in lines.chunks(3) {
            let &[help, kind, value] = family else {
                panic!("not three lines: {family:?}");
            };
            let (sample, value) = value.split_once(' ').expect("a value");
            let name = sample.split('{').next().expect("a name");
            let legal = |c: char| c.is_ascii_alphanumeric() || c == '_';
            assert!(name.chars().all(legal), "{name}");
            let kind = kind.strip_prefix("# TYPE ").and_then(|k| k.split_once(' '));
            let (named, kind) = kind.expect("a kind");
            let help = help.strip_prefix("# HELP ").and_then(|h| h.split_once(' '));
            let (helped, text) = help.expect("a help");
            assert_eq!((named, helped), (name, name));
            assert!(!text.is_empty() && text.trim() == text, "{text:?}");
            assert_eq!(kind == "counter", name.ends_with("_total"), "{name}");
            let value = value.parse().expect("a number");
            assert!(families.insert(name, (kind, value)).is_none(), "{name}");
        }
        families
    }

    #[test]
    fn every_counter_is_told_once() {
        let stats = Stats::default();
        stats.export_sent.add(7);
        stats.export_queue_depth.set(3);
        let text = text(&stats, true);
        let families = read(&text);
        assert_eq!(families["spantap_export_sent_total"], ("counter", 7.0));
        assert_eq!(families["spantap_export_queue_depth"], ("gauge", 3.0));
        assert_eq!(families["spantap_ready"], ("gauge", 1.0));
        assert!(text.contains(&format!(
            "{{version=\"{}\"}} 1\n",
            env!("CARGO_PKG_VERSION")
        )));
        assert_eq!(families.len(), stats.read().len() + 5);
        assert!(text.len() < LENGTH, "{}", text.len());
    }

    #[test]
    fn a_process_is_told_by_what_it_used() {
        let text = text(&Stats::default(), false);
        let families = read(&text);
        let value = |name: &str| families[name].1;
        assert!(value("process_resident_memory_bytes") > 1e6);
        assert!(value("process_cpu_seconds_total") < 1e6);
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let age = now.expect("after 1970").as_secs_f64() - value("process_start_time_seconds");
        assert!((-2.0..86_400.0).contains(&age), "{age}");
    }

    #[test]
    fn help_stays_one_line() {
        let mut out = String::new();
        family(&mut out, ("a", "gauge", " One\nof \\ two. "), "", 1);
        assert_eq!(out, "# HELP a One\\nof \\\\ two.\n# TYPE a gauge\na 1\n");
    }
}
