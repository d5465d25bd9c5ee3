//! Whom a process id meant, and from when on: exec makes another program of a process, and an id
//! comes to mean another process. Spans of the one before are still to come then.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use super::look::Answer;
use crate::event::Nanos;
use crate::kubernetes::{Node, Pod};
use crate::span::Resource;
use crate::target::Snapshot;

/// Whether more may become known of somebody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// An answer is waited for.
    Asked,
    /// It was waited for long enough, and is welcome still.
    Late,
    /// None will come.
    Over,
}

/// A program in a process.
#[derive(Clone, Debug)]
pub struct Life {
    /// What procfs told.
    pub snapshot: Arc<Snapshot>,
    /// What files told.
    pub answer: Option<Arc<Answer>>,
    /// Its pod, as far as it is known.
    pub pod: Option<Arc<Pod>>,
    /// Its node, where it is in a pod.
    pub node: Option<Arc<Node>>,
    /// What of the cluster's versions these are of.
    pub version: u64,
    /// Whether the pod is no longer waited for.
    pub is_placed: bool,
    /// Made of all of them.
    pub resource: Option<Arc<Resource>>,
    /// Whether more may come.
    pub state: State,
    /// When it was met.
    pub since: Instant,
    from: Nanos,
    until: Option<Nanos>,
}

impl Life {
    /// One of whom procfs has told; nothing was asked.
    pub fn new(snapshot: Arc<Snapshot>) -> Self {
        Self {
            snapshot,
            answer: None,
            pod: None,
            node: None,
            version: 0,
            is_placed: false,
            resource: None,
            state: State::Over,
            since: Instant::now(),
            from: 0,
            until: None,
        }
    }
}

/// The last few programs under one process id.
#[derive(Debug)]
pub struct Lives(VecDeque<Life>);

impl Lives {
    /// The first that is known of; whatever was before counts as its.
    pub fn of(life: Life) -> Self {
        Self(VecDeque::from([life]))
    }

    /// Another one: from the last one's end on or, where that was not seen, from `at`.
    pub fn begin(&mut self, mut life: Life, at: Nanos) {
        let end = self.0.back().and_then(|last| last.until);
        life.from = end.unwrap_or(at);
        if self.0.len() >= MAX_LIVES {
            self.0.pop_front();
        }
        self.0.push_back(life);
    }

    /// The last one ended.
    pub fn end(&mut self, at: Nanos) {
        if let Some(last) = self.0.back_mut() {
            last.until = Some(at);
        }
    }

    /// Who it was at `at`.
    pub fn at(&mut self, at: Nanos) -> Option<&mut Life> {
        let later = self.0.iter().rposition(|life| life.from <= at);
        self.0.get_mut(later.unwrap_or(0))
    }

    /// The one that was made for this snapshot.
    pub fn find(&mut self, snapshot: &Arc<Snapshot>) -> Option<&mut Life> {
        let mut lives = self.0.iter_mut().rev();
        lives.find(|life| Arc::ptr_eq(&life.snapshot, snapshot))
    }
}

/// Kept of one process id: a shell that becomes a wrapper that becomes the server is three.
const MAX_LIVES: usize = 4;
