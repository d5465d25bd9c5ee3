//! Another selection while connections are followed, and how many are.

use std::sync::Arc;

use super::{Out, Shard};
use crate::config::Selection;

impl Shard {
    /// How many connections it follows.
    pub fn connections(&self) -> usize {
        self.table.len()
    }

    /// Something else may be selected from now on. Connections of those who are not traced any more are let
    /// go of, with what is open on them: their ends will not be seen.
    pub fn choose(
        &mut self,
        selection: Arc<Selection>,
        mut traced: impl FnMut(u32) -> bool,
        out: &mut Out<'_>,
    ) {
        self.selection = selection;
        let all = self.table.iter_mut();
        let left = all.filter_map(|(id, it)| (!traced(it.open.process)).then_some((id, it.active)));
        let left: Vec<_> = left.collect();
        for (id, time) in left {
            self.apart.expect(id);
            // With the first bytes that are wanted again it is introduced.
            self.apart.met(id, time, out.commands);
            self.drop(id, out);
        }
    }
}
