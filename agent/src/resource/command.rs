//! Command lines without their secrets: values of options whose name says so, passwords in URLs
//! and headers, and what looks like a key by itself. Rather one value too many than one too few.

use crate::target::files;
use crate::target::process::base_name;

/// The words of a command line, secrets replaced. `program` is the executable's name.
pub fn redact(argv: &[Box<str>], program: &str) -> Vec<String> {
    let password = takes_password(program)
        || argv
            .first()
            .is_some_and(|word| takes_password(base_name(word)));
    let mut next = Next::Plain;
    argv.iter()
        .map(|word| quoted(word, &mut next, password))
        .collect()
}

/// What the word before made of this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Plain,
    /// A value that is a secret.
    Secret,
    /// `name:password`
    Login,
}

/// A word that holds words: a shell's command, or a title a process gave itself.
fn quoted(word: &str, next: &mut Next, password: bool) -> String {
    if *next != Next::Plain || !word.contains(' ') {
        return judged(word, next, password);
    }
    if let Some(hidden) = header(word) {
        return hidden;
    }
    let words: Vec<String> = word
        .split(' ')
        .map(|word| judged(word, next, password))
        .collect();
    *next = Next::Plain;
    words.join(" ")
}

fn judged(word: &str, next: &mut Next, password: bool) -> String {
    let before = std::mem::replace(next, Next::Plain);
    match before {
        Next::Secret
            if SCHEMES
                .iter()
                .any(|scheme| word.eq_ignore_ascii_case(scheme)) =>
        {
            *next = Next::Secret;
            word.to_owned()
        }
        Next::Secret if !word.starts_with("--") => HIDDEN.to_owned(),
        Next::Login => login(word),
        Next::Plain | Next::Secret => {
            *next = announces(word, password);
            one(word, password)
        }
    }
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

/// What a word makes of the next one.
fn announces(word: &str, password: bool) -> Next {
    let bare = word.trim_matches(['"', '\'']);
    if matches!(bare, "-u" | "-U" | "--user" | "--proxy-user") {
        return Next::Login;
    }
    let header = bare.strip_suffix(':').is_some_and(is_header);
    let option = bare
        .strip_prefix('-')
        .is_some_and(|name| !name.contains('=') && is_secret(name));
    let attached = password && bare.starts_with("-p") && bare.len() > 2;
    if header || (option && !attached) || (password && bare == "-p") {
        return Next::Secret;
    }
    Next::Plain
}

fn one(word: &str, password: bool) -> String {
    if let Some(hidden) = header(word) {
        return hidden;
    }
    // A URL's query may hold the `=`.
    if let Some((name, value)) = word
        .split_once('=')
        .filter(|(name, _)| !name.contains("://"))
    {
        let value = match name {
            "--user" | "--proxy-user" => login(value),
            _ if is_secret(name) && !value.is_empty() => HIDDEN.to_owned(),
            _ => one(value, false),
        };
        return format!("{name}={value}");
    }
    if let Some(value) = word.strip_prefix("-p")
        && ((password && !value.is_empty()) || is_mixed(value))
    {
        return format!("-p{HIDDEN}");
    }
    if word.len() >= 20 && TOKENS.iter().any(|start| word.starts_with(start)) {
        return HIDDEN.to_owned();
    }
    url(word)
}

/// `name:password`, as curl takes it.
fn login(word: &str) -> String {
    match word.split_once(':') {
        Some((name, _)) => format!("{name}:{HIDDEN}"),
        None => word.to_owned(),
    }
}

/// Letters and digits: more of a password than of a port or a flag.
fn is_mixed(value: &str) -> bool {
    value.bytes().any(|b| b.is_ascii_digit())
        && value.bytes().any(|b| b.is_ascii_alphabetic())
        && !value.ends_with("/tcp")
        && !value.ends_with("/udp")
}

/// `Authorization: Bearer …` and the like keep their name only.
fn header(word: &str) -> Option<String> {
    let (name, value) = word.split_once(':')?;
    let bare = name.trim_start_matches("-H").trim();
    let hidden = is_header(bare) && !value.trim().is_empty() && !value.starts_with("//");
    hidden.then(|| format!("{name}: {HIDDEN}"))
}

fn is_header(name: &str) -> bool {
    let name = name.trim_start_matches(['"', '\'']);
    let plain = name
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    plain
        && (HEADERS
            .iter()
            .any(|header| name.eq_ignore_ascii_case(header))
            || is_secret(name))
}

/// `scheme://user:password@host` and secrets of the query.
fn url(word: &str) -> String {
    let Some((scheme, rest)) = word.split_once("://") else {
        return word.to_owned();
    };
    let authority = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, rest) = rest.split_at(authority);
    let host = match authority.rsplit_once('@') {
        Some((user, host)) if user.contains(':') => format!("{HIDDEN}:{HIDDEN}@{host}"),
        Some((_, host)) => format!("{HIDDEN}@{host}"),
        None => authority.to_owned(),
    };
    let Some((path, query)) = rest.split_once('?') else {
        return format!("{scheme}://{host}{rest}");
    };
    let query: Vec<String> = query
        .split('&')
        .map(|pair| match pair.split_once('=') {
            Some((name, _)) if is_secret(name) => format!("{name}={HIDDEN}"),
            _ => pair.to_owned(),
        })
        .collect();
    format!("{scheme}://{host}{path}?{}", query.join("&"))
}

fn is_secret(name: &str) -> bool {
    let name: String = name
        .chars()
        .filter(|c| c.is_ascii_alphanumeric())
        .map(|c| c.to_ascii_lowercase())
        .collect();
    SECRETS.iter().any(|word| name.contains(word)) || SECRET_NAMES.contains(&name.as_str())
}

/// Programs whose -p is a password.
fn takes_password(program: &str) -> bool {
    [
        "mysql", "mariadb", "sshpass", "ldap", "mongo", "cqlsh", "influx", "sqlcmd",
    ]
    .iter()
    .any(|name| program.starts_with(name))
}

/// What stands in place of a secret, as the semantic conventions have it for URLs.
const HIDDEN: &str = "REDACTED";

/// Parts of an option's name that make its value a secret.
const SECRETS: [&str; 16] = [
    "password",
    "passwd",
    "passphrase",
    "passcode",
    "secret",
    "token",
    "apikey",
    "accesskey",
    "privatekey",
    "encryptionkey",
    "signingkey",
    "masterkey",
    "credential",
    "authorization",
    "connectionstring",
    "sessionid",
];
const SECRET_NAMES: [&str; 8] = [
    "pass",
    "pwd",
    "pw",
    "auth",
    "requirepass",
    "masterauth",
    "dsn",
    "sig",
];
const HEADERS: [&str; 5] = [
    "authorization",
    "proxy-authorization",
    "cookie",
    "set-cookie",
    "x-api-key",
];
const SCHEMES: [&str; 3] = ["bearer", "basic", "token"];
const TOKENS: [&str; 11] = [
    "eyJ",
    "ghp_",
    "gho_",
    "ghs_",
    "github_pat_",
    "glpat-",
    "xoxb-",
    "xoxp-",
    "AKIA",
    "sk_live_",
    "hvs.",
];

const MAX_WORDS: usize = 64;
const WORD_LIMIT: usize = 256;
const WORDS_LIMIT: usize = 2048;

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str, expected: &str) {
        let argv: Vec<Box<str>> = line.split('|').map(Box::from).collect();
        let program = base_name(&argv[0]).to_owned();
        assert_eq!(redact(&argv, &program).join("|"), expected, "{line}");
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
            "sh|-c|curl -H \"Authorization: Bearer REDACTED --token REDACTED https://REDACTED:REDACTED@h/",
        );
        check(
            "title --secret=x of a process",
            "title --secret=REDACTED of a process",
        );
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
