//! What carries traces to other hosts: loaded where that is wanted, attached with what tells of bytes.

use std::fs::File;

use anyhow::{Context as _, Result, anyhow};
use aya::Btf;
use aya::programs::{CgroupAttachMode, Program};

use super::{Link, Loaded, Probe, Programs, cgroup, in_brief, listening};
use crate::config::CapturePath;

/// What writes and reads options,
const CARRIER: &str = "options";
/// and what finds the requests they are of; these come before what tells user space of the same bytes.
const CARRIED: Programs = &[
    ("carried_sent", "sock_send_length"),
    ("carried_received", "sock_recv_length"),
];

/// What is attached to.
///
/// # Errors
/// Where there is none, whatever programs the kernel takes.
pub(super) fn place(path: CapturePath) -> Result<File> {
    if path != CapturePath::Socket {
        return Err(anyhow!("that takes the socket path (Linux 6.3 and later)"));
    }
    cgroup::root()
}

impl Probe {
    /// What the kernel made of these programs.
    pub fn loaded_carrier(&self) -> Vec<Loaded> {
        let names = CARRIED.iter().map(|&(name, _)| name).chain([CARRIER]);
        names.filter_map(|name| self.loaded_program(name)).collect()
    }

    /// Loads it. Without, traces end at this host's border, and all else is as it is.
    pub(super) fn load_carrier(&mut self, btf: Option<&Btf>) {
        match self.try_carrier(btf) {
            Ok(root) => self.carrier = Some(root),
            Err(why) => self.no_carrier = Some(format!("{why:#}")),
        }
    }

    fn try_carrier(&mut self, btf: Option<&Btf>) -> Result<File> {
        let root = place(self.path)?;
        match self.program(CARRIER)? {
            Program::SockOps(p) => p.load().map_err(|error| anyhow!(in_brief(&error)))?,
            other => return Err(anyhow!("unexpected {:?}", other.prog_type())),
        }
        for &(program, tracepoint) in CARRIED {
            self.load_program(program, tracepoint, btf)?;
        }
        Ok(root)
    }

    /// Attaches it, before what tells user space of the same bytes.
    pub(super) fn attach_carrier(&mut self, cgroup: &File) -> Result<()> {
        listening::tell(&mut self.ebpf)?;
        let mut links = Vec::new();
        for &(program, tracepoint) in CARRIED {
            links.push(self.attach(program, tracepoint)?);
        }
        let link = match self.program(CARRIER)? {
            Program::SockOps(p) => p
                // A link takes no mode: others' programs run as well.
                .attach(cgroup, CgroupAttachMode::Single)
                .and_then(|id| p.take_link(id))
                .context("attach to the root cgroup")?,
            other => return Err(anyhow!("unexpected {:?}", other.prog_type())),
        };
        self.links.append(&mut links);
        self.links.push(Link::Sockets { _link: link });
        Ok(())
    }

    /// Why no trace is carried to other hosts, where that was asked for.
    pub fn no_carrier(&self) -> Option<&str> {
        self.no_carrier.as_deref()
    }
}
