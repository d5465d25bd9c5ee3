//! The embedded kernel-side object: its globals and map sizes set, and loaded.

use agent_ebpf::abi::FIELD_COUNT;
use anyhow::{Context as _, Result, bail};
use aya::{Btf, Ebpf, EbpfLoader};
use aya_obj::Object;

use crate::config::Capture;

/// The object, or nothing where the build had no eBPF toolchain.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/agent-ebpf"));

/// Whether this binary carries the kernel side.
pub fn present() -> bool {
    !OBJECT.is_empty()
}

/// What the kernel side is told before it is loaded.
pub struct Settings<'a> {
    /// Offsets by `abi::Field`.
    pub offsets: &'a [u32; FIELD_COUNT],
    /// Rings in use: 1, 2 or 4.
    pub shards: u32,
    /// Whether the fall-back path is used, which keeps its state in a map of its own.
    pub fallback: bool,
    /// Sizes.
    pub capture: &'a Capture,
}

/// Loads maps and parses programs; none is attached yet.
///
/// # Errors
/// Where the object is missing, or the kernel refuses a map: the message says which right or
/// kernel feature it lacks.
pub fn load(settings: &Settings<'_>, btf: Option<&Btf>) -> Result<Ebpf> {
    if !present() {
        bail!(
            "this spantap was built without its kernel side: build it with `cargo xtask build`, \
             which sets up the eBPF toolchain"
        );
    }
    let own = std::process::id();
    let cpus = u32::try_from(possible_cpus()?).context("number of CPUs")?;
    let ring = (settings.capture.ring_bytes / settings.shards)
        .next_power_of_two()
        .max(PAGE);
    let size = |index: u32| if index < settings.shards { ring } else { PAGE };
    let sockets = if settings.fallback {
        u32::try_from(settings.capture.max_connections).unwrap_or(u32::MAX)
    } else {
        1
    };
    let sessions = settings.capture.max_connections.min(MAX_SESSIONS);
    let sessions = u32::try_from(sessions).unwrap_or(u32::MAX);
    let mut loader = EbpfLoader::new();
    loader
        .btf(btf)
        .override_global("OWN", &own, true)
        .override_global("OFFSETS", settings.offsets.as_slice(), true)
        .override_global("SHARDS", &settings.shards, true)
        .override_global("MESSAGE_BYTES", &settings.capture.message_bytes, true)
        .map_max_entries("SCRATCH", cpus * 2)
        .map_max_entries("PLAIN_SCRATCH", cpus * PLACES)
        .map_max_entries("SOCKETS", sockets)
        .map_max_entries("SESSIONS", sessions)
        .map_max_entries("RING_0", size(0))
        .map_max_entries("RING_1", size(1))
        .map_max_entries("RING_2", size(2))
        .map_max_entries("RING_3", size(3));
    loader.load(OBJECT).context("load the kernel side")
}

/// Before 5.11 maps count against RLIMIT_MEMLOCK. Where it may not be raised, the map that does not
/// fit says so itself.
pub fn raise_memlock() {
    let all = libc::rlimit {
        rlim_cur: libc::RLIM_INFINITY,
        rlim_max: libc::RLIM_INFINITY,
    };
    // SAFETY: reads only `all`.
    unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &raw const all) };
}

/// The object as it is in its file.
///
/// # Errors
/// Where it is none.
pub fn parsed() -> Result<Object> {
    Object::parse(OBJECT).context("read the kernel side")
}

/// TLS sessions that are followed at once.
const MAX_SESSIONS: usize = 32_768;
/// See `PLACES` of agent-ebpf/src/session.rs.
const PLACES: u32 = 4;
/// Smallest ring.
const PAGE: u32 = 4096;

/// CPUs this machine may ever have: the number of scratch pairs.
fn possible_cpus() -> Result<usize> {
    aya::util::nr_cpus().map_err(|(path, error)| anyhow::anyhow!("{path}: {error}"))
}
