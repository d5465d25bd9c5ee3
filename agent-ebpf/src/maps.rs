//! Every map and global, with its size and why. Sizes marked "set at load" are placeholders that
//! the loader replaces (agent/src/probe/object.rs).

use agent_ebpf::abi::{
    AsyncIds, CHUNK, COUNTERS, Contexts, FIELD_COUNT, Goroutines, Jvm, LISTENED, NETWORK, NETWORKS,
    Open, Segment, Streams, TAIL,
};
use agent_ebpf::header::{Parent, Visit};
use aya_ebpf::btf_maps::SkStorage;
use aya_ebpf::macros::{btf_map, map};
use aya_ebpf::maps::{Array, LruHashMap, PerCpuArray, ProgramArray, RingBuf, SockHash};

use crate::arch::WORDS;
use crate::batch::Batch;
use crate::carry::Outgoing;
use crate::connection::Connection;
use crate::frames::Frames;
use crate::framing::Look;
use crate::goroutine::Written;
use crate::head::Seen;
use crate::iovec::{Slices, Walk};
use crate::jvm::Search;
use crate::lineage::{Birth, Member, Pace};
use crate::node::{Loop, OWNED, Owner};
use crate::party::{Context, Party, Sent};
use crate::payload::Moved;
use crate::python::{Family, Made, Serial};
use crate::record::Ciphertext;
use crate::refusal::Refusal;
use crate::rustls;
use crate::serving::{Serves, Site};
use crate::session::{Inside, Key, PLACES, Session, Unit};
use crate::transfer::{Delivery, Transfers};
use crate::uvloop::Turn;

/// Process id of the agent: its own traffic is dropped before anything else.
#[unsafe(no_mangle)]
pub static OWN: u32 = 0;
/// Field offsets, by `abi::Field`.
#[unsafe(no_mangle)]
pub static OFFSETS: [u32; FIELD_COUNT] = [0; FIELD_COUNT];
/// Rings in use, a power of two, at most 4.
#[unsafe(no_mangle)]
pub static SHARDS: u32 = 1;
/// Bytes copied of one message before only lengths and tails are.
#[unsafe(no_mangle)]
pub static MESSAGE_BYTES: u32 = 65_536;

/// Not 0 where the traces of requests are carried to other hosts; 2 where all processes are traced.
#[unsafe(no_mangle)]
pub static CARRIES: u32 = 0;
/// Networks to which they are carried, as in `abi::NETWORK`.
#[unsafe(no_mangle)]
pub static CARRY_TO: [u32; NETWORKS * NETWORK] = [0; NETWORKS * NETWORK];
/// Networks to which they are by a `traceparent` line as well, likewise.
#[unsafe(no_mangle)]
pub static HEADERS_TO: [u32; NETWORKS * NETWORK] = [0; NETWORKS * NETWORK];
/// 0 where the sampler asks nobody what was decided.
#[unsafe(no_mangle)]
pub static PARENT_BASED: u32 = 0;
/// Traces whose 63 low bits are below this are sampled where nobody decided; 2^63 for all.
#[unsafe(no_mangle)]
pub static SAMPLED_BELOW: u64 = 0;
/// Networks from which a `traceparent` is believed, likewise.
#[unsafe(no_mangle)]
pub static TRUSTED: [u32; NETWORKS * NETWORK] = [0; NETWORKS * NETWORK];

/// Reads a global so that the compiler cannot fold the placeholder in.
macro_rules! global {
    ($name:ident) => {
        // SAFETY: a static of a Copy type; volatile, as the loader rewrites it before load.
        unsafe { core::ptr::read_volatile(core::ptr::addr_of!($crate::maps::$name)) }
    };
}
pub(crate) use global;

/// What is known of a socket (kernels with sk_storage in tracing programs); lives and dies with it.
#[btf_map]
pub static CONNECTIONS: SkStorage<Connection> = SkStorage::new();
/// The same on the fall-back path, by the socket's address; size set at load.
#[map]
pub static SOCKETS: LruHashMap<u64, Connection> = LruHashMap::with_max_entries(1, 0);
/// Process → `abi::verdict`; written by user space, as large as pid_max commonly is. The verdict that
/// was asked for least recently makes room: its process is judged anew. Preallocated, as all maps
/// are: before 6.1 the kernel warns of tracing programs that allocate (kernel/bpf/verifier.c, 5.10).
#[map]
pub static PROCESSES: LruHashMap<u32, u32> = LruHashMap::with_max_entries(32_768, 0);
/// Connection → `abi::wish`; written by user space.
#[map]
pub static WISHES: LruHashMap<u64, u32> = LruHashMap::with_max_entries(16_384, 0);
/// Thread → the sendmmsg or recvmmsg it is in.
#[map]
pub static BATCHES: LruHashMap<u32, Batch> = LruHashMap::with_max_entries(1024, 0);
/// Process → `abi::habit`, for those that call TLS libraries.
#[map]
pub static HABITS: LruHashMap<u32, u32> = LruHashMap::with_max_entries(32_768, 0);
/// Process → where its goroutines' numbers are; written by user space.
#[map]
pub static GOROUTINES: LruHashMap<u32, Goroutines> = LruHashMap::with_max_entries(4096, 0);
/// Process → where its streams of HTTP/2 are; written by user space.
#[map]
pub static STREAMS: LruHashMap<u32, Streams> = LruHashMap::with_max_entries(4096, 0);
/// What a request is written to → the goroutine that asks; uvloop's sockets → their readers.
#[map]
pub static ASKERS: LruHashMap<Written, u64> = LruHashMap::with_max_entries(16_384, 0);
/// Units of execution → who started them.
#[map]
pub static LINEAGE: LruHashMap<Member, Birth> = LruHashMap::with_max_entries(65_536, 0);
/// Process → where its contexts are; written by user space.
#[map]
pub static CONTEXTS: LruHashMap<u32, Contexts> = LruHashMap::with_max_entries(4096, 0);
/// Python's contexts → when they were made, and those above them.
#[map]
pub static MADE: LruHashMap<Member, Made> = LruHashMap::with_max_entries(65_536, 0);
/// Futures of Python's pools of threads → when they were made.
#[map]
pub static FUTURES: LruHashMap<Member, u64> = LruHashMap::with_max_entries(16_384, 0);
/// Contexts that were made when a connection was set up → who reads it.
#[map]
pub static FAMILIES: LruHashMap<Serial, Family> = LruHashMap::with_max_entries(16_384, 0);
/// Thread → what its uvloop does.
#[map]
pub static TURNS: LruHashMap<u64, Turn> = LruHashMap::with_max_entries(4096, 0);
/// Process → where Node.js keeps ids; written by user space.
#[map]
pub static ASYNC_IDS: LruHashMap<u32, AsyncIds> = LruHashMap::with_max_entries(4096, 0);
/// Thread → its event loop.
#[map]
pub static LOOPS: LruHashMap<u64, Loop> = LruHashMap::with_max_entries(4096, 0);
/// For whom Node's resources were made, each where its id says.
#[map]
pub static OWNERS: Array<Owner> = Array::with_max_entries(OWNED, 0);
/// Process → where things are in a JVM; written by user space.
#[map]
pub static JVMS: LruHashMap<u32, Jvm> = LruHashMap::with_max_entries(4096, 0);
/// Threads of JVMs that have read → where was told that they make objects.
#[map]
pub static JAVA_THREADS: LruHashMap<u32, u64> = LruHashMap::with_max_entries(32_768, 0);
/// Threads of JVMs → their `JavaThread` and `java.lang.Thread`, with 1 where they were made for one task.
#[map]
pub static TASK_THREADS: LruHashMap<u32, [u64; 2]> = LruHashMap::with_max_entries(32_768, 0);
/// A look for the task that a thread runs.
#[map]
pub static SEARCH: PerCpuArray<Search> = PerCpuArray::with_max_entries(1, 0);
/// Process → how fast it starts them.
#[map]
pub static PACES: LruHashMap<u32, Pace> = LruHashMap::with_max_entries(4096, 0);
/// TLS sessions; size set at load.
#[map]
pub static SESSIONS: LruHashMap<Key, Session> = LruHashMap::with_max_entries(1, 0);
/// Who is inside a TLS call: threads and goroutines that wait in a read.
#[map]
pub static INSIDE: LruHashMap<Unit, Inside> = LruHashMap::with_max_entries(32_768, 0);
/// What threads do with rustls.
#[map]
pub static RUSTLS: LruHashMap<Unit, rustls::Thread> = LruHashMap::with_max_entries(16_384, 0);
/// The object of the session that a thread last had a handshake for, and its stack pointer then.
#[map]
pub static HANDSHAKES: LruHashMap<Unit, [u64; 2]> = LruHashMap::with_max_entries(16_384, 0);
/// Records that were encrypted into memory → the object of their session.
#[map]
pub static CIPHERTEXTS: LruHashMap<Ciphertext, u64> = LruHashMap::with_max_entries(16_384, 0);
/// Saved registers that are read at once: more than fits on the stack of a deep program.
#[map]
pub static REGISTERS: PerCpuArray<[u64; WORDS]> = PerCpuArray::with_max_entries(1, 0);
/// The call that is being looked at on the fall-back path.
#[map]
pub static TRANSFERS: PerCpuArray<Transfers> = PerCpuArray::with_max_entries(1, 0);
/// The transfer that [`DELIVER`]'s program is called for.
#[map]
pub static DELIVERY: PerCpuArray<Delivery> = PerCpuArray::with_max_entries(1, 0);
/// The program that delivers bytes where one program is too much for the kernel's verifier.
#[map]
pub static DELIVER: ProgramArray = ProgramArray::with_max_entries(1, 0);
/// The sum is raised whenever PROCESSES or WISHES changed, so that connections look again. Slot 0
/// is raised by the kernel side, slot 1 by user space: neither can undo the other's.
#[map]
pub static EPOCH: Array<u64> = Array::with_max_entries(2, 0);
/// One slot a ring: 1 while its reader sleeps and wants to be woken by the next record.
#[map]
pub static WAKE: Array<u32> = Array::with_max_entries(4, 0);
/// Losses and volumes, by `abi::Counter`.
#[map]
pub static STATISTICS: PerCpuArray<u64> = PerCpuArray::with_max_entries(COUNTERS, 0);

/// Where a record is put together: header, then up to twice a chunk, so that a bounded position
/// plus a bounded length stays inside.
#[repr(C)]
pub struct Scratch {
    /// A walk over iovecs. Here and not on the stack, so that the verifier forgets what it knows of
    /// its numbers and sees that one step is like the next.
    pub walk: Walk,
    /// Pieces of a buffer that are not in user memory any more: (address, length).
    pub slices: Slices,
    /// A walk over a call's frames.
    pub frames: Frames,
    /// A look for a head's end, here for the same reason.
    pub look: Look,
    /// A look for a trace, likewise.
    pub seen: Seen,
    /// A connection's introduction: too large for the stack of a deep program.
    pub open: Open,
    /// What a call moved, for the functions that look at it.
    pub moved: Moved,
    /// Header.
    pub segment: Segment,
    /// Payload and tail.
    pub payload: [u8; 2 * CHUNK + TAIL],
    /// Uprobes' programs that have it, or try to.
    pub users: u64,
}
/// Two per CPU (one a direction, as the two programs may nest); size set at load.
#[map]
pub static SCRATCH: Array<Scratch> = Array::with_max_entries(2, 0);

/// Several per CPU, for uprobes; size set at load.
#[map]
pub static PLAIN_SCRATCH: Array<Scratch> = Array::with_max_entries(PLACES, 0);

/// What connections carry, by their cookie; size set at load.
#[map]
pub static PARTIES: LruHashMap<u64, Party> = LruHashMap::with_max_entries(1, 0);
/// Units of execution → the request that they serve; size set at load.
#[map]
pub static SERVING: LruHashMap<Member, Serves> = LruHashMap::with_max_entries(1, 0);
/// Places in programs (site and process) where units are started for requests → what was seen of these; size
/// set at load.
#[map]
pub static SITES: LruHashMap<Member, Site> = LruHashMap::with_max_entries(1, 0);
/// Requests that processes of this host send → their trace; size set at load.
#[map]
pub static SENT: LruHashMap<Sent, Context> = LruHashMap::with_max_entries(1, 0);
/// Addresses → requests with options that did not get there; size set at load.
#[map]
pub static REFUSALS: LruHashMap<[u32; 4], Refusal> = LruHashMap::with_max_entries(1, 0);
/// Threads and goroutines → the plaintext that they gave a TLS library last; size set at load.
#[map]
pub static OUTGOING: LruHashMap<Unit, Outgoing> = LruHashMap::with_max_entries(1, 0);
/// Threads → the connection that they read last; size set at load.
#[map]
pub static HEARD: LruHashMap<Unit, u64> = LruHashMap::with_max_entries(1, 0);
/// Processes that have served a request → `abi::served`; written by user space, too, size set at load.
#[map]
pub static SERVED: LruHashMap<u32, u32> = LruHashMap::with_max_entries(1, 0);
/// Ports, a bit each, that somebody listened on when connections began to carry anything: what comes to them
/// over older connections are requests. Written by user space.
#[map]
pub static PORTS: Array<u64> = Array::with_max_entries(LISTENED as u32, 0);
/// Processes → what of them serves one request at a time, as in `abi::exact`; written by user space, size set at
/// load.
#[map]
pub static THREADS: LruHashMap<u32, u32> = LruHashMap::with_max_entries(1, 0);

/// Sockets on a visit, by cookie. Such a map takes CAP_NET_ADMIN: where nobody visits, the loader makes it
/// one of another kind.
#[map]
pub static VISITORS: SockHash<u64> = SockHash::with_max_entries(16_384, 0);
/// How far each visit is.
#[btf_map]
pub static VISITS: SkStorage<Visit> = SkStorage::new();
/// Processes of which it was said whether they are visited; size set at load.
#[map]
pub static WELCOME: LruHashMap<u32, u32> = LruHashMap::with_max_entries(1, 0);
/// Connections → what their first request says, where user space says so; size set at load.
#[map]
pub static TOLD: LruHashMap<u64, Parent> = LruHashMap::with_max_entries(1, 0);

/// The rings; sizes set at load, those past SHARDS as small as can be.
#[map]
pub static RING_0: RingBuf = RingBuf::with_byte_size(4096, 0);
/// Second ring.
#[map]
pub static RING_1: RingBuf = RingBuf::with_byte_size(4096, 0);
/// Third ring.
#[map]
pub static RING_2: RingBuf = RingBuf::with_byte_size(4096, 0);
/// Fourth ring.
#[map]
pub static RING_3: RingBuf = RingBuf::with_byte_size(4096, 0);
