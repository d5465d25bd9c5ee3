//! Shapes of secrets in any text. Each finder goes over the bytes once, or a bounded number of
//! times; none decides on a byte it has not seen.

/// Where a secret is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Find {
    /// First byte.
    pub start: usize,
    /// After the last byte.
    pub end: usize,
    /// A user and a password, to be replaced one by one.
    pub pair: bool,
}

/// All secrets in `text`; `secret` judges parameter names.
pub(super) fn find_all(text: &[u8], secret: impl Fn(&[u8]) -> bool, out: &mut Vec<Find>) {
    let has = Has::of(text);
    if has.signs {
        parameters(text, secret, out);
    }
    if has.at {
        people(text, out);
    }
    if has.digits >= MIN_CARD {
        cards(text, out);
    }
    if has.run >= MIN_TOKEN {
        tokens(text, out);
    }
    if has.blanks {
        schemes(text, out);
    }
}

/// What a text has of that no secret is without; most have nothing.
struct Has {
    /// What stands between a name and its value.
    signs: bool,
    /// What stands between a scheme and its credentials.
    blanks: bool,
    at: bool,
    digits: usize,
    /// The longest run of a token's characters.
    run: usize,
}

impl Has {
    fn of(text: &[u8]) -> Self {
        let (mut seen, mut digits, mut run, mut longest) = (0, 0usize, 0usize, 0usize);
        for &b in text {
            let class = CLASSES.get(usize::from(b)).copied().unwrap_or(0);
            seen |= class;
            digits = digits.saturating_add(usize::from(class & DIGIT != 0));
            run = if class & TOKEN != 0 {
                run.saturating_add(1)
            } else {
                0
            };
            longest = longest.max(run);
        }
        Self {
            signs: seen & SIGN != 0,
            blanks: seen & BLANK != 0,
            at: seen & AT != 0,
            digits,
            run: longest,
        }
    }
}

const SIGN: u8 = 1;
const BLANK: u8 = 2;
const AT: u8 = 4;
const DIGIT: u8 = 8;
const TOKEN: u8 = 16;

/// What each byte can be part of.
const CLASSES: [u8; 256] = {
    let mut classes = [0; 256];
    let mut b = 0;
    while b < classes.len() {
        classes[b] = match b as u8 {
            b'=' => SIGN,
            b':' => SIGN | BLANK,
            b' ' | b'+' | b'\t' => BLANK,
            b'@' => AT,
            b'0'..=b'9' => DIGIT | TOKEN,
            b'a'..=b'z' | b'A'..=b'Z' | b'_' | b'-' | b'.' => TOKEN,
            _ => 0,
        };
        b += 1;
    }
    classes
};

fn find(start: usize, end: usize) -> Find {
    let pair = false;
    Find { start, end, pair }
}

fn at(text: &[u8], index: usize) -> Option<u8> {
    text.get(index).copied()
}

fn part(text: &[u8], start: usize, end: usize) -> &[u8] {
    text.get(start..end).unwrap_or_default()
}

/// First index from `start` on whose byte is not `is`.
fn after(text: &[u8], start: usize, mut is: impl FnMut(u8) -> bool) -> usize {
    let rest = text.get(start..).unwrap_or_default();
    let run = rest.iter().take_while(|b| is(**b)).count();
    start.saturating_add(run)
}

/// First index of the run of `is` that ends at `end`.
fn before(text: &[u8], end: usize, is: impl Fn(u8) -> bool) -> usize {
    let rest = text.get(..end).unwrap_or_default();
    let run = rest.iter().rev().take_while(|b| is(**b)).count();
    end.saturating_sub(run)
}

/// `name=value` and `name: value`. A secret value goes on to the next `&` or blank, or to its
/// closing quote.
fn parameters(text: &[u8], secret: impl Fn(&[u8]) -> bool, out: &mut Vec<Find>) {
    let in_name = |b: u8| !b.is_ascii_whitespace() && !b"=&;,?/#:{}()|\"'".contains(&b);
    let mut from = 0;
    while let Some(sign) = text
        .get(from..)
        .and_then(|rest| rest.iter().position(|b| matches!(b, b'=' | b':')))
        .map(|at| from.saturating_add(at))
    {
        from = sign.saturating_add(1);
        // A quote or a blank may stand between the name and its sign.
        let end =
            before(part(text, 0, sign), sign, |b| b"\"' ".contains(&b)).max(sign.saturating_sub(4));
        let name = part(text, before(text, end, in_name), end);
        if name.is_empty() || !secret(name) {
            continue;
        }
        let mut value = after(text, from, |b| b == b' ').min(from.saturating_add(4));
        let stop = match at(text, value) {
            Some(quote @ (b'"' | b'\'')) => {
                value = value.saturating_add(1);
                let mut escaped = false;
                after(text, value, |b| {
                    let more = escaped || b != quote;
                    escaped = !escaped && b == b'\\';
                    more
                })
            }
            _ => after(text, value, |b| b != b'&' && !b.is_ascii_whitespace()),
        };
        if stop > value {
            out.push(find(value, stop));
        }
        from = stop.max(from);
    }
}

/// `//user:password@` and e-mail addresses.
fn people(text: &[u8], out: &mut Vec<Find>) {
    let mut from = 0;
    let mut user_info_end = 0;
    while let Some(sign) = text
        .get(from..)
        .and_then(|rest| rest.iter().position(|b| *b == b'@'))
        .map(|at| from.saturating_add(at))
    {
        if sign >= user_info_end {
            let inside = |b: u8| !b.is_ascii_whitespace() && !b"/?#\"<>".contains(&b);
            let mut start = before(text, sign, inside).max(user_info_end);
            let end = after(text, sign, inside);
            user_info_end = end;
            let authority = part(text, start.saturating_sub(2), start) == b"//";
            if !authority {
                start = before(text, sign, |b| inside(b) && !b"&=;,".contains(&b)).max(start);
            }
            // The password may have an @ of its own: the last one counts.
            let last = part(text, sign, end).iter().rposition(|b| *b == b'@');
            let last = sign.saturating_add(last.unwrap_or_default());
            let user = part(text, start, last);
            if last > start && (authority || user.contains(&b':')) {
                let pair = user.contains(&b':');
                out.push(Find {
                    start,
                    end: last,
                    pair,
                });
                from = last.saturating_add(1);
                continue;
            }
        }
        email(text, sign, out);
        from = sign.saturating_add(1);
    }
}

fn email(text: &[u8], sign: usize, out: &mut Vec<Find>) {
    let local = |b: u8| b.is_ascii_alphanumeric() || b >= 0x80 || b".!#$'*+-^_`{|}~".contains(&b);
    let domain = |b: u8| b.is_ascii_alphanumeric() || b >= 0x80 || b".-".contains(&b);
    let start = before(text, sign, local);
    let first = sign.saturating_add(1);
    let mut end = after(text, first, domain);
    while end > first && at(text, end.saturating_sub(1)) == Some(b'.') {
        end = end.saturating_sub(1);
    }
    let host = part(text, first, end);
    let top = host.rsplit(|b| *b == b'.').next().unwrap_or_default();
    let dotted = host.len() > top.len();
    let named = top.len() >= 2 && top.iter().any(|b| b.is_ascii_alphabetic() || *b >= 0x80);
    if start < sign && dotted && named {
        out.push(find(start, end));
    }
}

/// 13 to 19 digits with a card's first digit and a right check digit (ISO/IEC 7812-1), whole or in
/// groups with a blank, `-` or `+` between them.
fn cards(text: &[u8], out: &mut Vec<Find>) {
    let mut index = 0;
    while index < text.len() {
        index = after(text, index, |b| !b.is_ascii_digit());
        let group_end = after(text, index, |b| b.is_ascii_digit());
        match card(text, index) {
            Some(end) => {
                out.push(find(index, end));
                index = end;
            }
            None => index = group_end,
        }
    }
}

/// The end of the longest card number that starts with the group of digits at `start`.
fn card(text: &[u8], start: usize) -> Option<usize> {
    let mut digits = [0u8; MAX_CARD];
    let (mut count, mut index, mut found) = (0usize, start, None);
    loop {
        let byte = at(text, index).unwrap_or(0);
        if byte.is_ascii_digit() {
            let Some(place) = digits.get_mut(count) else {
                // Longer than any card, unless it ended at a group before.
                return found;
            };
            *place = byte & 0x0f;
            count = count.saturating_add(1);
            index = index.saturating_add(1);
            continue;
        }
        // A group's end: a card may be over, or go on after one separator.
        let number = digits.get(..count).unwrap_or_default();
        if count >= MIN_CARD && is_card(number) {
            found = Some(index);
        }
        let next = at(text, index.saturating_add(1)).unwrap_or(0);
        if !matches!(byte, b' ' | b'-' | b'+') || !next.is_ascii_digit() {
            return found;
        }
        index = index.saturating_add(1);
    }
}

fn is_card(digits: &[u8]) -> bool {
    let issuer = match digits {
        [3..=6, ..] => true,
        // Mastercard's 2221 to 2720.
        [2, b, c, d, ..] => {
            let head = 2000 + u32::from(*b) * 100 + u32::from(*c) * 10 + u32::from(*d);
            (2221..=2720).contains(&head)
        }
        _ => false,
    };
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(place, digit)| match (place % 2, u32::from(*digit)) {
            (0, digit) => digit,
            (_, digit) => digit / 5 + digit * 2 % 10,
        })
        .sum();
    issuer && sum.is_multiple_of(10)
}

/// JSON web tokens, and tokens whose issuers gave them a prefix.
fn tokens(text: &[u8], out: &mut Vec<Find>) {
    let token = |b: u8| b.is_ascii_alphanumeric() || b"_-.".contains(&b);
    let mut index = 0;
    while index < text.len() {
        let start = after(text, index, |b| !token(b));
        index = after(text, start, token);
        let run = part(text, start, index);
        if run.len() >= MIN_TOKEN
            && let Some(offset) = token_in(run)
        {
            out.push(find(start.saturating_add(offset), index));
        }
    }
}

/// Where in a run of token characters a token begins.
fn token_in(run: &[u8]) -> Option<usize> {
    let mut boundary = true;
    let prefixed = run.iter().enumerate().find_map(|(offset, byte)| {
        let rest = run.get(offset..).unwrap_or_default();
        let known = |(prefix, least): &(&str, usize)| {
            rest.len() >= *least && rest.starts_with(prefix.as_bytes())
        };
        let found = boundary && PREFIXES.iter().any(known);
        boundary = !byte.is_ascii_alphanumeric();
        found.then_some(offset)
    });
    // Both parts of a JSON web token begin with `{"` in base64url.
    let glued = || {
        let first = run.windows(3).position(|w| w == b"eyJ")?;
        run.windows(4).any(|w| w == b".eyJ").then_some(first)
    };
    prefixed.into_iter().chain(glued()).min()
}

/// `Bearer …`, `Basic …` and their like, whatever text they stand in.
fn schemes(text: &[u8], out: &mut Vec<Find>) {
    let blank = |b: u8| matches!(b, b' ' | b'+' | b'\t' | b':');
    let mut index = 0;
    while index < text.len() {
        let start = after(text, index, |b| !b.is_ascii_alphabetic());
        index = after(text, start, |b| b.is_ascii_alphabetic());
        let word = part(text, start, index);
        let least = SCHEMES
            .iter()
            .find(|(name, _)| word.eq_ignore_ascii_case(name.as_bytes()))
            .map(|(_, least)| *least);
        let Some(least) = least else { continue };
        let value = after(text, index, blank);
        let end = after(text, value, |b| {
            !b.is_ascii_whitespace() && !b"&,;\"'".contains(&b)
        });
        if value > index && end.saturating_sub(value) >= least {
            out.push(find(value, end));
            index = end;
        }
    }
}

/// Schemes of Authorization, and the least length of what follows to be taken for a secret.
const SCHEMES: [(&str, usize); 5] = [
    ("bearer", 1),
    ("basic", 4),
    ("digest", 16),
    ("negotiate", 8),
    ("apikey", 4),
];
/// Beginnings of tokens, with the least length of a whole one.
const PREFIXES: [(&str, usize); 23] = [
    ("eyJ", 16),
    ("AKIA", 20),
    ("ASIA", 20),
    ("ghp_", 20),
    ("gho_", 20),
    ("ghu_", 20),
    ("ghs_", 20),
    ("ghr_", 20),
    ("github_pat_", 22),
    ("glpat-", 20),
    ("xoxb-", 15),
    ("xoxp-", 15),
    ("xoxa-", 15),
    ("xoxs-", 15),
    ("sk_live_", 16),
    ("sk_test_", 16),
    ("rk_live_", 16),
    ("sk-", 24),
    ("AIza", 35),
    ("ya29.", 20),
    ("hvs.", 20),
    ("npm_", 30),
    ("hf_", 30),
];
const MIN_TOKEN: usize = 15;
const MIN_CARD: usize = 13;
const MAX_CARD: usize = 19;
