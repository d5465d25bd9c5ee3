//! Verdicts made again, as something else is selected or more is known of pods; and whether what was traced
//! meanwhile is left out after all.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::{Arc, PoisonError};

use super::super::process::Snapshot;
use super::super::selection::{Reason, Selector};
use super::{Answer, Chosen, NESTED, Targets, Tell, stand_in};
use crate::config::Selection;

impl Targets {
    /// Something else is selected from now on: everybody is judged anew.
    pub fn select(&self, selection: &Selection) {
        let before = self.selector();
        let own = before.own().clone();
        let selector = Arc::new(Selector::new(selection, own, self.cluster.is_some()));
        let descends = selector.has_pids_of(&before);
        *self.chosen.write().unwrap_or_else(PoisonError::into_inner) = Chosen {
            selection: Arc::new(selection.clone()),
            selector,
        };
        self.renew();
        if !descends {
            (self.judged().values_mut()).for_each(|judged| judged.descends = false);
        }
        let mut all: HashSet<u32> = self.processes.pids().into_iter().collect();
        all.extend(self.judged().iter().map(|(pid, _)| *pid));
        self.judge_again(all);
        self.renew();
    }

    /// Judges those anew whose pods came or changed since this was asked last.
    pub fn learn(&self) {
        let changed = match &self.cluster {
            Some(cluster) => cluster.changed(),
            None => return,
        };
        let changed: HashSet<u64> = changed.iter().map(|uid| stand_in(uid)).collect();
        if !changed.is_empty() {
            self.judge_pods_again(|pod| pod == NESTED || changed.contains(&pod));
        }
    }

    /// The addresses of those that spans are sent to: pods that have one are left out.
    pub fn leave_out(&self, receivers: HashSet<IpAddr>) {
        let mut known = (self.receivers.write()).unwrap_or_else(PoisonError::into_inner);
        if *known == receivers {
            return;
        }
        *known = receivers;
        drop(known);
        self.renew();
        self.judge_pods_again(|_| true);
    }

    /// Why the spans of a program are left out after all, which was traced as long as its pod was not
    /// known, or was not left out yet. What is not known of its pod by now is not waited for.
    pub fn is_left_out(&self, process: &Arc<Snapshot>) -> Option<Reason> {
        let stamp = self.stamp();
        let selector = self.selector();
        if selector.takes_all() {
            return None;
        }
        let same =
            |answer: &&mut Answer| answer.stamp == stamp && Arc::ptr_eq(&answer.process, process);
        if let Some(answer) = self.answers().get(&process.pid).filter(same) {
            return answer.reason;
        }
        let judged = self.judged().get(&process.pid).copied();
        let judged = judged.filter(|judged| judged.start == process.start);
        let descends = || judged.is_none_or(|judged| judged.descends);
        let reason = self.verdict(&selector, process, true, descends).reason();
        let answer = Answer {
            process: Arc::clone(process),
            stamp,
            reason,
        };
        let evicted = self.answers().insert(process.pid, answer);
        self.stats.target_evicted.add(evicted);
        reason
    }

    fn judge_pods_again(&self, which: impl Fn(u64) -> bool) {
        let judged = self.judged();
        let all = judged.iter();
        let all = all.filter(|(_, judged)| judged.pod != 0 && which(judged.pod));
        let all: Vec<u32> = all.map(|(pid, _)| *pid).collect();
        drop(judged);
        if self.judge_again(all) {
            self.renew();
        }
    }

    /// Whether any verdict changed.
    fn judge_again(&self, all: impl IntoIterator<Item = u32>) -> bool {
        let mut changed = false;
        for pid in all {
            let before = self.judged().get(&pid).map(|judged| judged.verdict);
            let after = self.by_id(pid).unwrap_or_else(|| {
                let snapshot = self.processes.sight(pid, "");
                self.weigh(&snapshot, Tell::News)
            });
            changed |= before != Some(after);
        }
        changed
    }
}
