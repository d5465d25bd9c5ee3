//! The YAML file as a layer. Every key must be a setting's name; a key or value that is not known
//! is an error with its line. The parser tells lines only for what it refuses, so a key's line is
//! found by reading the file once more and refusing that key: exact in every style YAML allows.

use std::cell::RefCell;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::de::{
    DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor,
};

use super::env::check;
use super::form::{Raw, Shape};
use super::near::hint;
use super::setting::Setting;
use super::table::SETTINGS;

/// A file that was read and found right.
#[derive(Debug, Default)]
pub struct Contents {
    /// Where it is.
    pub path: PathBuf,
    /// What it sets, by line.
    pub values: Vec<(&'static Setting, Raw, usize)>,
}

/// Reads a file's text; the error names path and line of all that is wrong, a line each.
pub fn parse(path: &Path, text: &str) -> Result<Contents, String> {
    let (found, unknown) = walk(text, None).map_err(|stop| stop.at(path))?;
    let mut contents = Contents {
        path: path.to_owned(),
        values: Vec::new(),
    };
    let mut faults: Vec<Stop> = Vec::new();
    for key in unknown {
        let near = hint(&key, names().iter().map(String::as_str));
        faults.push(Stop {
            line: line_of(text, &key),
            why: format!("unknown key `{key}`{near}"),
        });
    }
    for (setting, raw) in found {
        let line = line_of(text, setting.name);
        match check(setting, &raw) {
            Ok(()) => contents.values.push((setting, raw, line)),
            Err(why) => faults.push(Stop {
                line,
                why: format!("{}: {why}", setting.name),
            }),
        }
    }
    if faults.is_empty() {
        return Ok(contents);
    }
    faults.sort_by_key(|fault| fault.line);
    let faults: Vec<_> = faults.into_iter().map(|fault| fault.at(path)).collect();
    Err(faults.join("\n"))
}

/// The line a setting's key is on.
fn line_of(text: &str, name: &str) -> usize {
    walk(text, Some(name)).err().map_or(0, |stop| stop.line)
}

/// Why and where reading ended.
struct Stop {
    why: String,
    line: usize,
}

impl Stop {
    fn at(self, path: &Path) -> String {
        format!("{}:{}: {}", path.display(), self.line, self.why)
    }
}

type Found = Vec<(&'static Setting, Raw)>;

/// Keys that are no settings.
type Unknown = Vec<String>;

/// Reads the whole text, or up to the key named `until`, where it ends with an error.
fn walk(text: &str, until: Option<&str>) -> Result<(Found, Unknown), Stop> {
    let state = State {
        found: RefCell::default(),
        unknown: RefCell::default(),
        why: RefCell::default(),
        until,
    };
    // A file of comments only holds no document at all.
    let blank = |line: &str| line.trim().is_empty() || line.trim_start().starts_with('#');
    if text.lines().all(blank) {
        return Ok(Default::default());
    }
    let section = Section {
        state: &state,
        name: "",
    };
    match section.deserialize(serde_yaml_ng::Deserializer::from_str(text)) {
        Ok(()) => Ok((state.found.into_inner(), state.unknown.into_inner())),
        Err(error) => Err(Stop {
            line: error.location().map_or(1, |l| l.line()),
            why: state.why.into_inner().unwrap_or_else(|| plain(&error)),
        }),
    }
}

/// The parser's words without the places, of which we say the first ourselves.
fn plain(error: &serde_yaml_ng::Error) -> String {
    let text = error.to_string();
    let mut parts = text.split(" at line ");
    let mut words = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let place = |c: char| c.is_ascii_digit() || " column".contains(c);
        words.push_str(part.trim_start_matches(place));
    }
    words
}

struct State<'a> {
    found: RefCell<Found>,
    unknown: RefCell<Unknown>,
    why: RefCell<Option<String>>,
    until: Option<&'a str>,
}

impl State<'_> {
    fn refuse<E: serde::de::Error>(&self, why: String) -> E {
        let error = E::custom(&why);
        self.why.borrow_mut().get_or_insert(why);
        error
    }
}

/// A mapping whose keys are settings or further sections.
#[derive(Clone, Copy)]
struct Section<'a> {
    state: &'a State<'a>,
    name: &'a str,
}

impl<'de> DeserializeSeed<'de> for Section<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Section<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name {
            "" => f.write_str("a mapping of settings"),
            name => write!(f, "a mapping of settings under `{name}`"),
        }
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(()) // A section whose every line is commented out.
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut seen: Vec<String> = Vec::new();
        while let Some(name) = map.next_key_seed(Key {
            section: self,
            seen: &seen,
        })? {
            match SETTINGS.iter().find(|s| s.name == name) {
                Some(setting) => {
                    if let Some(raw) = map.next_value_seed(Typed(setting.shape))? {
                        self.state.found.borrow_mut().push((setting, raw));
                    }
                }
                None if !is_known(&name) => {
                    map.next_value::<IgnoredAny>()?;
                    self.state.unknown.borrow_mut().push(name.clone());
                }
                None => map.next_value_seed(Section {
                    state: self.state,
                    name: &name,
                })?,
            }
            seen.push(name);
        }
        Ok(())
    }
}

/// A key; refuses what comes twice, or is asked for by `until`.
struct Key<'a> {
    section: Section<'a>,
    seen: &'a [String],
}

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = String;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<String, D::Error> {
        from.deserialize_str(self)
    }
}

impl Visitor<'_> for Key<'_> {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a setting's name")
    }

    fn visit_str<E: serde::de::Error>(self, key: &str) -> Result<String, E> {
        let Section { state, name } = self.section;
        let full = match name {
            "" => key.to_owned(),
            section => format!("{section}.{key}"),
        };
        if self.seen.contains(&full) {
            return Err(state.refuse(format!("`{full}` is given twice")));
        }
        if state.until == Some(full.as_str()) {
            return Err(E::custom("here"));
        }
        Ok(full)
    }
}

/// Whether it is a setting, or a section that has some.
fn is_known(name: &str) -> bool {
    SETTINGS.iter().any(|setting| {
        let rest = setting.name.strip_prefix(name);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    })
}

/// All names a file may hold: settings and the sections they are in.
fn names() -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for setting in SETTINGS {
        let ends = setting.name.match_indices('.').map(|(end, _)| end);
        for end in ends.chain([setting.name.len()]) {
            let name = setting.name.get(..end).unwrap_or_default();
            if !names.iter().any(|n| n == name) {
                names.push(name.to_owned());
            }
        }
    }
    names
}

/// A setting's value; scalars are taken as they are written, so that 1.10 stays 1.10. `key:` with
/// nothing after it, or null, sets nothing.
struct Typed(Shape);

impl<'de> DeserializeSeed<'de> for Typed {
    type Value = Option<Raw>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Option<Raw>, D::Error> {
        from.deserialize_option(self)
    }
}

impl<'de> Visitor<'de> for Typed {
    type Value = Option<Raw>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Shape::One => "one value",
            Shape::Switch => "true or false",
            Shape::List => "a list",
            Shape::Pairs => "a mapping of names to values",
        })
    }

    fn visit_none<E>(self) -> Result<Option<Raw>, E> {
        Ok(None)
    }

    fn visit_unit<E>(self) -> Result<Option<Raw>, E> {
        Ok(None)
    }

    fn visit_some<D: Deserializer<'de>>(self, from: D) -> Result<Option<Raw>, D::Error> {
        match self.0 {
            Shape::One | Shape::Switch => from.deserialize_str(self),
            Shape::List | Shape::Pairs => from.deserialize_any(self),
        }
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Option<Raw>, E> {
        match self.0 {
            Shape::Pairs => Err(E::invalid_type(serde::de::Unexpected::Str(text), &self)),
            Shape::List => Ok(Some(Raw::Many(vec![text.to_owned()]))),
            Shape::One | Shape::Switch => Ok(Some(Raw::Text(text.to_owned()))),
        }
    }

    fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<Option<Raw>, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<Option<Raw>, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_f64<E: serde::de::Error>(self, number: f64) -> Result<Option<Raw>, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_bool<E: serde::de::Error>(self, truth: bool) -> Result<Option<Raw>, E> {
        self.visit_str(if truth { "true" } else { "false" })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Option<Raw>, A::Error> {
        let mut texts = Vec::new();
        while let Some(text) = seq.next_element_seed(Scalar)? {
            texts.push(text);
        }
        match self.0 {
            Shape::List => Ok(Some(Raw::Many(texts))),
            _ => Err(A::Error::invalid_type(serde::de::Unexpected::Seq, &self)),
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Option<Raw>, A::Error> {
        let mut pairs = Vec::new();
        while let Some(name) = map.next_key_seed(Scalar)? {
            pairs.push((name, map.next_value_seed(Scalar)?));
        }
        match self.0 {
            Shape::Pairs => Ok(Some(Raw::Pairs(pairs))),
            _ => Err(A::Error::invalid_type(serde::de::Unexpected::Map, &self)),
        }
    }
}

/// A scalar as it is written.
struct Scalar;

impl<'de> DeserializeSeed<'de> for Scalar {
    type Value = String;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<String, D::Error> {
        from.deserialize_str(self)
    }
}

impl Visitor<'_> for Scalar {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("one value")
    }

    fn visit_str<E>(self, text: &str) -> Result<String, E> {
        Ok(text.to_owned())
    }
}
