//! Where the commands meet the stages: [`start`] runs the pipeline, [`report`] asks the kernel.
//! Everything else in `ui` goes through these two.

use super::doctor::{Held, Program, Report, Row, State};
use crate::config::{CapturePath, Carrying, Config};
use crate::probe::kernel::{
    CAPABILITIES, CARRIER, Capability, Kernel, TYPES, Trial, Types, last_words,
};
use crate::probe::selftest::{self, Verdict};

use crate::pipeline::list::told;
pub use crate::pipeline::list::{Listed, list};
pub use crate::pipeline::{Loss, OnSpan, Reread, Start, Summary, Unable, run as start};

/// What the kernel and our privileges allow with this configuration: each row looked for, and the
/// programs tried for real.
pub fn report(config: &Config) -> Report {
    let capture = &config.capture;
    let kernel = Kernel::look(capture.btf.as_deref());
    // Then programs cannot be loaded, and nothing was learnt of the kernel.
    let barred = !kernel.lacks(true).is_empty();
    let mut rows = vec![release(&kernel)];
    rows.extend(privileges(kernel.version, &kernel.missing));
    rows.extend([btf(&kernel), lockdown(&kernel, barred)]);
    let trials = kernel.trials();
    let works = |path| {
        trials
            .iter()
            .any(|t| t.path == Some(path) && t.error.is_none())
    };
    let path = match barred {
        true => row("path in use", State::Missing, NOT_TRIED, ""),
        false => in_use(capture.path, &works),
    };
    let able = !barred
        && !matches!(kernel.btf, Types::Unknown(_))
        && kernel.version >= (5, 10)
        && path.state != State::Missing;
    rows.push(path);
    let programs = trials.iter().flat_map(programs).collect();
    let carrier = |trial: &Trial| trial.feature == CARRIER;
    rows.extend(trials.into_iter().map(|trial| match carrier(&trial) {
        true => as_configured(tried(trial, barred), config),
        false => tried(trial, barred),
    }));
    let tests = match barred {
        true => Err(NOT_TRIED.into()),
        false => selftest::start(&kernel.offsets).map_err(|why| last_words(&why)),
    };
    rows.push(as_configured(header(&tests), config));
    rows.extend(kubernetes(config));
    Report {
        able,
        rows,
        programs,
        header: tests.unwrap_or_default().into_iter().map(held).collect(),
    }
}

fn held(verdict: Verdict) -> Held {
    Held {
        name: verdict.name,
        failure: verdict.failure,
    }
}

/// Whether pods are told of, where somebody is asked.
fn kubernetes(config: &Config) -> Option<Row> {
    let told = told(config).unwrap_or_else(|why| Some(Err(why.to_string())))?;
    Some(match told {
        Ok(node) => {
            let detail = format!("tells of the pods of {node}");
            row("Kubernetes", State::Ok, detail, "")
        }
        Err(why) => row(
            "Kubernetes",
            State::Degraded,
            format!(
                "{why}: spans have no names of pods, and what is selected by pods is not traced"
            ),
            "a ClusterRole (rbac.create of the chart), a token, and a way to the API server",
        ),
    })
}

/// Whether header mode harms nobody here.
fn header(tests: &Result<Vec<Verdict>, String>) -> Row {
    const REMEDY: &str = "CAP_NET_ADMIN, cgroup version 2; only propagation by header needs it";
    let verdicts = match tests {
        Ok(verdicts) => verdicts,
        Err(why) => return row(HEADER, State::Degraded, why, REMEDY),
    };
    let failed = verdicts.iter().filter_map(|verdict| {
        let why = verdict.failure.as_ref()?;
        Some(format!("not so: {} ({why})", verdict.name))
    });
    let failed: Vec<String> = failed.collect();
    match failed.as_slice() {
        [] => {
            let detail = format!("{} tests passed", verdicts.len());
            row(HEADER, State::Ok, detail, "")
        }
        failed => {
            let detail = format!("off: {}", failed.join("; "));
            row(HEADER, State::Degraded, detail, "another kernel")
        }
    }
}

const HEADER: &str = "header mode";

/// What would work of what carries traces to other hosts, and is not asked for.
fn as_configured(found: Row, config: &Config) -> Row {
    let why = match (config.propagation.mode, config.capture.path) {
        _ if found.state != State::Ok => return found,
        (Carrying::Off, _) => "propagation.mode is off",
        (_, CapturePath::Syscall) => "capture.path is syscall",
        _ => return found,
    };
    let detail = format!("off, as {why}; else: {}", found.detail);
    row(&found.feature, State::Degraded, detail, "")
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

/// A row for each capability that this kernel asks for: what it is for, whether this process has it, and
/// what is so without.
fn privileges(version: (u32, u32), missing: &[&Capability]) -> impl Iterator<Item = Row> {
    let asked = CAPABILITIES.iter();
    let asked = asked.filter(move |it| it.is_asked_for(version));
    asked.map(|it| {
        if !missing.contains(&it) {
            return row(it.name, State::Ok, it.gives, "");
        }
        let (state, without) = match it.without {
            None => (State::Missing, "nothing is traced"),
            Some(without) => (State::Degraded, without),
        };
        let detail = format!("this process does not have it ({}): {without}", it.gives);
        let short = it.name.trim_start_matches("CAP_");
        let remedy = format!(
            "run it as root; a container takes --cap-add {short}, a unit {} in CapabilityBoundingSet=",
            it.name
        );
        row(it.name, state, detail, &remedy)
    })
}

fn btf(kernel: &Kernel) -> Row {
    let absent = kernel.absent_fields();
    let from = match &kernel.btf {
        Types::Own => String::new(),
        Types::File(file) => format!(" in {}", file.display()),
        Types::Unknown(why) => {
            let detail = format!("{why}: offsets of kernel fields are unknown");
            return row("BTF", State::Missing, detail, TYPES);
        }
    };
    if absent.is_empty() {
        row(
            "BTF",
            State::Ok,
            format!("every kernel field was found{from}"),
            "",
        )
    } else {
        let detail = format!("not in this kernel{from}: {}", absent.join(", "));
        row("BTF", State::Degraded, detail, "")
    }
}

fn lockdown(kernel: &Kernel, barred: bool) -> Row {
    match kernel.lockdown.as_str() {
        "confidentiality" => row(
            "lockdown",
            State::Missing,
            "confidentiality: programs may not read memory",
            "boot with lockdown=integrity or none",
        ),
        "unknown" if barred => row("lockdown", State::Ok, UNMOUNTED, ""),
        "unknown" => row(
            "lockdown",
            State::Ok,
            format!("{UNMOUNTED}; the programs below were tried for real"),
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

const UNMOUNTED: &str = "not shown, as securityfs is not mounted";
const NOT_TRIED: &str = "not tried: see the missing capabilities above";

fn tried(trial: Trial, barred: bool) -> Row {
    match trial.error {
        Some(_) if barred => row(trial.feature, State::Missing, NOT_TRIED, ""),
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

/// The path that the agent would take, as [`Kernel::choose`] takes it.
fn in_use(wanted: CapturePath, works: &dyn Fn(CapturePath) -> bool) -> Row {
    let (socket, syscall) = (works(CapturePath::Socket), works(CapturePath::Syscall));
    let feature = "path in use";
    match (wanted, socket, syscall) {
        (CapturePath::Auto | CapturePath::Socket, true, _) => row(feature, State::Ok, "socket", ""),
        (CapturePath::Auto, false, true) => row(
            feature,
            State::Degraded,
            format!("syscall: {LESS}"),
            "Linux 6.3 or later for the socket path",
        ),
        (CapturePath::Syscall, true, true) => row(
            feature,
            State::Degraded,
            format!("syscall, as configured: {LESS}"),
            "capture.path auto: the socket path works here",
        ),
        (CapturePath::Syscall, false, true) => row(
            feature,
            State::Degraded,
            format!("syscall, as configured: {LESS}"),
            "",
        ),
        (CapturePath::Socket, false, true) => row(
            feature,
            State::Missing,
            "socket, as configured, does not work here",
            "capture.path auto: the syscall path works here",
        ),
        (CapturePath::Syscall, true, false) => row(
            feature,
            State::Missing,
            "syscall, as configured, does not work here",
            "capture.path auto: the socket path works here",
        ),
        (_, false, false) => row(feature, State::Missing, "none works here", "see below"),
    }
}

const LESS: &str = "io_uring is seen as byte counts only, and each system call costs more";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_capability_says_what_it_is_for() {
        let named = |name| CAPABILITIES.iter().find(|it| it.name == name);
        let missing = ["CAP_BPF", "CAP_LEASE"].map(|name| named(name).expect("it is used"));
        let rows: Vec<Row> = privileges((5, 10), &missing).collect();
        assert_eq!(rows.len(), CAPABILITIES.len());
        let newest = privileges((6, 18), &missing);
        assert!(newest.into_iter().all(|row| row.feature != "CAP_SYS_ADMIN"));
        for row in rows {
            let state = match &*row.feature {
                "CAP_BPF" => State::Missing,
                "CAP_LEASE" => State::Degraded,
                _ => State::Ok,
            };
            assert_eq!(row.state, state, "{row:?}");
            assert_eq!(row.remedy.is_empty(), state == State::Ok, "{row:?}");
        }
    }

    #[test]
    fn one_test_that_fails_turns_header_mode_off() {
        let verdict = |name, failure: Option<&str>| Verdict {
            name,
            took: std::time::Duration::ZERO,
            failure: failure.map(str::to_owned),
        };
        let harmless = Ok(vec![verdict("a reset is told", None)]);
        let shown = header(&harmless);
        assert_eq!((shown.state, &*shown.detail), (State::Ok, "1 tests passed"));
        let counts = verdict("FIONREAD counts", Some("0 of 100"));
        let shown = header(&Ok(vec![verdict("a reset is told", None), counts]));
        assert_eq!(shown.state, State::Degraded);
        assert_eq!(shown.detail, "off: not so: FIONREAD counts (0 of 100)");
        let shown = header(&Err("operation not permitted".into()));
        assert!(shown.remedy.contains("CAP_NET_ADMIN"));
    }

    #[test]
    fn what_is_configured_away_is_not_said_to_be_on() {
        let found = || row(CARRIER, State::Ok, "programs load", "");
        let mut config = Config::default();
        assert_eq!(as_configured(found(), &config), found());
        config.capture.path = CapturePath::Syscall;
        let shown = as_configured(found(), &config);
        assert_eq!(shown.state, State::Degraded);
        assert_eq!(
            shown.detail,
            "off, as capture.path is syscall; else: programs load"
        );
        config.propagation.mode = Carrying::Off;
        let shown = as_configured(found(), &config);
        assert!(
            shown.detail.starts_with("off, as propagation.mode is off"),
            "{shown:?}"
        );
        let refused = row(CARRIER, State::Degraded, "off: no cgroup", "mount it");
        assert_eq!(as_configured(refused.clone(), &config), refused);
    }

    #[test]
    fn without_privileges_nothing_is_said_of_the_kernel() {
        let trial = Trial {
            feature: "socket path",
            path: Some(CapturePath::Socket),
            detail: String::new(),
            programs: Vec::new(),
            error: Some("operation not permitted".into()),
            replaced: true,
            remedy: "Linux 6.3 or later",
        };
        let shown = tried(trial.clone(), true);
        assert_eq!((shown.state, &*shown.remedy), (State::Missing, ""));
        assert_eq!(shown.detail, NOT_TRIED);
        assert_eq!(tried(trial, false).remedy, "Linux 6.3 or later");
    }

    #[test]
    fn the_path_in_use_is_the_configured_one() {
        use CapturePath::{Auto, Socket, Syscall};
        for (wanted, working, state, detail) in [
            (Auto, &[Socket, Syscall][..], State::Ok, "socket"),
            (Auto, &[Syscall], State::Degraded, "syscall: "),
            (
                Syscall,
                &[Socket, Syscall],
                State::Degraded,
                "syscall, as configured",
            ),
            (Syscall, &[Socket], State::Missing, "syscall, as configured"),
            (Socket, &[Syscall], State::Missing, "socket, as configured"),
            (Socket, &[], State::Missing, "none"),
        ] {
            let row = in_use(wanted, &|path| working.contains(&path));
            assert_eq!(row.state, state, "{wanted:?} {working:?}");
            assert!(row.detail.starts_with(detail), "{row:?}");
        }
    }
}
