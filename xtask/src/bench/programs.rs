//! What the kernel counts of the agent's programs: how often they ran, and how long. It does so only
//! while it is asked to (`kernel.bpf_stats_enabled`), which costs some time itself.

use std::fs;

use anyhow::{Context as _, Result};

/// Asks the kernel to count, until this is dropped.
pub struct Counting {
    before: String,
}

impl Counting {
    /// Begins.
    pub fn begin() -> Result<Self> {
        let before = fs::read_to_string(SWITCH).context(SWITCH)?;
        fs::write(SWITCH, "1").with_context(|| format!("write {SWITCH}"))?;
        Ok(Self { before })
    }
}

impl Drop for Counting {
    fn drop(&mut self) {
        fs::write(SWITCH, self.before.trim()).ok();
    }
}

const SWITCH: &str = "/proc/sys/kernel/bpf_stats_enabled";

/// Runs of programs, and the nanoseconds they took.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Runs {
    /// Of uprobes: each run is a trap.
    pub probes: [f64; 2],
    /// Of all others.
    pub others: [f64; 2],
}

impl Runs {
    /// Those of a process's programs so far, by what the kernel says of its descriptors
    /// (bpf_prog_show_fdinfo, kernel/bpf/syscall.c).
    pub fn of(process: u32) -> Self {
        let mut runs = Self::default();
        let mut seen = Vec::new();
        let entries = fs::read_dir(format!("/proc/{process}/fdinfo"));
        for entry in entries.into_iter().flatten().flatten() {
            let text = fs::read_to_string(entry.path()).unwrap_or_default();
            let field = |name: &str| {
                let mut lines = text.lines();
                lines.find_map(|line| line.strip_prefix(name)?.trim().parse::<f64>().ok())
            };
            // Links name their program too, but not its runs.
            let (Some(kind), Some(id), Some(count), Some(time)) = (
                field("prog_type:"),
                field("prog_id:"),
                field("run_cnt:"),
                field("run_time_ns:"),
            ) else {
                continue;
            };
            if seen.contains(&id) {
                continue;
            }
            seen.push(id);
            let of = match kind == KPROBE {
                true => &mut runs.probes,
                false => &mut runs.others,
            };
            of[0] += count;
            of[1] += time;
        }
        runs
    }

    /// Those since `before`.
    pub fn since(self, before: Self) -> Self {
        let less = |now: [f64; 2], then: [f64; 2]| [now[0] - then[0], now[1] - then[1]];
        Self {
            probes: less(self.probes, before.probes),
            others: less(self.others, before.others),
        }
    }
}

/// BPF_PROG_TYPE_KPROBE, which a uprobe's program is.
const KPROBE: f64 = 2.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences() {
        let runs = |count| Runs {
            probes: [count, 10.0 * count],
            others: [1.0, 2.0],
        };
        let since = runs(5.0).since(runs(2.0));
        assert_eq!((since.probes, since.others), ([3.0, 30.0], [0.0, 0.0]));
        assert_eq!(Runs::of(std::process::id()), Runs::default());
    }
}
