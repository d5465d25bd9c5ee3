//! Who comes, becomes another program, goes, or does too much.

use std::cmp::Reverse;
use std::collections::HashSet;
use std::time::Instant;

use super::known::{Known, is_start};
use super::{Prober, Process};
use crate::target::mapped::{Identity, Mapped};

/// What is left of earlier selections.
#[derive(Default)]
pub(super) struct Past {
    /// Whether some files may be probed for all and others for one, whatever is so now.
    pub(super) mixed: bool,
    /// Processes that were left, with contexts that nobody followed since.
    pub(super) blind: HashSet<u32>,
}

impl Prober<'_> {
    /// A process is there that was not, or runs another program.
    pub(super) fn came(&mut self, process: u32) {
        let coming = Process::new(Instant::now());
        self.shared.followed.forget(process);
        if let Some(known) = self.processes.get_mut(&process) {
            // What it runs shows when it is looked at: it may be what it ran before.
            (known.looks, known.next, known.again) = (0, coming.next, true);
            self.due.push(Reverse((coming.next, process)));
            return;
        }
        self.begin_reasons(process);
        if self.off.is_some() {
            return;
        }
        self.due.push(Reverse((coming.next, process)));
        self.processes.insert(process, coming);
        let prepared = std::mem::take(&mut self.prepared);
        prepared.iter().for_each(|file| self.meet(process, file));
        self.prepared = prepared;
    }

    /// Why the TLS of a process is unread, as long as nothing is known of what it runs.
    fn begin_reasons(&self, process: u32) {
        let unread = (!self.shared.tls).then(|| "capture.tls is false".into());
        self.reasons
            .set(process, self.off.as_ref().or(unread.as_ref()));
    }

    /// Whether files are probed for all may change. What is probed stays as it is, as long as somebody maps it:
    /// without probes for a moment, a program's contexts would pass for others.
    pub(super) fn choose(&mut self) {
        let everyone = self.shared.targets.takes_all();
        self.past.mixed |= everyone != self.everyone;
        self.everyone = everyone;
    }

    /// Whether a file is to be probed for all who map it: nobody is probed twice.
    pub(super) fn is_for_everyone(&self, file: Identity) -> bool {
        if !self.past.mixed {
            return self.everyone;
        }
        let own = |known: &Process| known.files.get(&file).is_some_and(|own| !own.is_empty());
        let probed = self.files.get(&file).is_some_and(Known::is_probed);
        probed || self.everyone && !self.processes.values().any(own)
    }

    /// A process is not to be traced any more: it pays for no probe of its own. When it comes back, what it
    /// has made meanwhile was not seen, and would pass for others.
    pub(super) fn left(&mut self, process: u32) {
        let Some(known) = self.processes.get(&process) else {
            return;
        };
        let is_python = |of: &Identity| self.files.get(of).is_some_and(|file| file.is_python);
        if known.files.keys().any(is_python) {
            self.lose_contexts(process);
            if self.past.blind.len() < MAX_BLIND {
                self.past.blind.insert(process);
            }
        }
        self.gone(process);
    }

    /// A process ended.
    pub(super) fn ended(&mut self, process: u32) {
        self.past.blind.remove(&process);
        self.gone(process);
    }

    /// A process is not there any more.
    pub(super) fn gone(&mut self, process: u32) {
        let Some(gone) = self.processes.remove(&process) else {
            return;
        };
        for (identity, sets) in gone.files {
            self.reaper.take(sets);
            let Some(file) = self.files.get_mut(&identity) else {
                continue;
            };
            file.users = file.users.saturating_sub(1);
            if file.users == 0 {
                file.left = Instant::now();
                file.lease = None;
                self.reaper.take(std::mem::take(&mut file.everyone));
            }
        }
    }

    /// A process that came again may run another program now: what was known of the one before goes, but
    /// for what was prepared for it. Of the same, run anew, the kernel side may have forgotten all.
    pub(super) fn renew(&mut self, process: u32, files: &[Mapped]) {
        let Some(known) = self.processes.get_mut(&process).filter(|p| p.again) else {
            return;
        };
        let Some(program) = files.iter().find(|file| file.is_program) else {
            return;
        };
        (known.again, known.is_told) = (false, false);
        if !known.files.contains_key(&program.identity) {
            let prepared = self.prepared.iter().map(|file| file.identity);
            let kept = prepared.filter_map(|of| known.files.remove_entry(&of));
            let coming = Process {
                files: kept.collect(),
                ..Process::new(known.next)
            };
            self.gone(process);
            self.processes.insert(process, coming);
            return self.begin_reasons(process);
        }
        let of_whom = (process, self.past.blind.contains(&process));
        let told = files.iter().filter_map(|file| {
            let (of, own) = (
                self.files.get(&file.identity)?,
                known.files.get(&file.identity)?,
            );
            Some(of.tell(of_whom, file, own, self.shared))
        });
        let failed = told.filter(Result::is_err).count();
        self.stats.pipeline_control_failed.add(failed as u64);
    }

    /// A process starts more units of execution than it may cost to follow: that is given up, for all who
    /// run the same file.
    pub(super) fn teems(&mut self, process: u32) {
        let Some(known) = self.processes.get_mut(&process) else {
            return;
        };
        let mut left = Vec::new();
        for (identity, own) in &mut known.files {
            let Some(file) = self.files.get_mut(identity) else {
                continue;
            };
            let everyone = file.everyone.extract_if(.., |set| is_start(set.of));
            let sets: Vec<_> = everyone
                .chain(own.extract_if(.., |set| is_start(set.of)))
                .collect();
            if sets.is_empty() {
                continue;
            }
            file.teems = true;
            self.stats.probe_teeming.add(1);
            self.told.say(format!(
                "calls that process {process} makes in goroutines or tasks, or in Python, have no \
                 parent: it starts more than can be followed"
            ));
            self.reaper.take(sets);
            left.push(*identity);
        }
        let has = |known: &Process| left.iter().any(|of| known.files.contains_key(of));
        for (process, _) in self.processes.iter().filter(|(_, known)| has(known)) {
            self.lose_contexts(*process);
        }
    }

    /// A process is not seen to make contexts any more: what was there would pass for others.
    pub(super) fn lose_contexts(&self, process: u32) {
        self.shared.followed.refuse(process);
        let failed = self.shared.control.no_contexts(process).is_err();
        self.stats.pipeline_control_failed.add(u64::from(failed));
    }
}

/// Processes that are remembered to have been left.
const MAX_BLIND: usize = 65_536;
