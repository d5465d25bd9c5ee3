//! What of an agent is in the kernel, by bpftool.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;
use spantap_tests::install::{Debian, debian};
use spantap_tests::process::{self, Bpf};

use crate::robust;

/// bpftool.
pub struct Tool {
    tool: Debian,
    folder: PathBuf,
}

impl Tool {
    /// Gets it.
    pub fn get(folder: &Path) -> Result<Self> {
        Ok(Self {
            tool: debian("bpftool", &["bpftool"])?,
            folder: folder.into(),
        })
    }

    /// Programs that are attached to cgroups.
    pub fn attached(&self) -> Result<BTreeSet<u32>> {
        let all = robust::bpftool(&self.tool, &self.folder, &["cgroup", "tree"])?;
        let mut ids = BTreeSet::new();
        collect(&all, &mut ids);
        Ok(ids)
    }

    /// What is there of this, and the programs attached to cgroups that were not before, but for those that
    /// a process has: another agent may have come.
    pub fn left(&self, held: &Bpf, before: &BTreeSet<u32>) -> Result<(Bpf, Vec<u32>)> {
        let rest = robust::left(&self.tool, &self.folder, held)?;
        let now = self.attached()?;
        let others: BTreeSet<u32> = fs::read_dir("/proc")?
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .filter_map(|pid| process::bpf(pid).ok())
            .flat_map(|bpf| bpf.programs)
            .collect();
        let new = now.difference(before).filter(|id| !others.contains(id));
        Ok((rest, new.copied().collect()))
    }
}

/// The ids of programs, however deep.
fn collect(of: &serde_json::Value, into: &mut BTreeSet<u32>) {
    if let Some(id) = of["id"].as_u64().and_then(|id| u32::try_from(id).ok()) {
        into.insert(id);
    }
    let inner = of.as_array().into_iter().flatten();
    let fields = of.as_object().into_iter().flat_map(serde_json::Map::values);
    inner.chain(fields).for_each(|one| collect(one, into));
}
