//! The forms a setting's value can be typed in: sizes, durations, names from a list, lists, pairs.
//! A form reads what was typed and shows a value so that it could be typed back. No form looks at
//! where the text came from; that is `env`'s and `file`'s business.

use std::fmt::Display;
use std::marker::PhantomData;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use super::near::hint;

/// A value as typed, in whichever layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Raw {
    /// One text; lists in it are separated by commas, and pairs in it are percent-encoded.
    Text(String),
    /// Several texts, each taken as it is.
    Many(Vec<String>),
    /// Names and values, taken as they are.
    Pairs(Vec<(String, String)>),
}

/// A value as shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shown {
    /// Nothing set, which is a value of its own.
    Nothing,
    /// One text.
    One(String),
    /// Several.
    List(Vec<String>),
    /// Names and values.
    Pairs(Vec<(String, String)>),
}

/// How many values a setting takes, and of what kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// One value.
    One,
    /// True or false.
    Switch,
    /// Any number of values.
    List,
    /// Any number of names with values.
    Pairs,
}

/// Reads and shows the values of one kind.
pub trait Form {
    /// What is read.
    type Value;
    /// How many of them.
    const SHAPE: Shape;
    /// Reads; the error says what was expected and what came.
    fn parse(&self, raw: &Raw) -> Result<Self::Value, String>;
    /// Shows; what is shown can be read back.
    fn show(&self, value: &Self::Value) -> Shown;
    /// The words allowed, where there are only so many.
    fn choices(&self) -> Vec<&'static str> {
        Vec::new()
    }
}

/// The shape of a form, for the table of settings.
pub const fn shape_of<F: Form>(_: &F) -> Shape {
    F::SHAPE
}

fn one(raw: &Raw) -> Result<&str, String> {
    match raw {
        Raw::Text(text) => Ok(text.trim()),
        Raw::Many(texts) if texts.len() == 1 => Ok(texts.first().map_or("", |t| t.trim())),
        Raw::Many(_) => Err("expected one value, got a list".into()),
        Raw::Pairs(_) => Err("expected one value, got a mapping".into()),
    }
}

/// The texts of a list, trimmed, without the empty ones.
pub fn many(raw: &Raw) -> Result<Vec<&str>, String> {
    let texts: Vec<&str> = match raw {
        Raw::Text(text) => text.split(',').collect(),
        Raw::Many(texts) => texts.iter().map(String::as_str).collect(),
        Raw::Pairs(_) => return Err("expected a list, got a mapping".into()),
    };
    Ok(texts
        .into_iter()
        .map(str::trim)
        .filter(|t| !t.is_empty())
        .collect())
}

/// What a whole number counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Things.
    Count,
    /// Bytes: `64KiB`, `8MiB`, `65536`.
    Bytes,
    /// Bytes, and a power of two.
    PowerOfTwo,
}

/// A whole number between two bounds; `unlimited` is the upper bound where that is the type's own.
pub struct Number<T> {
    /// Least.
    pub min: T,
    /// Most.
    pub max: T,
    /// Of what.
    pub unit: Unit,
}

impl<T: Copy + Ord + TryFrom<u64> + TryInto<u64>> Number<T> {
    fn wide(value: T) -> u64 {
        value.try_into().unwrap_or(u64::MAX)
    }

    fn open_ended(&self) -> bool {
        Self::wide(self.max) == u64::MAX
    }

    fn text(&self, value: T) -> String {
        match Self::wide(value) {
            u64::MAX => "unlimited".into(),
            n if self.unit == Unit::Count => n.to_string(),
            n => size_text(n),
        }
    }
}

impl<T: Copy + Ord + TryFrom<u64> + TryInto<u64>> Form for Number<T> {
    type Value = T;
    const SHAPE: Shape = Shape::One;

    fn parse(&self, raw: &Raw) -> Result<T, String> {
        let text = one(raw)?;
        if self.open_ended() && text.eq_ignore_ascii_case("unlimited") {
            return Ok(self.max);
        }
        let (read, example) = match self.unit {
            Unit::Count => (text.parse::<u64>().ok(), "a whole number"),
            Unit::Bytes | Unit::PowerOfTwo => (size(text), "a size such as 64KiB"),
        };
        let wide = read.ok_or_else(|| format!("expected {example}, got `{text}`"))?;
        if self.unit == Unit::PowerOfTwo && !wide.is_power_of_two() {
            let above = wide.checked_next_power_of_two().unwrap_or(1 << 63);
            let near = size_text(above);
            return Err(format!(
                "`{text}` is not a power of two; the next is {near}"
            ));
        }
        let fits = T::try_from(wide).ok();
        fits.filter(|v| (self.min..=self.max).contains(v))
            .ok_or_else(|| match self.open_ended() {
                true => format!("`{text}` is below {}", self.text(self.min)),
                false => format!(
                    "`{text}` is not between {} and {}",
                    self.text(self.min),
                    self.text(self.max)
                ),
            })
    }

    fn show(&self, value: &T) -> Shown {
        Shown::One(self.text(*value))
    }
}

fn size(text: &str) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits)?;
    let shift = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "ki" | "kib" => 10,
        "m" | "mb" | "mi" | "mib" => 20,
        "g" | "gb" | "gi" | "gib" => 30,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(1 << shift)
}

fn size_text(bytes: u64) -> String {
    match bytes {
        0 => "0".into(),
        n if n % (1 << 30) == 0 => format!("{}GiB", n >> 30),
        n if n % (1 << 20) == 0 => format!("{}MiB", n >> 20),
        n if n % (1 << 10) == 0 => format!("{}KiB", n >> 10),
        n => n.to_string(),
    }
}

/// A duration between two bounds: `250us`, `4ms`, `1.5s`, `2m`, `1h`; a bare number is milliseconds.
pub struct Time {
    /// Shortest.
    pub min: Duration,
    /// Longest.
    pub max: Duration,
}

impl Form for Time {
    type Value = Duration;
    const SHAPE: Shape = Shape::One;

    fn parse(&self, raw: &Raw) -> Result<Duration, String> {
        let text = one(raw)?;
        let value = duration(text).ok_or_else(|| {
            format!("expected a duration such as 500ms or 5s (a bare number is ms), got `{text}`")
        })?;
        if (self.min..=self.max).contains(&value) {
            return Ok(value);
        }
        let (min, max) = (duration_text(self.min), duration_text(self.max));
        Err(format!("`{text}` is not between {min} and {max}"))
    }

    fn show(&self, value: &Duration) -> Shown {
        Shown::One(duration_text(*value))
    }
}

/// Reads `4ms`, `1.5s` and the like; a bare number is milliseconds.
pub fn duration(text: &str) -> Option<Duration> {
    let text = text.trim();
    let split = text
        .bytes()
        .take_while(|b| b.is_ascii_digit() || *b == b'.')
        .count();
    let (number, unit) = text.split_at_checked(split)?;
    let nanos: f64 = match unit.trim() {
        "ns" => 1.0,
        "us" | "µs" => 1e3,
        "" | "ms" => 1e6,
        "s" => 1e9,
        "m" | "min" => 60e9,
        "h" => 3600e9,
        _ => return None,
    };
    let total = number.parse::<f64>().ok()? * nanos;
    (total < 1e18).then(|| Duration::from_nanos(total.round() as u64))
}

fn duration_text(value: Duration) -> String {
    let nanos = value.as_nanos();
    [
        (3_600_000_000_000, "h"),
        (60_000_000_000, "m"),
        (1_000_000_000, "s"),
        (1_000_000, "ms"),
        (1_000, "us"),
    ]
    .into_iter()
    .find(|(unit, _)| nanos != 0 && nanos.is_multiple_of(*unit))
    .map_or_else(
        || format!("{nanos}ns"),
        |(unit, name)| format!("{}{name}", nanos / unit),
    )
}

/// True or false.
pub struct Switch;

/// The words for yes; the first is the one that is told of.
pub const YES: [&str; 4] = ["true", "on", "yes", "1"];
/// Those for no.
pub const NO: [&str; 4] = ["false", "off", "no", "0"];

impl Switch {
    /// What a word says, whatever its case.
    pub fn read(text: &str) -> Option<bool> {
        let is = |words: [&str; 4]| words.iter().any(|word| word.eq_ignore_ascii_case(text));
        match (is(YES), is(NO)) {
            (false, false) => None,
            (yes, _) => Some(yes),
        }
    }
}

impl Form for Switch {
    type Value = bool;
    const SHAPE: Shape = Shape::Switch;

    fn parse(&self, raw: &Raw) -> Result<bool, String> {
        let text = one(raw)?;
        Self::read(text).ok_or_else(|| format!("expected true or false, got `{text}`"))
    }

    fn show(&self, value: &bool) -> Shown {
        Shown::One(value.to_string())
    }

    fn choices(&self) -> Vec<&'static str> {
        vec![YES[0], NO[0]]
    }
}

/// One of a few words, whatever their case. Words before the first are not taken for others.
pub struct Choice<T: 'static>(pub &'static [(&'static str, T)]);

impl<T: Clone + PartialEq> Choice<T> {
    fn has(&self, word: &str) -> bool {
        self.0.iter().any(|(name, _)| *name == word)
    }

    fn read(&self, text: &str) -> Result<T, String> {
        // In YAML 1.1, which Helm writes, `on` and `off` are true and false.
        let text = match text {
            "true" if self.has("on") && !self.has(text) => "on",
            "false" if self.has("off") && !self.has(text) => "off",
            text => text,
        };
        let found = self.0.iter().find(|(n, _)| n.eq_ignore_ascii_case(text));
        found.map(|(_, value)| value.clone()).ok_or_else(|| {
            let names: Vec<_> = self.0.iter().map(|(name, _)| *name).collect();
            let near = hint(text, names.iter().copied());
            format!("expected one of {}, got `{text}`{near}", names.join(", "))
        })
    }

    fn name(&self, value: &T) -> String {
        let found = self.0.iter().find(|(_, v)| v == value);
        found.map_or_else(String::new, |(name, _)| (*name).to_owned())
    }
}

impl<T: Clone + PartialEq> Form for Choice<T> {
    type Value = T;
    const SHAPE: Shape = Shape::One;

    fn parse(&self, raw: &Raw) -> Result<T, String> {
        self.read(one(raw)?)
    }

    fn show(&self, value: &T) -> Shown {
        Shown::One(self.name(value))
    }

    fn choices(&self) -> Vec<&'static str> {
        self.0.iter().map(|(name, _)| *name).collect()
    }
}

/// Several of a few words, in the order given, none twice. `none` among them stands alone.
pub struct Choices<T: 'static>(pub Choice<T>);

impl<T: Clone + PartialEq> Form for Choices<T> {
    type Value = Vec<T>;
    const SHAPE: Shape = Shape::List;

    fn parse(&self, raw: &Raw) -> Result<Vec<T>, String> {
        let mut values = Vec::new();
        let texts = many(raw)?;
        if texts.len() > 1 && texts.iter().any(|t| t.eq_ignore_ascii_case("none")) {
            return Err("`none` cannot be combined with others".into());
        }
        for text in texts {
            let value = self.0.read(text)?;
            if !values.contains(&value) {
                values.push(value);
            }
        }
        Ok(values)
    }

    fn show(&self, value: &Vec<T>) -> Shown {
        Shown::List(value.iter().map(|v| self.0.name(v)).collect())
    }

    fn choices(&self) -> Vec<&'static str> {
        self.0.choices()
    }
}

/// A number from 0 to 1.
pub struct Ratio;

impl Form for Ratio {
    type Value = f64;
    const SHAPE: Shape = Shape::One;

    fn parse(&self, raw: &Raw) -> Result<f64, String> {
        let text = one(raw)?;
        let value = text.parse::<f64>().ok();
        value
            .filter(|v| (0.0..=1.0).contains(v))
            .ok_or_else(|| format!("expected a number from 0 to 1, got `{text}`"))
    }

    fn show(&self, value: &f64) -> Shown {
        Shown::One(value.to_string())
    }
}

/// Numbers of one type; the text says what they are.
pub struct Numbers<T>(pub &'static str, pub PhantomData<T>);

impl<T: FromStr + Display + Default + PartialEq> Form for Numbers<T> {
    type Value = Vec<T>;
    const SHAPE: Shape = Shape::List;

    fn parse(&self, raw: &Raw) -> Result<Vec<T>, String> {
        let read = |text: &str| {
            let number = text.parse::<T>().ok();
            let number = number.filter(|number| *number != T::default());
            number.ok_or_else(|| format!("expected {}, got `{text}`", self.0))
        };
        many(raw)?.into_iter().map(read).collect()
    }

    fn show(&self, value: &Vec<T>) -> Shown {
        Shown::List(value.iter().map(T::to_string).collect())
    }
}

/// What texts of a list may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Text {
    /// Anything, globs included.
    Glob,
    /// A name as in HTTP headers or query strings, made lower case.
    Name,
    /// A path pattern, which begins with a slash.
    Pattern,
    /// A word of letters, case and all.
    Word,
}

/// Texts of one kind.
pub struct Texts(pub Text);

impl Form for Texts {
    type Value = Vec<String>;
    const SHAPE: Shape = Shape::List;

    fn parse(&self, raw: &Raw) -> Result<Vec<String>, String> {
        let mut values: Vec<String> = Vec::new();
        for text in many(raw)? {
            let value = match self.0 {
                Text::Glob => text.to_owned(),
                Text::Name if text.contains([' ', ':', '"']) => {
                    return Err(format!("expected a name without blanks, got `{text}`"));
                }
                Text::Name => text.to_ascii_lowercase(),
                Text::Pattern if !text.starts_with('/') => {
                    return Err(format!("expected a path that begins with /, got `{text}`"));
                }
                Text::Word if !text.bytes().all(|b| b.is_ascii_graphic()) => {
                    return Err(format!("expected a word, got `{text}`"));
                }
                Text::Pattern | Text::Word => text.to_owned(),
            };
            if !values.contains(&value) {
                values.push(value);
            }
        }
        Ok(values)
    }

    fn show(&self, value: &Vec<String>) -> Shown {
        Shown::List(value.clone())
    }
}

/// One text that may be absent.
pub struct Maybe;

impl Form for Maybe {
    type Value = Option<String>;
    const SHAPE: Shape = Shape::One;

    fn parse(&self, raw: &Raw) -> Result<Option<String>, String> {
        let text = one(raw)?;
        Ok((!text.is_empty()).then(|| text.to_owned()))
    }

    fn show(&self, value: &Option<String>) -> Shown {
        value.clone().map_or(Shown::Nothing, Shown::One)
    }
}

/// A file that may be absent. Whether it can be read is found out by who reads it.
pub struct File;

impl Form for File {
    type Value = Option<PathBuf>;
    const SHAPE: Shape = Shape::One;

    fn parse(&self, raw: &Raw) -> Result<Option<PathBuf>, String> {
        Ok(Maybe.parse(raw)?.map(PathBuf::from))
    }

    fn show(&self, value: &Option<PathBuf>) -> Shown {
        Maybe.show(&value.as_ref().map(|p| p.display().to_string()))
    }
}
