//! The embedded kernel-side object: its globals and map sizes set, and loaded.

use std::borrow::Cow;

use agent_ebpf::abi::FIELD_COUNT;
use anyhow::{Context as _, Result, bail};
use aya::{Btf, Ebpf, EbpfLoader};
use aya_obj::Object;
use aya_obj::generated::bpf_map_type;
use object::{Object as _, ObjectSection as _, ObjectSymbol as _};

use super::networks;
use crate::config::{Carrying, Config};

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
    /// Sizes, and what is carried to other hosts.
    pub config: &'a Config,
}

/// Loads maps and parses programs; none is attached yet.
///
/// # Errors
/// Where the object is missing, or the kernel refuses a map: the message says which right or
/// kernel feature it lacks.
pub fn load(settings: &Settings<'_>, btf: Option<&Btf>) -> Result<Ebpf> {
    let capture = &settings.config.capture;
    let own = std::process::id();
    let cpus = u32::try_from(possible_cpus()?).context("number of CPUs")?;
    let ring = (capture.ring_bytes / settings.shards)
        .next_power_of_two()
        .max(PAGE);
    let size = |index: u32| if index < settings.shards { ring } else { PAGE };
    let sockets = if settings.fallback {
        u32::try_from(capture.max_connections).unwrap_or(u32::MAX)
    } else {
        1
    };
    let sessions = capture.max_connections.min(MAX_SESSIONS);
    let sessions = u32::try_from(sessions).unwrap_or(u32::MAX);
    let propagation = &settings.config.propagation;
    let visits = propagation.mode == Carrying::Header;
    let carries = carries(settings.config);
    let room = |most: u32| if carries == 0 { 1 } else { most };
    let visitors = if visits { MAX_CARRIED } else { 1 };
    let to = networks::words(&propagation.networks)?;
    let headers = networks::words(if visits { &propagation.headers } else { &[] })?;
    let sampler = settings.config.sampling.sampler;
    let (sampled, parent_based) = (sampler.bound(), u32::from(sampler.is_parent_based()));
    let trusted = networks::words(&propagation.trusted)?;
    let mut loader = EbpfLoader::new();
    loader
        .btf(btf)
        .override_global("OWN", &own, true)
        .override_global("OFFSETS", settings.offsets.as_slice(), true)
        .override_global("SHARDS", &settings.shards, true)
        .override_global("MESSAGE_BYTES", &capture.message_bytes, true)
        .override_global("CARRIES", &carries, true)
        .override_global("CARRY_TO", to.as_slice(), true)
        .override_global("HEADERS_TO", headers.as_slice(), true)
        .override_global("SAMPLED_BELOW", &sampled, true)
        .override_global("PARENT_BASED", &parent_based, true)
        .override_global("TRUSTED", trusted.as_slice(), true)
        .map_max_entries("PARTIES", room(MAX_CARRIED))
        .map_max_entries("SERVING", room(MAX_CARRIED))
        .map_max_entries("SITES", room(MAX_PROCESSES))
        .map_max_entries("SENT", room(MAX_CARRIED))
        .map_max_entries("REFUSALS", room(MAX_PROCESSES))
        .map_max_entries("OUTGOING", room(MAX_CARRIED))
        .map_max_entries("HEARD", room(MAX_CARRIED))
        .map_max_entries("SERVED", room(MAX_PROCESSES))
        .map_max_entries("THREADS", room(MAX_PROCESSES))
        .map_max_entries("VISITORS", visitors)
        .map_max_entries("WELCOME", visitors)
        .map_max_entries("TOLD", visitors)
        .map_max_entries("SCRATCH", cpus * 2)
        .map_max_entries("PLAIN_SCRATCH", cpus * PLACES)
        .map_max_entries("SOCKETS", sockets)
        .map_max_entries("SESSIONS", sessions)
        .map_max_entries("RING_0", size(0))
        .map_max_entries("RING_1", size(1))
        .map_max_entries("RING_2", size(2))
        .map_max_entries("RING_3", size(3));
    loader
        .load(&object(visits)?)
        .context("load the kernel side")
}

/// Whether traces are carried to other hosts, and for those, too, who are not judged yet: not where those
/// may have to be left out, as who is traced may change.
fn carries(config: &Config) -> u32 {
    match config.propagation.mode {
        Carrying::Off => 0,
        _ => 1 + u32::from(!config.selection_changes && config.selection.has_every_process()),
    }
}

fn object(visits: bool) -> Result<Cow<'static, [u8]>> {
    if !present() {
        bail!(
            "this spantap was built without its kernel side: build it with `cargo xtask build`, \
             which sets up the eBPF toolchain"
        );
    }
    match visits {
        true => Ok(Cow::Borrowed(OBJECT)),
        false => without_visitors(OBJECT).map(Cow::Owned),
    }
}

/// The object where nobody visits: VISITORS, a map of sockets, takes CAP_NET_ADMIN, which nothing else of
/// what is loaded then needs. It becomes a map of any kind, and the programs that name it are not loaded.
fn without_visitors(object: &[u8]) -> Result<Vec<u8>> {
    let file = object::File::parse(object).context("read the kernel side")?;
    let symbol = file.symbol_by_name("VISITORS").context("no VISITORS")?;
    let section = symbol.section_index().context("VISITORS is nowhere")?;
    let (start, _) =
        (file.section_by_index(section)?.file_range()).context("maps have no place")?;
    let at = usize::try_from(start + symbol.address())?;
    let mut object = object.to_vec();
    // Its first word (struct bpf_map_def, tools/lib/bpf/libbpf.h before 1.0).
    let kind = object.get_mut(at..at + 4).context("VISITORS is cut off")?;
    kind.copy_from_slice(&(bpf_map_type::BPF_MAP_TYPE_HASH as u32).to_ne_bytes());
    Ok(object)
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
/// Connections, and units of execution, that something is carried for at once.
const MAX_CARRIED: u32 = 16_384;
/// Processes that it is.
const MAX_PROCESSES: u32 = 8192;
/// See `PLACES` of agent-ebpf/src/session.rs.
const PLACES: u32 = 4;
/// Smallest ring.
const PAGE: u32 = 4096;

/// CPUs this machine may ever have: the number of scratch pairs.
fn possible_cpus() -> Result<usize> {
    aya::util::nr_cpus().map_err(|(path, error)| anyhow::anyhow!("{path}: {error}"))
}
