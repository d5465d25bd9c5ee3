//! What is carried by the two ends of a TCP connection: traces of requests on their way.

use agent_ebpf::abi::{Counter, source};
use agent_ebpf::option::{Carrier, UNDECIDED};
use aya_ebpf::helpers::generated::bpf_get_prandom_u32;

use crate::emit;
use crate::lineage::Member;
use crate::maps::{PARTIES, SENT};

/// A trace, and from where it is known.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Context {
    /// Its id.
    pub trace: [u64; 2],
    /// As in `abi::Carried`.
    pub flags: u32,
    /// One of `abi::source`; 0 where it is not known.
    pub source: u32,
}

impl Context {
    /// It is not known.
    pub const UNKNOWN: Self = Self {
        trace: [0; 2],
        flags: 0,
        source: 0,
    };

    /// A new one.
    #[inline(always)]
    pub fn made() -> Self {
        let half = || {
            // SAFETY: no arguments.
            let (high, low) = unsafe { (bpf_get_prandom_u32(), bpf_get_prandom_u32()) };
            u64::from(high) << 32 | u64::from(low)
        };
        Self {
            // Never zero.
            trace: [half() | 1, half()],
            flags: UNDECIDED.into(),
            source: source::MADE.into(),
        }
    }

    /// Whether it is known.
    #[inline(always)]
    pub const fn is_known(&self) -> bool {
        self.source != 0
    }
}

/// A request's first byte on its way, and its trace.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Place {
    /// Its sequence number.
    pub sequence: u32,
    /// 0 for none; more once it was sent with an option.
    pub state: u32,
    /// Its trace.
    pub context: Context,
}

/// A request's first byte that this host sends, as both ends know it.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Sent {
    /// Both initial sequence numbers.
    pub client: u32,
    /// The same.
    pub server: u32,
    /// Its sequence number.
    pub sequence: u32,
}

impl Sent {
    /// That one.
    #[inline(always)]
    pub const fn new(client: u32, server: u32, sequence: u32) -> Self {
        Self {
            client,
            server,
            sequence,
        }
    }

    /// All that a client sends that says nothing in what trace it is. No message begins with this number:
    /// it is the SYN's.
    #[inline(always)]
    pub const fn all(client: u32, server: u32) -> Self {
        Self::new(client, server, client)
    }
}

/// [`Place::state`].
pub const WAITS: u32 = 1;
/// The same: an option was sent with it,
pub const LEFT: u32 = 2;
/// and again.
pub const AGAIN: u32 = 3;

/// What is carried by a TCP connection that began while this was attached.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Party {
    /// Client: of what was sent last. Server: of what came with options and was not read yet.
    pub places: [Place; PLACES],
    /// Server: the trace of the request that was read last.
    pub context: Context,
    /// Server: the trace of the ciphertext that was read last. Client: of the plaintext that was given to
    /// its TLS library last.
    pub fresh: Context,
    /// Server: number of that request. Client: [`TAKEN`] and where that plaintext's ciphertext began, or 0
    /// before it is sent.
    pub turn: u64,
    /// Client: the plaintext's offset.
    pub given: u64,
    /// Client: [`TAKEN`] and where a request began that was given a line, or 0.
    pub line: u64,
    /// [`CLIENT`] or [`SERVER`].
    pub role: u32,
    /// 1 until that request is answered.
    pub open: u32,
    /// Which place is used next.
    pub next: u32,
    /// Client: calls since the server was last heard,
    pub calls: u32,
    /// when TCP had come so far.
    pub heard: u32,
    /// 1 where what a server is told may be believed.
    pub trusted: u32,
    /// 1 once it was seen to begin TLS: then its bytes are no requests.
    pub secure: u32,
    /// 1 while it is not known yet who serves the request that was read.
    pub begun: u32,
    /// Server: the thread that read that request, where no unit is finer; else 0.
    pub reader: u32,
    /// Client: what is held against it, as in `crate::refusal`.
    pub debt: u32,
    /// Server: who serves that request.
    pub unit: Member,
    /// Server: this connection.
    pub connection: u64,
    /// Server: both initial sequence numbers, the client's first.
    pub ends: [u32; 2],
    /// Server: 1 once it is known that its client is traced on this host: then it is that one's to say in which
    /// trace a request is.
    pub near: u32,
    /// Client: 1 where nothing may be told to the other end.
    pub mute: u32,
    /// Server: 1 where its plaintext is seen before it is encrypted: then no ciphertext is an answer, as none
    /// is that ends a handshake (a server's tickets, RFC 8446, 4.6.1).
    pub seen: u32,
}

/// Calls after which what goes on being sent is no request's beginning: a request follows the end of a
/// handshake, of TLS or of HTTP/2.
pub const PLACES: usize = 4;
/// A bit above sequence numbers.
pub const TAKEN: u64 = 1 << 32;
/// This end connected.
pub const CLIENT: u32 = 1;
/// This end accepted.
pub const SERVER: u32 = 2;

impl Party {
    /// Notes the trace of plaintext at an offset that was given to a TLS library; the trace that it leaves
    /// in. What was given before and is not sent yet leaves with it, and first; what is given again, as it
    /// was not taken, may be in another turn than the one that it is of.
    #[inline(always)]
    pub fn give(&mut self, context: Context, at: u64) -> Context {
        let (waits, again) = (self.turn == 0 && self.fresh.is_known(), self.given == at);
        if waits && again && self.fresh.source == u32::from(source::SERVED) {
            return self.fresh;
        }
        if !waits || again {
            self.fresh = context;
            self.given = at;
            self.turn = 0;
        }
        context
    }

    /// The trace of ciphertext that begins here: of the plaintext that was given last, if this is the first
    /// that is sent since.
    #[inline(always)]
    pub fn leaves(&mut self, sequence: u32) -> Context {
        let here = TAKEN | u64::from(sequence);
        if self.turn == 0 {
            self.turn = here;
        }
        match self.turn == here {
            true => self.fresh,
            false => Context::UNKNOWN,
        }
    }

    /// What a request begins with that says nothing of its trace: one that is made up, but where its client is
    /// near and has not said.
    #[inline(always)]
    pub const fn silent(&self, found: Context) -> Context {
        match self.near != 0 && found.source == source::MADE as u32 {
            true => Context::UNKNOWN,
            false => found,
        }
    }

    /// The trace in which this host sends the request that begins with this number, if it does.
    #[inline(always)]
    pub fn sent_here(&mut self, sequence: u32) -> Context {
        let Some(own) = self.own(sequence) else {
            let [client, server] = self.ends;
            if self.turn == 0 && SENT.get_ptr(Sent::all(client, server)).is_some() {
                self.near = 1;
            }
            return Context::UNKNOWN;
        };
        self.near = 1;
        own
    }

    /// That, whoever asks; `None` where another host sends it.
    #[inline(always)]
    fn own(&self, sequence: u32) -> Option<Context> {
        let [client, server] = self.ends;
        // SAFETY: plain numbers, read once.
        let own = unsafe { SENT.get(Sent::new(client, server, sequence)) }?;
        Some(match own.is_known() {
            true => Context {
                source: source::OPTION.into(),
                ..*own
            },
            false => Context::UNKNOWN,
        })
    }

    /// Keeps what came until its bytes are read. What comes again takes its own place.
    #[inline(always)]
    pub fn keep(&mut self, sequence: u32, carrier: &Carrier) {
        let mut at = PLACES;
        for (i, place) in self.places.iter().enumerate() {
            if place.state != 0 && place.sequence == sequence {
                at = i;
            }
        }
        if at >= PLACES {
            at = self.next as usize;
            self.next = self.next.wrapping_add(1);
            emit::count(Counter::OptionsRead, 1);
        }
        // SAFETY: plain bytes either way.
        let trace = unsafe { core::mem::transmute::<[u8; 16], [u64; 2]>(carrier.trace) };
        // Sent by this host: another agent's option says another trace.
        let context = self.own(sequence).unwrap_or(Context {
            trace,
            flags: carrier.flags.into(),
            source: source::OPTION.into(),
        });
        let place = &mut self.places[at % PLACES];
        place.sequence = sequence;
        place.state = u32::from(context.is_known());
        place.context = context;
    }

    /// The connection's first request, which begins with this number, has a line that says its trace.
    #[inline(always)]
    pub fn say(&mut self, context: Context, sequence: u32) {
        self.line = TAKEN | u64::from(sequence);
        self.next = 1;
        self.places[0] = Place {
            sequence,
            state: WAITS,
            context,
        };
    }

    /// One that nothing is known of.
    pub const fn new(role: u32, trusted: u32) -> Self {
        Self {
            places: [Place {
                sequence: 0,
                state: 0,
                context: Context::UNKNOWN,
            }; PLACES],
            context: Context::UNKNOWN,
            fresh: Context::UNKNOWN,
            turn: 0,
            given: 0,
            line: 0,
            role,
            open: 0,
            next: 0,
            calls: 0,
            heard: 0,
            trusted,
            secure: 0,
            begun: 0,
            reader: 0,
            debt: 0,
            unit: Member::new(0, 0),
            connection: 0,
            ends: [0; 2],
            near: 0,
            mute: 0,
            seen: 0,
        }
    }
}

/// What is carried by a connection, if anything is.
#[inline(always)]
pub fn party(connection: u64) -> Option<&'static mut Party> {
    let found = PARTIES.get_ptr_mut(connection)?;
    // SAFETY: a map value, valid for the program's run; what two threads that use one connection at once
    // spoil is a link, which user space sees.
    Some(unsafe { &mut *found })
}
