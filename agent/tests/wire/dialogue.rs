//! Dialogue files and the way they are played.
//!
//! A file is lines: `>` and `<` bytes of the asking and the answering side (CRLF is added, unless
//! the line ends in `\`; `\r \n \t \0 \xNN \\` are read), `--` ends a segment where the side does
//! not change, `! eof|local|reset|gone` ends something, `*N text` after `>` or `<` repeats text N
//! times, `forged` says that a body begins like a message, `budget N` names a copy budget that
//! changes nothing, `older` that the connection was there before the agent, `#` is a remark. After a line `again` comes one more
//! exchange, which must be read whatever was lost before it. After `====` comes what is expected.

use std::path::{Path, PathBuf};

use spantap::event::{Ending, Hole};

#[path = "play.rs"]
pub mod play;

use play::play;

/// Who moved bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Ask,
    Answer,
}

/// One segment, or an end.
#[derive(Clone, Debug)]
pub enum Step {
    Bytes {
        way: Way,
        bytes: Vec<u8>,
        /// (first missing byte, how many): of those in `bytes`.
        hole: Option<(usize, usize)>,
        cause: Option<Hole>,
        /// Its record is lost on the way; the kernel's own state is not.
        dropped: bool,
        /// Continues the way before without a turn.
        same: bool,
    },
    End(Ending),
    /// The connection is older than the agent; comes first.
    Older,
}

impl Step {
    pub fn new(way: Way, bytes: Vec<u8>) -> Self {
        Step::Bytes {
            way,
            bytes,
            hole: None,
            cause: None,
            dropped: false,
            same: false,
        }
    }

    pub fn bytes(&self) -> &[u8] {
        match self {
            Step::Bytes { bytes, .. } => bytes,
            Step::End(_) | Step::Older => &[],
        }
    }

    /// Only the first `n` bytes.
    pub fn first(&self, n: usize) -> Step {
        let mut step = self.clone();
        if let Step::Bytes { bytes, hole, .. } = &mut step {
            bytes.truncate(n);
            *hole = hole.filter(|(at, _)| *at < n);
        }
        step
    }

    /// With bytes missing.
    pub fn with_hole(&self, at: usize, size: usize) -> Step {
        let mut step = self.clone();
        if let Step::Bytes {
            bytes, hole, cause, ..
        } = &mut step
        {
            *hole = Some((at, size.min(bytes.len() - at)));
            *cause = Some(Hole::Fault);
        }
        step
    }
}

/// Every file of every protocol, or of the one that `ONLY` names. A protocol is never named here: the
/// registry is walked.
pub fn all() -> Vec<Dialogue> {
    let only = std::env::var("ONLY").ok();
    let wanted = |name: &str| only.as_deref().is_none_or(|only| only == name);
    let mut all = Vec::new();
    let protocols = spantap::protocol::ALL.iter();
    for protocol in protocols.filter(|protocol| wanted(protocol.name())) {
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
            .join("../tests/wire")
            .join(protocol.name());
        let mut files: Vec<_> = std::fs::read_dir(&folder)
            .unwrap_or_else(|e| panic!("{}: every protocol has dialogues: {e}", folder.display()))
            .map(|entry| entry.expect("a readable folder").path())
            .filter(|path| path.extension().is_some_and(|e| e == "txt"))
            .collect();
        files.sort();
        assert!(!files.is_empty(), "{}: no dialogue", protocol.name());
        let read = |path: &PathBuf| Dialogue {
            protocol: protocol.name(),
            ..Dialogue::read(path)
        };
        all.extend(files.iter().map(read));
    }
    all
}

/// A file.
#[derive(Clone, Debug)]
pub struct Dialogue {
    pub name: String,
    /// The folder it is in.
    pub protocol: &'static str,
    pub steps: Vec<Step>,
    pub expected: String,
    pub budget: Option<usize>,
    /// A body begins a turn like a message: nobody can tell who missed its head.
    pub forged: bool,
    /// One more exchange.
    again: Vec<Step>,
    path: PathBuf,
}

impl Dialogue {
    pub fn read(path: &Path) -> Self {
        let text = std::fs::read_to_string(path).expect("a readable file");
        let (script, expected) = text.split_once("====\n").unwrap_or((&text, ""));
        let mut budget = None;
        let mut forged = false;
        let mut steps: Vec<Step> = Vec::new();
        let mut before = None;
        let mut fresh = true;
        for line in script.lines() {
            let (way, rest) = match line.as_bytes().first() {
                None | Some(b'#') => continue,
                Some(b'>') => (Way::Ask, after_sign(line)),
                Some(b'<') => (Way::Answer, after_sign(line)),
                Some(b'-') => {
                    fresh = true;
                    continue;
                }
                Some(b'!') => {
                    steps.push(Step::End(ending(line[1..].trim())));
                    fresh = true;
                    continue;
                }
                _ if line == "older" => {
                    steps.push(Step::Older);
                    continue;
                }
                _ if line == "again" => {
                    before = Some(std::mem::take(&mut steps));
                    fresh = true;
                    continue;
                }
                _ if line == "forged" => {
                    forged = true;
                    continue;
                }
                _ => {
                    let n = line.strip_prefix("budget ").expect("a known word");
                    budget = Some(n.parse().expect("a number"));
                    continue;
                }
            };
            let more = unescape(rest);
            match steps.last_mut() {
                Some(Step::Bytes { way: w, bytes, .. }) if !fresh && *w == way => {
                    bytes.extend(more);
                }
                last => {
                    let same = matches!(last, Some(Step::Bytes { way: w, .. }) if *w == way);
                    let mut step = Step::new(way, more);
                    if let Step::Bytes { same: s, .. } = &mut step {
                        *s = same;
                    }
                    steps.push(step);
                }
            }
            fresh = false;
        }
        let (steps, again) = before.map_or((steps.clone(), Vec::new()), |before| (before, steps));
        Self {
            name: path.display().to_string(),
            protocol: "http1",
            again,
            steps,
            expected: expected.to_owned(),
            budget,
            forged,
            path: path.to_owned(),
        }
    }

    pub fn rewrite(&self, seen: &str) {
        let text = std::fs::read_to_string(&self.path).expect("a readable file");
        let script = text
            .split_once("====\n")
            .map_or(&*text, |(script, _)| script);
        std::fs::write(&self.path, format!("{script}====\n{seen}")).expect("a writable file");
    }

    /// Whether the connection can be used after it.
    pub fn goes_on(&self) -> bool {
        let ends = self.steps.iter().any(|s| matches!(s, Step::End(_)));
        let last_is_answer = matches!(
            self.steps.last(),
            Some(Step::Bytes {
                way: Way::Answer,
                ..
            })
        );
        let seen = play(&self.steps);
        let whole = last_is_answer && seen.iter().all(|s| s.outcome == "complete");
        !ends && (whole && self.protocol.starts_with("http") || !self.again.is_empty())
    }

    /// An exchange after it.
    pub fn one_more(&self) -> Vec<Step> {
        match self.again.is_empty() {
            true => <[Step; 2]>::from(one_more(self.protocol)).into(),
            false => self.again.clone(),
        }
    }
}

fn after_sign(line: &str) -> &str {
    line[1..].strip_prefix(' ').unwrap_or(&line[1..])
}

fn ending(word: &str) -> Ending {
    match word {
        "eof" => Ending::Eof,
        "local" => Ending::Local,
        "reset" => Ending::Error(104),
        "gone" => Ending::Gone,
        _ => panic!("unknown end: {word}"),
    }
}

fn unescape(line: &str) -> Vec<u8> {
    let (times, line) = match line.strip_prefix('*').and_then(|l| l.split_once(' ')) {
        Some((n, rest)) => (n.parse().expect("a number"), rest),
        None => (1, line),
    };
    let mut out = Vec::new();
    let mut chars = line.chars().peekable();
    let mut bare = false;
    while let Some(c) = chars.next() {
        match (c, chars.peek()) {
            ('\\', None) => bare = true,
            ('\\', Some(_)) => match chars.next() {
                Some('r') => out.push(b'\r'),
                Some('n') => out.push(b'\n'),
                Some('t') => out.push(b'\t'),
                Some('0') => out.push(0),
                Some('x') => {
                    let hex: String = chars.by_ref().take(2).collect();
                    out.push(u8::from_str_radix(&hex, 16).expect("two hex digits"));
                }
                other => out.extend(other.map(|c| c as u8)),
            },
            _ => out.extend(c.to_string().bytes()),
        }
    }
    let mut out = out.repeat(times);
    if !bare {
        out.extend(b"\r\n");
    }
    out
}

/// An exchange after the dialogue.
pub fn one_more(protocol: &str) -> (Step, Step) {
    if protocol == "http2" {
        // HEADERS that end their stream: what they say is in the static table, or written out.
        let ask = b"\x00\x00\x10\x01\x05\x00\x00\x10\x01\x82\x86\x01\x01h\x04\x09/one-more";
        let answer = b"\x00\x00\x05\x01\x05\x00\x00\x10\x01\x08\x03207";
        return (
            Step::new(Way::Ask, ask.to_vec()),
            Step::new(Way::Answer, answer.to_vec()),
        );
    }
    let ask = b"GET /one-more HTTP/1.1\r\nhost: h\r\n\r\n".to_vec();
    let answer = b"HTTP/1.1 207 Fine\r\nContent-Length: 2\r\n\r\nok".to_vec();
    (Step::new(Way::Ask, ask), Step::new(Way::Answer, answer))
}

/// The same bytes, at most `portion` in each segment.
pub fn in_portions(steps: &[Step], portion: usize) -> Vec<Step> {
    let mut out = Vec::new();
    for step in steps {
        match step {
            Step::Bytes {
                way,
                bytes,
                hole: None,
                ..
            } => {
                for part in bytes.chunks(portion) {
                    out.push(Step::new(*way, part.to_vec()));
                }
            }
            other => out.push(other.clone()),
        }
    }
    out
}

/// Each segment in so many.
pub fn in_pieces(steps: &[Step], pieces: usize) -> Vec<Step> {
    let each = steps.iter().flat_map(|step| {
        let portion = step.bytes().len().div_ceil(pieces).max(1);
        in_portions(std::slice::from_ref(step), portion)
    });
    each.collect()
}

/// With one segment in two.
pub fn cut(steps: &[Step], index: usize, at: usize) -> Vec<Step> {
    let mut out = steps.to_vec();
    if let Step::Bytes { way, bytes, .. } = &steps[index] {
        let (a, b) = bytes.split_at(at);
        out.splice(
            index..=index,
            [Step::new(*way, a.to_vec()), Step::new(*way, b.to_vec())],
        );
    }
    out
}

/// Without one segment's record: the next one says so.
pub fn without(steps: &[Step], index: usize) -> Vec<Step> {
    let mut out = steps.to_vec();
    if let Some(Step::Bytes { dropped, .. }) = out.get_mut(index) {
        *dropped = true;
    }
    out
}

/// As the kernel copies: so many bytes of each turn, then only the last few of each segment. Fewer than
/// it does, so that dialogues are long enough for holes.
pub fn with_budget(steps: &[Step], budget: usize, why: Hole) -> Vec<Step> {
    let mut out = Vec::new();
    let mut left = budget;
    let mut last = None;
    for step in steps {
        let mut step = step.clone();
        if let Step::Bytes {
            way,
            bytes,
            hole,
            cause,
            ..
        } = &mut step
        {
            if last != Some(*way) {
                left = budget;
            }
            last = Some(*way);
            let head = bytes.len().min(left);
            left -= head;
            let tail = (bytes.len() - head).min(16);
            if head + tail < bytes.len() {
                *hole = Some((head, bytes.len() - head - tail));
                *cause = Some(why);
            }
        }
        out.push(step);
    }
    out
}

/// Changes a byte, or leaves some out, or doubles some.
pub fn rot(steps: &mut [Step], random: &mut Random) {
    let index = random.below(steps.len());
    if let Step::Bytes { bytes, .. } = &mut steps[index]
        && !bytes.is_empty()
    {
        let at = random.below(bytes.len());
        let length = random.below(16).min(bytes.len() - at);
        match random.below(4) {
            0 => bytes[at] = random.below(256) as u8,
            1 => drop(bytes.drain(at..at + length)),
            2 => {
                let copy = bytes[at..at + length].to_vec();
                bytes.splice(at..at, copy);
            }
            _ => bytes[at] = b"\r\n: 0;,"[random.below(7)],
        }
    }
}

/// xorshift64*: the same numbers in every run.
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let x = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D);
        usize::try_from(x >> 33).expect("31 bits") % n.max(1)
    }
}
