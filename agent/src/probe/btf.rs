//! Field offsets from the running kernel's BTF (`/sys/kernel/btf/vmlinux`): Rust programs have no
//! field relocations, so the loader looks the offsets up and hands them over as a table.
//!
//! Format: Documentation/bpf/btf.rst. Any bytes are read without panic; a field that is not found
//! is [`abi::ABSENT`](agent_ebpf::abi::ABSENT).

use std::collections::HashMap;

use agent_ebpf::abi::{ABSENT, FIELD_COUNT, FIELDS};
use anyhow::{Context as _, Result, bail};

/// A parsed BTF blob.
pub struct Btf<'a> {
    types: Vec<Type<'a>>,
    strings: &'a [u8],
}

/// One type, as far as offsets need it.
#[derive(Clone, Copy)]
struct Type<'a> {
    name: u32,
    kind: u32,
    flag: bool,
    /// Size, or the type referred to.
    target: u32,
    /// Members of a struct or union, 12 bytes each.
    members: &'a [u8],
}

const KIND_ARRAY: u32 = 3;
const KIND_STRUCT: u32 = 4;
const KIND_UNION: u32 = 5;
const KIND_TYPEDEF: u32 = 8;
const KIND_VOLATILE: u32 = 9;
const KIND_CONST: u32 = 10;
const KIND_RESTRICT: u32 = 11;
const KIND_TYPE_TAG: u32 = 18;

impl<'a> Btf<'a> {
    /// Parses a blob.
    ///
    /// # Errors
    /// Where it is not BTF of this machine's byte order, or is cut short.
    pub fn parse(blob: &'a [u8]) -> Result<Self> {
        let word = |at: usize| u32_at(blob, at).context("BTF: header cut short");
        if word(0)? & 0xffff != 0xeb9f {
            bail!("BTF: wrong magic");
        }
        let header = word(4)? as usize;
        let section = |offset: usize, length: usize| {
            header
                .checked_add(offset)
                .and_then(|from| Some(from..from.checked_add(length)?))
                .and_then(|range| blob.get(range))
                .context("BTF: section out of bounds")
        };
        let types = section(word(8)? as usize, word(12)? as usize)?;
        let strings = section(word(16)? as usize, word(20)? as usize)?;
        Ok(Self {
            types: parse_types(types)?,
            strings,
        })
    }

    /// Offsets of all [`FIELDS`], in their order.
    pub fn offsets(&self) -> [u32; FIELD_COUNT] {
        let structs: HashMap<&str, usize> = self
            .types
            .iter()
            .enumerate()
            .filter(|(_, t)| t.kind == KIND_STRUCT && t.name != 0)
            .map(|(i, t)| (self.string(t.name), i))
            .collect();
        let mut offsets = [ABSENT; FIELD_COUNT];
        for (slot, (structure, path)) in offsets.iter_mut().zip(FIELDS) {
            let found = structs
                .get(structure)
                .and_then(|&id| self.path(id as u32, path));
            *slot = found.unwrap_or(ABSENT);
        }
        offsets
    }

    /// Whether a function of this name is described.
    pub fn has_function(&self, name: &str) -> bool {
        const KIND_FUNC: u32 = 12;
        self.types
            .iter()
            .any(|t| t.kind == KIND_FUNC && self.string(t.name) == name)
    }

    /// Whether a typedef of this name is described: tp_btf finds a tracepoint by `btf_trace_NAME`.
    pub fn has_typedef(&self, name: &str) -> bool {
        self.types
            .iter()
            .any(|t| t.kind == KIND_TYPEDEF && self.string(t.name) == name)
    }

    /// Byte offset of `a.b.c` in a struct.
    fn path(&self, structure: u32, path: &str) -> Option<u32> {
        let mut at = 0u32;
        let mut current = structure;
        for name in path.split('.') {
            let (offset, member) = self.member(current, name, 8)?;
            at = at.checked_add(offset)?;
            current = self.resolve(member)?;
        }
        Some(at)
    }

    /// Byte offset and type of a member, also inside anonymous structs and unions.
    fn member(&self, structure: u32, name: &str, depth: u32) -> Option<(u32, u32)> {
        let t = self.types.get(structure as usize)?;
        for m in t.members.chunks_exact(12) {
            let (found, member, bits) = (u32_at(m, 0)?, u32_at(m, 4)?, u32_at(m, 8)?);
            // With the flag, the upper 8 bits are a bit-field's width.
            let offset = if t.flag { bits & 0x00ff_ffff } else { bits } / 8;
            if found != 0 && self.string(found) == name {
                return Some((offset, member));
            }
            if found == 0 && depth > 0 {
                let inner = self.resolve(member)?;
                if let Some((more, kind)) = self.member(inner, name, depth - 1) {
                    return Some((offset.checked_add(more)?, kind));
                }
            }
        }
        None
    }

    /// Follows typedefs and qualifiers.
    fn resolve(&self, mut id: u32) -> Option<u32> {
        for _ in 0..32 {
            let t = self.types.get(id as usize)?;
            match t.kind {
                KIND_TYPEDEF | KIND_VOLATILE | KIND_CONST | KIND_RESTRICT | KIND_TYPE_TAG => {
                    id = t.target;
                }
                _ => return Some(id),
            }
        }
        None
    }

    fn string(&self, at: u32) -> &'a str {
        let rest = self.strings.get(at as usize..).unwrap_or_default();
        let end = rest.iter().position(|&b| b == 0).unwrap_or(rest.len());
        std::str::from_utf8(rest.get(..end).unwrap_or_default()).unwrap_or_default()
    }
}

fn parse_types(mut rest: &[u8]) -> Result<Vec<Type<'_>>> {
    // Type 0 is void.
    let mut types = vec![Type {
        name: 0,
        kind: 0,
        flag: false,
        target: 0,
        members: &[],
    }];
    while !rest.is_empty() {
        let word = |at| u32_at(rest, at).context("BTF: type cut short");
        let info = word(4)?;
        let (kind, count) = ((info >> 24) & 0x1f, (info & 0xffff) as usize);
        let extra =
            extra_bytes(kind, count).with_context(|| format!("BTF: unknown kind {kind}"))?;
        let members = rest.get(12..12 + extra).context("BTF: members cut short")?;
        types.push(Type {
            name: word(0)?,
            kind,
            flag: info >> 31 != 0,
            target: word(8)?,
            members: if kind == KIND_STRUCT || kind == KIND_UNION {
                members
            } else {
                &[]
            },
        });
        rest = rest.get(12 + extra..).unwrap_or_default();
    }
    Ok(types)
}

/// Bytes that follow a type's common 12, by kind (Documentation/bpf/btf.rst, section 2.2).
fn extra_bytes(kind: u32, count: usize) -> Option<usize> {
    Some(match kind {
        // pointer, forward, typedef, volatile, const, restrict, func, float, type tag
        2 | 7 | 8 | 9 | 10 | 11 | 12 | 16 | 18 => 0,
        // int, var, decl tag
        1 | 14 | 17 => 4,
        KIND_ARRAY => 12,
        // struct, union, datasec, enum64
        KIND_STRUCT | KIND_UNION | 15 | 19 => 12 * count,
        // enum, func proto
        6 | 13 => 8 * count,
        _ => return None,
    })
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let word = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_ne_bytes(word.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolves_every_field_of_this_kernel() {
        let Ok(blob) = std::fs::read("/sys/kernel/btf/vmlinux") else {
            return;
        };
        let offsets = Btf::parse(&blob).unwrap().offsets();
        for ((structure, member), offset) in FIELDS.iter().zip(offsets) {
            assert_ne!(offset, ABSENT, "{structure}.{member}");
        }
    }

    #[test]
    fn finds_members_in_anonymous_unions_and_nested_structs() {
        // struct outer { int a; union { struct { int c; } b; }; }
        let mut strings = vec![0u8];
        let mut name = |s: &str| {
            let at = strings.len() as u32;
            strings.extend_from_slice(s.as_bytes());
            strings.push(0);
            at
        };
        let (int, a, b, c, outer) = (name("int"), name("a"), name("b"), name("c"), name("outer"));
        let info = |kind: u32, count: u32| kind << 24 | count;
        let words = [
            int,
            info(1, 0),
            4,
            32, // 1: int
            0,
            info(KIND_STRUCT, 1),
            4,
            c,
            1,
            32, // 2: struct { int c; } at bit 32
            0,
            info(KIND_UNION, 1),
            4,
            b,
            2,
            0, // 3: union { 2 b; }
            outer,
            info(KIND_STRUCT, 2),
            8,
            a,
            1,
            0,
            0,
            3,
            32, // 4: struct outer
        ];
        let types: Vec<u8> = words.iter().flat_map(|w: &u32| w.to_ne_bytes()).collect();
        let mut blob = Vec::new();
        for w in [
            0x0001_eb9f,
            24,
            0,
            types.len() as u32,
            types.len() as u32,
            strings.len() as u32,
        ] {
            blob.extend_from_slice(&w.to_ne_bytes());
        }
        blob.extend_from_slice(&types);
        blob.extend_from_slice(&strings);
        let btf = Btf::parse(&blob).unwrap();
        assert_eq!(btf.path(4, "b.c"), Some(8));
        assert_eq!(btf.path(4, "a"), Some(0));
        assert_eq!(btf.path(4, "nothing"), None);
        for cut in 0..blob.len() {
            let _ = Btf::parse(&blob[..cut]);
        }
    }
}
