//! Names of commands: which are known, which are plausible, and which mean more than a question and
//! its answer.
//!
//! Source: <https://redis.io/docs/latest/commands/> (Redis 8.2; servers that speak its protocol have
//! the same and some of their own).
//!
//! Never true here: that a name is taken which could be a key or a value.

use std::borrow::Cow;

/// What a command is to the dialogue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A question with one answer.
    Plain,
    /// The next word is part of its name.
    Container,
    /// The same, and what follows may be a secret.
    SecretContainer,
    /// Its arguments may be secrets.
    Secret,
    /// `CLIENT`: a container that may turn answers off.
    Client,
    /// Its first argument names a script or a function.
    Script,
    /// The rest change how the connection is read.
    Select,
    Reset,
    Multi,
    Exec,
    Discard,
    Subscribe(Topic),
    Ping,
    Sync,
}

/// What is subscribed to or unsubscribed from, as the confirmation is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Topic {
    Subscribe,
    Unsubscribe,
    PSubscribe,
    PUnsubscribe,
    SSubscribe,
    SUnsubscribe,
}

impl Kind {
    /// Words from the name on, itself included, that are read: of its name and of what it means.
    pub(super) fn words(self) -> u32 {
        match self {
            Self::Container | Self::SecretContainer | Self::Script | Self::Select => 2,
            Self::Client => 3,
            _ => 1,
        }
    }

    /// Whether the next word is part of its name.
    pub(super) fn is_container(self) -> bool {
        matches!(self, Self::Container | Self::SecretContainer | Self::Client)
    }

    /// Whether arguments are never shown.
    pub(super) fn is_secret(self) -> bool {
        matches!(self, Self::Secret | Self::SecretContainer)
    }
}

/// How a command is answered, where nothing but an error can be another answer: by this it is seen
/// that an answer is not this command's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Shape {
    #[default]
    Free,
    Simple,
    Bulk,
    Number,
    Several,
}

/// The confirmation of this name, in whatever case.
pub(super) fn topic(name: &[u8]) -> Option<Topic> {
    const TOPICS: [(&str, Topic); 6] = [
        ("subscribe", Topic::Subscribe),
        ("unsubscribe", Topic::Unsubscribe),
        ("psubscribe", Topic::PSubscribe),
        ("punsubscribe", Topic::PUnsubscribe),
        ("ssubscribe", Topic::SSubscribe),
        ("sunsubscribe", Topic::SUnsubscribe),
    ];
    let is = |(known, _): &&(&str, Topic)| name.eq_ignore_ascii_case(known.as_bytes());
    let found = (8..=12)
        .contains(&name.len())
        .then(|| TOPICS.iter().find(is));
    found.flatten().map(|(_, topic)| *topic)
}

/// Longest name that is taken.
pub(super) const LONGEST: usize = 32;

/// A command's name in capitals, where it is a word, and what it is.
pub(super) fn find(name: &[u8]) -> (Option<Cow<'static, str>>, Kind, Shape) {
    match entry(name) {
        Some((known, kind, shape)) => (Some(Cow::Borrowed(known)), *kind, *shape),
        None => (word(name).map(Cow::Owned), Kind::Plain, Shape::Free),
    }
}

/// A command of the list, in whatever case.
pub(super) fn known(name: &[u8]) -> Option<&'static str> {
    entry(name).map(|(known, ..)| *known)
}

fn entry(name: &[u8]) -> Option<&'static (&'static str, Kind, Shape)> {
    let mut upper = [0; LONGEST];
    let upper = upper.get_mut(..name.len())?;
    upper.copy_from_slice(name);
    upper.make_ascii_uppercase();
    let at = NAMES
        .binary_search_by(|(known, ..)| known.as_bytes().cmp(upper))
        .ok()?;
    NAMES.get(at)
}

/// What may be the name of a command that is not in the list (`JSON.GET`, `FT._LIST`), in capitals:
/// letters, and marks between them.
pub(super) fn word(name: &[u8]) -> Option<String> {
    let fits = (2..=LONGEST).contains(&name.len());
    let (first, last) = (name.first()?, name.last()?);
    let plain = |b: &u8| b.is_ascii_alphabetic() || matches!(b, b'.' | b'_' | b'-');
    let ends = first.is_ascii_alphabetic() && last.is_ascii_alphabetic();
    let text = std::str::from_utf8(name).ok()?;
    (fits && ends && name.iter().all(plain)).then(|| text.to_ascii_uppercase())
}

/// In the order of their bytes: what each is to the dialogue, and how it is answered.
#[rustfmt::skip]
static NAMES: &[(&str, Kind, Shape)] = {
    use Kind::*;
    use Shape::{Bulk, Free, Number, Several, Simple};
    &[
        ("ACL", SecretContainer, Free), ("APPEND", Plain, Number), ("ASKING", Plain, Free),
        ("AUTH", Secret, Simple), ("BGREWRITEAOF", Plain, Free), ("BGSAVE", Plain, Free),
        ("BITCOUNT", Plain, Free), ("BITFIELD", Plain, Free), ("BITFIELD_RO", Plain, Free),
        ("BITOP", Plain, Free), ("BITPOS", Plain, Free), ("BLMOVE", Plain, Free),
        ("BLMPOP", Plain, Free), ("BLPOP", Plain, Free), ("BRPOP", Plain, Free),
        ("BRPOPLPUSH", Plain, Free), ("BZMPOP", Plain, Free), ("BZPOPMAX", Plain, Free),
        ("BZPOPMIN", Plain, Free), ("CLIENT", Client, Free), ("CLUSTER", Container, Free),
        ("CLUSTERSCAN", Plain, Free), ("COMMAND", Container, Free),
        ("CONFIG", SecretContainer, Free), ("COPY", Plain, Free), ("DBSIZE", Plain, Number),
        ("DEBUG", Container, Free), ("DECR", Plain, Number), ("DECRBY", Plain, Number),
        ("DEL", Plain, Number), ("DELEX", Plain, Free), ("DIGEST", Plain, Free),
        ("DISCARD", Discard, Simple), ("DUMP", Plain, Free), ("ECHO", Plain, Bulk),
        ("EVAL", Plain, Free), ("EVALSHA", Script, Free), ("EVALSHA_RO", Script, Free),
        ("EVAL_RO", Plain, Free), ("EXEC", Exec, Several), ("EXISTS", Plain, Number),
        ("EXPIRE", Plain, Number), ("EXPIREAT", Plain, Number), ("EXPIRETIME", Plain, Free),
        ("FAILOVER", Plain, Free), ("FCALL", Script, Free), ("FCALL_RO", Script, Free),
        ("FLUSHALL", Plain, Simple), ("FLUSHDB", Plain, Simple), ("FUNCTION", Container, Free),
        ("GEOADD", Plain, Free), ("GEODIST", Plain, Free), ("GEOHASH", Plain, Free),
        ("GEOPOS", Plain, Free), ("GEORADIUS", Plain, Free), ("GEORADIUSBYMEMBER", Plain, Free),
        ("GEORADIUSBYMEMBER_RO", Plain, Free), ("GEORADIUS_RO", Plain, Free),
        ("GEOSEARCH", Plain, Free), ("GEOSEARCHSTORE", Plain, Free), ("GET", Plain, Bulk),
        ("GETBIT", Plain, Free), ("GETDEL", Plain, Bulk), ("GETEX", Plain, Bulk),
        ("GETRANGE", Plain, Bulk), ("GETSET", Plain, Bulk), ("HDEL", Plain, Number),
        ("HELLO", Secret, Free), ("HEXISTS", Plain, Number), ("HEXPIRE", Plain, Free),
        ("HEXPIREAT", Plain, Free), ("HEXPIRETIME", Plain, Free), ("HGET", Plain, Bulk),
        ("HGETALL", Plain, Several), ("HGETDEL", Plain, Free), ("HGETEX", Plain, Free),
        ("HINCRBY", Plain, Number), ("HINCRBYFLOAT", Plain, Free), ("HKEYS", Plain, Several),
        ("HLEN", Plain, Number), ("HMGET", Plain, Several), ("HMSET", Plain, Simple),
        ("HOTKEYS", Container, Free), ("HPERSIST", Plain, Free), ("HPEXPIRE", Plain, Free),
        ("HPEXPIREAT", Plain, Free), ("HPEXPIRETIME", Plain, Free), ("HPTTL", Plain, Free),
        ("HRANDFIELD", Plain, Free), ("HSCAN", Plain, Several), ("HSET", Plain, Number),
        ("HSETEX", Plain, Free), ("HSETNX", Plain, Free), ("HSTRLEN", Plain, Free),
        ("HTTL", Plain, Free), ("HVALS", Plain, Several), ("INCR", Plain, Number),
        ("INCRBY", Plain, Number), ("INCRBYFLOAT", Plain, Free), ("INFO", Plain, Free),
        ("KEYS", Plain, Several), ("LASTSAVE", Plain, Free), ("LATENCY", Container, Free),
        ("LCS", Plain, Free), ("LINDEX", Plain, Bulk), ("LINSERT", Plain, Free),
        ("LLEN", Plain, Number), ("LMOVE", Plain, Free), ("LMPOP", Plain, Free),
        ("LOLWUT", Plain, Free), ("LPOP", Plain, Free), ("LPOS", Plain, Free),
        ("LPUSH", Plain, Number), ("LPUSHX", Plain, Free), ("LRANGE", Plain, Several),
        ("LREM", Plain, Free), ("LSET", Plain, Simple), ("LTRIM", Plain, Simple),
        ("MEMORY", Container, Free), ("MGET", Plain, Several), ("MIGRATE", Secret, Free),
        ("MODULE", Container, Free), ("MONITOR", Plain, Free), ("MOVE", Plain, Free),
        ("MSET", Plain, Simple), ("MSETEX", Plain, Free), ("MSETNX", Plain, Free),
        ("MULTI", Multi, Simple), ("OBJECT", Container, Free), ("PERSIST", Plain, Number),
        ("PEXPIRE", Plain, Number), ("PEXPIREAT", Plain, Number), ("PEXPIRETIME", Plain, Free),
        ("PFADD", Plain, Free), ("PFCOUNT", Plain, Free), ("PFDEBUG", Plain, Free),
        ("PFMERGE", Plain, Free), ("PFSELFTEST", Plain, Free), ("PING", Ping, Free),
        ("PSETEX", Plain, Simple), ("PSUBSCRIBE", Subscribe(Topic::PSubscribe), Free),
        ("PSYNC", Sync, Free), ("PTTL", Plain, Number), ("PUBLISH", Plain, Number),
        ("PUBSUB", Container, Free), ("PUNSUBSCRIBE", Subscribe(Topic::PUnsubscribe), Free),
        ("QUIT", Plain, Free), ("RANDOMKEY", Plain, Free), ("READONLY", Plain, Free),
        ("READWRITE", Plain, Free), ("RENAME", Plain, Free), ("RENAMENX", Plain, Free),
        ("REPLCONF", Plain, Free), ("REPLICAOF", Plain, Free), ("RESET", Reset, Free),
        ("RESTORE", Plain, Free), ("RESTORE-ASKING", Plain, Free), ("ROLE", Plain, Free),
        ("RPOP", Plain, Free), ("RPOPLPUSH", Plain, Free), ("RPUSH", Plain, Number),
        ("RPUSHX", Plain, Free), ("SADD", Plain, Number), ("SAVE", Plain, Free),
        ("SCAN", Plain, Several), ("SCARD", Plain, Number), ("SCRIPT", Container, Free),
        ("SDIFF", Plain, Free), ("SDIFFSTORE", Plain, Free), ("SELECT", Select, Simple),
        ("SENTINEL", SecretContainer, Free), ("SET", Plain, Free), ("SETBIT", Plain, Free),
        ("SETEX", Plain, Simple), ("SETNX", Plain, Number), ("SETRANGE", Plain, Free),
        ("SHUTDOWN", Plain, Free), ("SINTER", Plain, Free), ("SINTERCARD", Plain, Free),
        ("SINTERSTORE", Plain, Free), ("SISMEMBER", Plain, Number), ("SLAVEOF", Plain, Free),
        ("SLOWLOG", Container, Free), ("SMEMBERS", Plain, Several), ("SMISMEMBER", Plain, Free),
        ("SMOVE", Plain, Free), ("SORT", Plain, Free), ("SORT_RO", Plain, Free),
        ("SPOP", Plain, Free), ("SPUBLISH", Plain, Free), ("SRANDMEMBER", Plain, Free),
        ("SREM", Plain, Number), ("SSCAN", Plain, Several),
        ("SSUBSCRIBE", Subscribe(Topic::SSubscribe), Free), ("STRLEN", Plain, Number),
        ("SUBSCRIBE", Subscribe(Topic::Subscribe), Free), ("SUBSTR", Plain, Free),
        ("SUNION", Plain, Free), ("SUNIONSTORE", Plain, Free),
        ("SUNSUBSCRIBE", Subscribe(Topic::SUnsubscribe), Free), ("SWAPDB", Plain, Free),
        ("SYNC", Sync, Free), ("TIME", Plain, Free), ("TOUCH", Plain, Number),
        ("TTL", Plain, Number), ("TYPE", Plain, Free), ("UNLINK", Plain, Number),
        ("UNSUBSCRIBE", Subscribe(Topic::Unsubscribe), Free), ("UNWATCH", Plain, Simple),
        ("VADD", Plain, Free), ("VCARD", Plain, Free), ("VDIM", Plain, Free), ("VEMB", Plain, Free),
        ("VGETATTR", Plain, Free), ("VINFO", Plain, Free), ("VISMEMBER", Plain, Free),
        ("VLINKS", Plain, Free), ("VRANDMEMBER", Plain, Free), ("VRANGE", Plain, Free),
        ("VREM", Plain, Free), ("VSETATTR", Plain, Free), ("VSIM", Plain, Free),
        ("WAIT", Plain, Free), ("WAITAOF", Plain, Free), ("WATCH", Plain, Simple),
        ("XACK", Plain, Free), ("XACKDEL", Plain, Free), ("XADD", Plain, Free),
        ("XAUTOCLAIM", Plain, Free), ("XCLAIM", Plain, Free), ("XDEL", Plain, Free),
        ("XDELEX", Plain, Free), ("XGROUP", Container, Free), ("XINFO", Container, Free),
        ("XLEN", Plain, Free), ("XPENDING", Plain, Free), ("XRANGE", Plain, Free),
        ("XREAD", Plain, Free), ("XREADGROUP", Plain, Free), ("XREVRANGE", Plain, Free),
        ("XSETID", Plain, Free), ("XTRIM", Plain, Free), ("ZADD", Plain, Free),
        ("ZCARD", Plain, Number), ("ZCOUNT", Plain, Free), ("ZDIFF", Plain, Free),
        ("ZDIFFSTORE", Plain, Free), ("ZINCRBY", Plain, Free), ("ZINTER", Plain, Free),
        ("ZINTERCARD", Plain, Free), ("ZINTERSTORE", Plain, Free), ("ZLEXCOUNT", Plain, Free),
        ("ZMPOP", Plain, Free), ("ZMSCORE", Plain, Free), ("ZPOPMAX", Plain, Free),
        ("ZPOPMIN", Plain, Free), ("ZRANDMEMBER", Plain, Free), ("ZRANGE", Plain, Free),
        ("ZRANGEBYLEX", Plain, Free), ("ZRANGEBYSCORE", Plain, Free), ("ZRANGESTORE", Plain, Free),
        ("ZRANK", Plain, Free), ("ZREM", Plain, Number), ("ZREMRANGEBYLEX", Plain, Free),
        ("ZREMRANGEBYRANK", Plain, Free), ("ZREMRANGEBYSCORE", Plain, Free),
        ("ZREVRANGE", Plain, Free), ("ZREVRANGEBYLEX", Plain, Free),
        ("ZREVRANGEBYSCORE", Plain, Free), ("ZREVRANK", Plain, Free), ("ZSCAN", Plain, Several),
        ("ZSCORE", Plain, Free), ("ZUNION", Plain, Free), ("ZUNIONSTORE", Plain, Free),
    ]
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_in_order() {
        assert!(NAMES.is_sorted_by_key(|(name, ..)| name));
        for (name, ..) in NAMES {
            assert!(name.len() <= LONGEST);
            assert_eq!(known(name.to_ascii_lowercase().as_bytes()), Some(*name));
        }
    }

    #[test]
    fn names_of_commands_that_are_not_known() {
        for (name, found) in [
            ("json.get", Some("JSON.GET")),
            ("FT._LIST", Some("FT._LIST")),
            ("x", None),
            ("user:42", None),
            ("a1b2c3", None),
            ("-get", None),
            ("with space", None),
            ("", None),
            ("abcdefghijklmnopqrstuvwxyzabcdefg", None),
        ] {
            assert_eq!(find(name.as_bytes()).0.as_deref(), found, "{name}");
        }
        assert_eq!(find(b"get").0, Some(Cow::Borrowed("GET")));
        assert_eq!(
            find(b"sUnsubscribe").1,
            Kind::Subscribe(Topic::SUnsubscribe)
        );
    }
}
