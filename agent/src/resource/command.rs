//! Command lines without their secrets. What is a secret says [`Redactor`], as for spans; here is
//! what only command lines have: options whose value is the next word, passwords after `-p`, words
//! that hold words. Rather one value too many than one too few.

use crate::policy::redact::{REDACTED, Redactor};
use crate::target::Snapshot;
use crate::target::files;
use crate::target::process::base_name;

/// The program a command line begins with, without what is written behind it in the same word: a
/// process that gave itself a title (`nginx: worker process`, `sshd: ann`) may have put its arguments there.
pub fn program(process: &Snapshot) -> &str {
    let first = process.argv.first().map_or("", |first| &**first);
    if process.exe.as_deref() == Some(first) {
        return first;
    }
    let word = first.split_whitespace().next().unwrap_or_default();
    word.trim_end_matches(':')
}

/// The words of a command line, secrets replaced. `program` is the executable's name.
pub fn redact(argv: &[Box<str>], program: &str, redactor: &Redactor) -> Vec<String> {
    let words = argv.iter().flat_map(|word| word.split_whitespace());
    let line = Line {
        redactor,
        options: words.chain([program]).flat_map(password_options).collect(),
    };
    let mut next = Next::Plain;
    argv.iter()
        .map(|word| {
            let word = line.quoted(word, &mut next);
            redactor.text(&word).unwrap_or(word)
        })
        .collect()
}

/// What is known of the whole line.
struct Line<'a> {
    redactor: &'a Redactor,
    /// Options that take a password, of the programs it names.
    options: Vec<&'static str>,
}

/// What the word before made of this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Plain,
    /// A value that is a secret.
    Secret,
    /// `name:password`
    Login,
    /// Within quotes that hold a secret: up to a word that ends with this.
    Until(char),
}

impl Line<'_> {
    /// A word that holds words: a shell's command, or a title a process gave itself.
    fn quoted(&self, word: &str, next: &mut Next) -> String {
        if *next != Next::Plain || !word.contains(char::is_whitespace) {
            return self.whole(word, next);
        }
        if let Some(hidden) = self.header(word).or_else(|| self.assignment(word)) {
            return hidden;
        }
        // JSON has blanks between names and values: as a whole it is read better than in parts.
        if word.trim_start().starts_with(['{', '[']) {
            return word.to_owned();
        }
        let mut out = String::with_capacity(word.len());
        for part in word.split_inclusive(char::is_whitespace) {
            let inner = part.trim_end();
            // What continues a shell's line is no word either.
            out.push_str(&match inner {
                "" | "\\" => inner.to_owned(),
                inner => self.judged(inner, next),
            });
            out.push_str(part.get(inner.len()..).unwrap_or_default());
        }
        *next = Next::Plain;
        out
    }

    /// A word that is one, whatever is in it.
    fn whole(&self, word: &str, next: &mut Next) -> String {
        let word = self.judged(word, next);
        if let Next::Until(_) = next {
            *next = Next::Plain;
        }
        word
    }

    fn judged(&self, word: &str, next: &mut Next) -> String {
        let before = std::mem::replace(next, Next::Plain);
        match before {
            Next::Secret if SCHEMES.iter().any(|name| word.eq_ignore_ascii_case(name)) => {
                *next = Next::Secret;
                word.to_owned()
            }
            Next::Secret if !word.starts_with("--") => {
                *next = opened(word);
                REDACTED.to_owned()
            }
            Next::Until(mark) => {
                if !word.ends_with(mark) {
                    *next = before;
                }
                REDACTED.to_owned()
            }
            Next::Login => {
                *next = opened(word);
                login(word)
            }
            Next::Plain | Next::Secret => {
                *next = self.announces(word);
                self.one(word)
            }
        }
    }

    /// What a word makes of the next one.
    fn announces(&self, word: &str) -> Next {
        let bare = word.trim_matches(['"', '\'']);
        if matches!(bare, "-u" | "-U" | "--user" | "--proxy-user") {
            return Next::Login;
        }
        let header = bare
            .strip_suffix(':')
            .is_some_and(|name| self.is_header(name));
        let option = bare
            .strip_prefix('-')
            .is_some_and(|name| !name.contains('=') && self.is_secret(name));
        let attached = self.options.contains(&"-p") && bare.starts_with("-p") && bare.len() > 2;
        if header || (option && !attached) || self.options.contains(&bare) {
            return match opened(word) {
                Next::Plain => Next::Secret,
                until => until,
            };
        }
        match bare.split_once('=') {
            Some((name, value)) if self.is_secret(name) => opened(value),
            _ => Next::Plain,
        }
    }

    /// `name=value` of a secret name, hidden to the end whatever is in the value.
    fn assignment(&self, word: &str) -> Option<String> {
        let (name, _) = word.split_once('=')?;
        let hidden = !name.contains(char::is_whitespace) && self.is_secret(name);
        hidden.then(|| format!("{name}={REDACTED}"))
    }

    fn one(&self, word: &str) -> String {
        if let Some(hidden) = self.header(word) {
            return hidden;
        }
        // A URL's query may hold the `=`.
        if let Some((name, value)) = word
            .split_once('=')
            .filter(|(name, _)| !name.contains("://"))
        {
            let value = match name {
                "--user" | "--proxy-user" => login(value),
                _ if self.is_secret(name) && !value.is_empty() => REDACTED.to_owned(),
                _ => self.one(value),
            };
            return format!("{name}={value}");
        }
        if let Some(value) = word.strip_prefix("-p")
            && ((self.options.contains(&"-p") && !value.is_empty()) || is_mixed(value))
        {
            return format!("-p{REDACTED}");
        }
        // Glued, as `-uann:password`.
        if word.starts_with("-u") || word.starts_with("-U") {
            return login(word);
        }
        word.to_owned()
    }

    /// `Authorization: Bearer …` and the like keep their name only.
    fn header(&self, word: &str) -> Option<String> {
        let (name, value) = word.split_once(':')?;
        let bare = name.trim_start_matches("-H").trim();
        let hidden = self.is_header(bare) && !value.trim().is_empty() && !value.starts_with("//");
        hidden.then(|| format!("{name}: {REDACTED}"))
    }

    fn is_header(&self, name: &str) -> bool {
        let name = name.trim_start_matches(['"', '\'']);
        let plain = name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
        plain && (self.redactor.is_secret_header(&name.to_lowercase()) || self.is_secret(name))
    }

    fn is_secret(&self, name: &str) -> bool {
        // Of `-Ddb.pass` the last part is the name.
        let last = name.rsplit('.').next().unwrap_or(name);
        let bare = name.trim_matches(['"', '\'']).to_ascii_lowercase();
        self.redactor.is_secret_key(name.as_bytes())
            || self.redactor.is_secret_key(last.as_bytes())
            || SECRET_ENDS.iter().any(|end| bare.ends_with(end))
    }
}

/// `name:password`, as curl takes it.
fn login(word: &str) -> String {
    match word.split_once(':') {
        Some((name, _)) => format!("{name}:{REDACTED}"),
        None => word.to_owned(),
    }
}

/// What a secret that is quoted within a word goes on to.
fn opened(value: &str) -> Next {
    let mark = value.chars().next().filter(|c| matches!(c, '"' | '\''));
    match mark {
        Some(mark) if value.len() == 1 || !value.ends_with(mark) => Next::Until(mark),
        _ => Next::Plain,
    }
}

/// Letters and digits: more of a password than of a port or a flag.
fn is_mixed(value: &str) -> bool {
    value.bytes().any(|b| b.is_ascii_digit())
        && value.bytes().any(|b| b.is_ascii_alphabetic())
        && !value.ends_with("/tcp")
        && !value.ends_with("/udp")
}

/// Cuts a list of words to what is worth keeping in a resource.
pub fn shorten(words: &mut Vec<String>) {
    words.truncate(MAX_WORDS);
    let mut room = WORDS_LIMIT;
    for word in words.iter_mut() {
        let limit = room.min(WORD_LIMIT);
        if word.len() > limit {
            let cut = files::cut(word, limit).len();
            word.truncate(cut);
        }
        room -= word.len();
    }
    words.retain({
        let mut first = true;
        move |word| std::mem::take(&mut first) || !word.is_empty()
    });
}

/// The option of a program whose value is a password, though its name does not say so.
fn password_options(program: &str) -> Option<&'static str> {
    let program = base_name(program);
    let is = |names: &[&str]| names.iter().any(|name| program.starts_with(name));
    if is(&DASH_P) {
        return Some("-p");
    }
    is(&DASH_A).then_some("-a")
}

const DASH_P: [&str; 8] = [
    "mysql", "mariadb", "sshpass", "ldap", "mongo", "cqlsh", "influx", "sqlcmd",
];
const DASH_A: [&str; 3] = ["redis-cli", "valkey-cli", "keydb-cli"];

/// How the names of options end that take a secret, besides those that say it anywhere: `--db-pass`.
const SECRET_ENDS: [&str; 2] = ["pass", "pwd"];

/// What may stand between `Authorization:` and its secret.
const SCHEMES: [&str; 3] = ["bearer", "basic", "token"];

const MAX_WORDS: usize = 64;
const WORD_LIMIT: usize = 256;
const WORDS_LIMIT: usize = 2048;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Redaction;

    fn check(line: &str, expected: &str) {
        let argv: Vec<Box<str>> = line.split('|').map(Box::from).collect();
        let program = base_name(&argv[0]).to_owned();
        let redactor = Redactor::new(&Redaction {
            query_keys: vec!["mine".into()],
            headers: vec!["x-mine".into()],
            ..Redaction::default()
        });
        let words = redact(&argv, &program, &redactor);
        assert_eq!(words.join("|"), expected, "{line}");
    }

    #[test]
    fn nothing_secret_stays_as_it_is() {
        for line in [
            "nginx: worker process",
            "gunicorn|-w|4|shop:app2|-b|0.0.0.0:8000",
            "python3|-m|http.server|8080",
            "docker-proxy|-proto|tcp|-p8080:80/tcp",
            "curl|https://h:8443/a?b=c#d",
            "java|-Xmx1g|-Dspring.profiles.active=prod|-jar|shop.jar",
            "ssh|-p22|host",
            "web|--listen=:80|--passive",
            "a|--url=http://h/?q=1",
        ] {
            check(line, line);
        }
    }

    #[test]
    fn secrets_are_hidden() {
        check("a|--password=x|b", "a|--password=REDACTED|b");
        check("a|--password|x|b", "a|--password|REDACTED|b");
        check("a|--db-password|x", "a|--db-password|REDACTED");
        check("a|--password|--verbose", "a|--password|--verbose");
        check("a|-Ddb.password=x", "a|-Ddb.password=REDACTED");
        check("a|API_TOKEN=x|go", "a|API_TOKEN=REDACTED|go");
        check("mysql|-psecret|db", "mysql|-pREDACTED|db");
        check(
            "/usr/bin/mysqldump|-p|secret",
            "/usr/bin/mysqldump|-p|REDACTED",
        );
        check("a|-phunter2", "a|-pREDACTED");
        check(
            "curl|-u|bob:secret|http://h",
            "curl|-u|bob:REDACTED|http://h",
        );
        check("curl|--user=bob:secret", "curl|--user=bob:REDACTED");
        check(
            "curl|-H|Authorization: Bearer abc",
            "curl|-H|Authorization: REDACTED",
        );
        check("curl|-HX-Api-Key:abc", "curl|-HX-Api-Key: REDACTED");
        check(
            "a|postgres://u:p@h/db",
            "a|postgres://REDACTED:REDACTED@h/db",
        );
        check(
            "a|--db=postgres://u:p@h/db?x=1",
            "a|--db=postgres://REDACTED:REDACTED@h/db?x=1",
        );
        check(
            "a|http://h/?a=1&access_token=x",
            "a|http://h/?a=1&access_token=REDACTED",
        );
        check("a|eyJhbGciOiJIUzI1NiJ9.e30.abc", "a|REDACTED");
        check(
            "sh|-c|curl -H \"Authorization: Bearer abc\" --token x https://u:p@h/",
            "sh|-c|curl -H \"Authorization: REDACTED REDACTED --token REDACTED https://REDACTED:REDACTED@h/",
        );
        check(
            r#"curl|-d|{"user":"a","password":"hunter2"}"#,
            r#"curl|-d|{"user":"a","password":"REDACTED"}"#,
        );
        check(
            r#"curl|-d|{ "password" : "a b" , "n": 1 }"#,
            r#"curl|-d|{ "password" : "REDACTED" , "n": 1 }"#,
        );
        check(
            r#"curl|--json={"token":"x"}"#,
            r#"curl|--json={"token":"REDACTED"}"#,
        );
        check("a|--mine|x|--mine=x", "a|--mine|REDACTED|--mine=REDACTED");
        check("curl|-H|X-Mine: a b", "curl|-H|X-Mine: REDACTED");
        check("a|--to|jane@example.com", "a|--to|REDACTED");
        check("a|-Ddb.pwd=x", "a|-Ddb.pwd=REDACTED");
        check(
            "title --secret=x of a process",
            "title --secret=REDACTED of a process",
        );
    }

    #[test]
    fn secrets_are_hidden_however_they_are_written() {
        check("redis-cli|-a|hunter13", "redis-cli|-a|REDACTED");
        check(
            "sh|-c|redis-cli -a hunter13 get k",
            "sh|-c|redis-cli -a REDACTED get k",
        );
        check("tar|-a|x", "tar|-a|x");
        check(
            "docker|exec|mysql|mysql|-pzz",
            "docker|exec|mysql|mysql|-pREDACTED",
        );
        check("curl|-uu:zz9|http://h", "curl|-uu:REDACTED|http://h");
        check("curl|-Uu:zz9", "curl|-Uu:REDACTED");
        check("psql|-upostgres", "psql|-upostgres");
        for name in [
            "--db-pass",
            "--dbPass",
            "--db_pwd",
            "--my-secret",
            "--a.passwd",
        ] {
            check(&format!("a|{name}|zz"), &format!("a|{name}|REDACTED"));
            check(&format!("a|{name}=zz"), &format!("a|{name}=REDACTED"));
        }
        check("PGPASS=x y|b", "PGPASS=REDACTED|b");
        check("a|--password=A B|c", "a|--password=REDACTED|c");
        check("a|password=A\tB", "a|password=REDACTED");
        check(
            "a|host=h password='A B' port=1",
            "a|host=h password=REDACTED REDACTED port=1",
        );
        for blank in ["  ", "\t", "\n", " \\\n ", "\u{a0}"] {
            check(
                &format!("sh|-c|a{blank}--password{blank}zz{blank}b"),
                &format!("sh|-c|a{blank}--password{blank}REDACTED{blank}b"),
            );
        }
        check(
            "sh|-c|a --password 'A B C' d --token=\"E F\" g",
            "sh|-c|a --password REDACTED REDACTED REDACTED d --token=REDACTED REDACTED g",
        );
        check(
            "sh|-c|curl -u 'bob:A B' -H 'X-Api-Key: C D' e",
            "sh|-c|curl -u 'bob:REDACTED REDACTED -H 'X-Api-Key: REDACTED REDACTED e",
        );
        check("a|--password||b", "a|--password|REDACTED|b");
    }

    #[test]
    fn long_lines_are_cut() {
        let mut words: Vec<String> = (0..200)
            .map(|n| format!("{n}{}", "ñ".repeat(300)))
            .collect();
        shorten(&mut words);
        assert!(words.iter().map(String::len).sum::<usize>() <= WORDS_LIMIT);
        assert!(words.len() <= MAX_WORDS && words.len() > 3);
        let mut words = vec![String::new()];
        shorten(&mut words);
        assert_eq!(words, [""]);
    }
}
