//! Header mode's kernel side (agent-ebpf/src/{visit,inject}.rs): loaded and attached where that mode is asked
//! for, and tried before it is let near anybody's connections.

use agent_ebpf::abi::FIELD_COUNT;
use agent_ebpf::header::{ASKED, Parent, Visit, stage};
use anyhow::{Context as _, Result};
use aya::maps::{HashMap, Map, MapData, SkStorage, SockHash};
use aya::programs::sock_ops::SockOpsLink;
use aya::programs::{CgroupAttachMode, SkMsg, SockOps};
use aya::{Btf, Ebpf, Pod};
use std::os::fd::{AsRawFd, RawFd};

use super::object::{self, raise_memlock};
use super::{cgroup, in_brief};
use crate::config::{Capture, Carrying, Config, Propagation};

/// Header mode, attached; dropped, it is gone, and no socket is visited any more.
///
/// Where the process is killed, the kernel takes some 30 ms for the last: connections that were open and
/// silent at that moment stay visitors until then.
pub struct Header {
    /// What looks at messages is attached by this, where it is tried alone.
    alone: Option<Ebpf>,
    follows: Option<SockOpsLink>,
    welcome: HashMap<MapData, u32, u32>,
    told: HashMap<MapData, u64, Told>,
    visitors: SockHash<MapData, u64>,
    visits: SkStorage<MapData, Marked>,
}

/// [`Parent`] as a map's value.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct Told(Parent);
// SAFETY: integers without gaps.
unsafe impl Pod for Told {}

/// [`Visit`] as a map's value.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct Marked(Visit);
// SAFETY: integers without gaps.
unsafe impl Pod for Marked {}

impl Header {
    /// Loads and attaches it alone, by the kernel's field `offsets`.
    ///
    /// # Errors
    /// Where a right is missing (CAP_NET_ADMIN), or what the kernel lacks: the message says which.
    pub fn load(offsets: &[u32; FIELD_COUNT]) -> Result<Self> {
        raise_memlock();
        let btf = Btf::from_sys_fs().context("read /sys/kernel/btf/vmlinux")?;
        let settings = object::Settings {
            offsets,
            shards: 1,
            fallback: false,
            config: &Config {
                capture: Capture {
                    ring_bytes: 4096,
                    max_connections: 1,
                    ..Capture::default()
                },
                propagation: Propagation {
                    mode: Carrying::Header,
                    ..Propagation::default()
                },
                ..Config::default()
            },
        };
        let mut ebpf = object::load(&settings, Some(&btf))?;
        let mut header = Self::attach(&mut ebpf)?;
        header.alone = Some(ebpf);
        Ok(header)
    }

    /// Attaches it, of an object that was loaded for that mode.
    ///
    /// # Errors
    /// As of [`load`](Self::load).
    pub fn attach(ebpf: &mut Ebpf) -> Result<Self> {
        let visitors: SockHash<_, u64> = SockHash::try_from(take(ebpf, "VISITORS")?)?;
        let program = ebpf.program_mut("inject").context("no such program")?;
        let program: &mut SkMsg = program.try_into()?;
        program
            .load()
            .map_err(|error| refused("messages", &error))?;
        program.attach(visitors.fd())?;
        let root = cgroup::root()?;
        let program = ebpf.program_mut("visit").context("no such program")?;
        let program: &mut SockOps = program.try_into()?;
        program
            .load()
            .map_err(|error| refused("connections", &error))?;
        // A link is always one of many (kernel/bpf/cgroup.c, `cgroup_bpf_link_attach`), and says so itself.
        let attached = program.attach(root, CgroupAttachMode::Single);
        let follows = program.take_link(attached.context("attach to the root cgroup")?)?;
        Ok(Self {
            follows: Some(follows),
            welcome: HashMap::try_from(take(ebpf, "WELCOME")?)?,
            told: HashMap::try_from(take(ebpf, "TOLD")?)?,
            visits: SkStorage::try_from(take(ebpf, "VISITS")?)?,
            visitors,
            alone: None,
        })
    }

    /// From now on connections that a process opens are visited, or not any more.
    ///
    /// # Errors
    /// Where the map is full.
    pub fn ask(&mut self, tgid: u32, whether: bool) -> Result<()> {
        match whether {
            true => (self.welcome.insert(tgid, ASKED, 0)).context("too many processes"),
            false => (self.welcome.remove(&tgid)).context("it was not asked for"),
        }
    }

    /// Whether they are: who changes a socket that is on a visit is not asked any more.
    pub(super) fn is_asked(&self, tgid: u32) -> bool {
        self.welcome.get(&tgid, 0).is_ok_and(|said| said == ASKED)
    }

    /// What the next request on a connection says, by its socket's cookie.
    ///
    /// # Errors
    /// Where the kernel refuses it.
    pub(super) fn tell(&mut self, cookie: u64, parent: Parent) -> Result<()> {
        Ok(self.told.insert(cookie, Told(parent), 0)?)
    }

    /// What all requests of a process say that have nothing of their own to say.
    ///
    /// # Errors
    /// Where the kernel refuses it.
    #[cfg(test)]
    fn tell_all(&mut self, tgid: u32, parent: Parent) -> Result<()> {
        self.tell(agent_ebpf::header::PROCESS | u64::from(tgid), parent)
    }

    /// How often it came to what, by [`Counter`](agent_ebpf::abi::Counter), where it was loaded alone.
    #[cfg(test)]
    pub(super) fn counts(&self) -> Vec<u64> {
        let ebpf = self.alone.as_ref().expect("loaded alone");
        let map = ebpf.map("STATISTICS").expect("it counts");
        let map = aya::maps::PerCpuArray::<_, u64>::try_from(map).expect("of numbers");
        let slots = map.iter().map(|slot| slot.map(|cpus| cpus.iter().sum()));
        slots.collect::<Result<_, _>>().expect("counts")
    }

    /// Lets a socket of this process in that will not leave by itself, and whose messages pass as they
    /// are: what nobody's socket does, to see what it would come to.
    pub(super) fn keep(&mut self, socket: RawFd, cookie: u64) -> Result<()> {
        let visit = Visit {
            cookie,
            stage: stage::SENT,
            begin: 0,
            flags: 0,
            pad: 0,
        };
        let socket = Descriptor(socket);
        self.visits.insert(&socket, Marked(visit), 0)?;
        Ok(self.visitors.insert(cookie, socket, 0)?)
    }

    /// Whether a socket is among the visitors; it is taken out.
    pub(super) fn remove(&mut self, cookie: u64) -> bool {
        self.visitors.remove(&cookie).is_ok()
    }
}

impl Drop for Header {
    fn drop(&mut self) {
        // Nobody comes in any more, and who is in is let out at once.
        self.follows = None;
        let left: Vec<u64> = self.visitors.keys().filter_map(Result::ok).collect();
        for cookie in left {
            self.remove(cookie);
        }
    }
}

struct Descriptor(RawFd);

impl AsRawFd for Descriptor {
    fn as_raw_fd(&self) -> RawFd {
        self.0
    }
}

fn take(ebpf: &mut Ebpf, name: &str) -> Result<Map> {
    ebpf.take_map(name)
        .with_context(|| format!("the object has no map {name}"))
}

fn refused(what: &str, error: &dyn std::error::Error) -> anyhow::Error {
    anyhow::anyhow!("load what looks at {what}: {}", in_brief(error))
}

#[cfg(test)]
mod tests;
