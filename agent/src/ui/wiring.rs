//! Where the commands meet the stages: [`start`] runs the pipeline, [`report`] asks the kernel.
//! Everything else in `ui` goes through these two.

use anyhow::Result;

use super::doctor::{Program, Report, Row, State};
use crate::config::CapturePath;
use crate::probe::kernel::{Kernel, Trial};

pub use crate::pipeline::{Loss, OnSpan, Start, Summary, Unable, run as start};

/// What the kernel and our privileges allow: each row looked for, and the programs tried for real.
pub fn report() -> Result<Report> {
    let kernel = Kernel::look();
    let mut rows = vec![
        release(&kernel),
        privileges(&kernel),
        btf(&kernel),
        lockdown(&kernel),
    ];
    let trials = kernel.trials();
    let able = kernel.missing.is_empty()
        && kernel.btf
        && kernel.version >= (5, 10)
        && trials
            .iter()
            .any(|trial| trial.path.is_some() && trial.error.is_none());
    let works = |path| {
        trials
            .iter()
            .any(|t| t.path == Some(path) && t.error.is_none())
    };
    rows.push(in_use(
        works(CapturePath::Socket),
        works(CapturePath::Syscall),
    ));
    let programs = trials.iter().flat_map(programs).collect();
    rows.extend(trials.into_iter().map(tried));
    Ok(Report {
        able,
        rows,
        programs,
    })
}

fn row(feature: &str, state: State, detail: impl Into<String>, remedy: &str) -> Row {
    Row {
        feature: feature.into(),
        state,
        detail: detail.into(),
        remedy: remedy.into(),
    }
}

fn release(kernel: &Kernel) -> Row {
    if kernel.version >= (5, 10) {
        row("kernel", State::Ok, format!("Linux {}", kernel.release), "")
    } else {
        let detail = format!("Linux {} is too old", kernel.release);
        row("kernel", State::Missing, detail, "Linux 5.10 or later")
    }
}

fn privileges(kernel: &Kernel) -> Row {
    if kernel.missing.is_empty() {
        return row("privileges", State::Ok, "all that is needed", "");
    }
    let detail = format!("missing {}", kernel.missing.join(", "));
    row(
        "privileges",
        State::Missing,
        detail,
        "run as root, or grant these capabilities",
    )
}

fn btf(kernel: &Kernel) -> Row {
    let absent = kernel.absent_fields();
    if !kernel.btf {
        let detail = "no /sys/kernel/btf/vmlinux: offsets of kernel fields are unknown";
        row(
            "BTF",
            State::Missing,
            detail,
            "a kernel with CONFIG_DEBUG_INFO_BTF",
        )
    } else if absent.is_empty() {
        row("BTF", State::Ok, "every kernel field was found", "")
    } else {
        let detail = format!("not in this kernel: {}", absent.join(", "));
        row("BTF", State::Degraded, detail, "")
    }
}

fn lockdown(kernel: &Kernel) -> Row {
    match kernel.lockdown.as_str() {
        "confidentiality" => row(
            "lockdown",
            State::Missing,
            "confidentiality: programs may not read memory",
            "boot with lockdown=integrity or none",
        ),
        "unknown" => row(
            "lockdown",
            State::Ok,
            "unknown (securityfs is not mounted); the programs below were tried for real",
            "",
        ),
        mode => row("lockdown", State::Ok, format!("{mode}: no hindrance"), ""),
    }
}

fn programs(trial: &Trial) -> impl Iterator<Item = Program> {
    trial.programs.iter().map(|loaded| Program {
        path: trial.feature.to_owned(),
        name: loaded.name.to_owned(),
        verified: loaded.verified,
        length: loaded.length,
    })
}

fn tried(trial: Trial) -> Row {
    match trial.error {
        None => row(trial.feature, State::Ok, trial.detail, ""),
        Some(error) => {
            let state = if trial.replaced {
                State::Degraded
            } else {
                State::Missing
            };
            row(trial.feature, state, error, trial.remedy)
        }
    }
}

fn in_use(socket: bool, syscall: bool) -> Row {
    match (socket, syscall) {
        (true, _) => row("path in use", State::Ok, "socket", ""),
        (false, true) => row(
            "path in use",
            State::Degraded,
            "syscall: io_uring is seen as byte counts only, and each system call costs more",
            "Linux 6.3 or later for the socket path",
        ),
        (false, false) => row(
            "path in use",
            State::Missing,
            "none works here",
            "see below",
        ),
    }
}
