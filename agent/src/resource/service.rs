//! `service.name` from a command line: the script, module, archive or class that an interpreter
//! runs; the application behind an application server; else the executable, by the name it was started
//! under. An interpreter's own name only where nothing else is to be seen.

use crate::policy::redact::Redactor;
use crate::target::Snapshot;
use crate::target::files;
use crate::target::process::base_name;

/// The name of the service a process is. What `redactor` would replace is none.
pub fn name(process: &Snapshot, redactor: Option<&Redactor>) -> String {
    let found = title(process).or_else(|| by_command(process));
    let usable = |name: String| usable(&name, redactor);
    found
        .and_then(usable)
        .or_else(|| usable(executable(process)))
        .or_else(|| usable(process.exe_name().to_owned()))
        .unwrap_or_else(|| UNKNOWN.to_owned())
}

/// A name as people can read it, if it is one: not a folder, nobody's address.
fn usable(name: &str, redactor: Option<&Redactor>) -> Option<String> {
    let seen = |c: &char| !c.is_control() && !is_format(*c);
    let name: String = name.chars().filter(seen).collect();
    let name = name.trim();
    let secret = || redactor.is_some_and(|redactor| redactor.text(name).is_some());
    if matches!(name, "" | "." | "..") || secret() {
        return None;
    }
    Some(files::cut(name, NAME_LIMIT).to_owned())
}

/// Whether a character only changes how others are shown: Unicode's category Cf (Unicode 16.0,
/// `DerivedGeneralCategory.txt`).
fn is_format(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}' | '\u{70f}' | '\u{890}'..='\u{891}' | '\u{8e2}'
        | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2064}'
        | '\u{2066}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{110bd}' | '\u{110cd}'
        | '\u{13430}'..='\u{1343f}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0001}'
        | '\u{e0020}'..='\u{e007f}')
}

/// A process that wrote its own title has it all in the first argument: `nginx: worker process`,
/// `gunicorn: worker [shop:app]`, `php-fpm: pool www`, `puma: cluster worker 0: 7 [shop]`.
fn title(process: &Snapshot) -> Option<String> {
    let first = process.argv.first()?;
    if let Some((head, tail)) = first.split_once(": ")
        && !head.is_empty()
        && !head.contains(['/', ' '])
    {
        let bracketed = brackets(tail).filter(|_| APP_SERVERS.contains(&versionless(head)));
        return Some(bracketed.map_or_else(|| versionless(head).to_owned(), application));
    }
    // `puma 6.4 (tcp://0.0.0.0:80) [shop]`, `next-server (v14.1)`
    let (head, tail) = first.split_once(' ')?;
    let only = process.argv.len() == 1;
    let known = is_interpreter(process.exe_name());
    if !only || !known || is_interpreter(base_name(head)) {
        return None;
    }
    Some(brackets(tail).map_or_else(|| stem(base_name(head)).to_owned(), application))
}

fn brackets(text: &str) -> Option<&str> {
    let text = text.trim_end().strip_suffix(']')?;
    text.rsplit_once('[')
        .map(|(_, inner)| inner)
        .filter(|inner| !inner.is_empty())
}

fn by_command(process: &Snapshot) -> Option<String> {
    let argv: Vec<&str> = process.argv.iter().map(|word| &**word).collect();
    let first = base_name(argv.first()?);
    let exe = versionless(process.exe_name());
    let language = versionless(if is_interpreter(exe) { exe } else { first });
    let rest = argv.get(1..)?;
    match language {
        "python" | "pypy" => python(rest, process),
        "java" => java(rest),
        "dotnet" => dotnet(rest),
        "php" | "php-cgi" => php(rest),
        "node" | "nodejs" => script(rest, &NODE_VALUES, process),
        "bun" | "deno" => script(
            skip(rest, &["run", "serve", "--allow-all"]),
            &NODE_VALUES,
            process,
        ),
        "ruby" | "jruby" => script(rest, &["-I", "-r", "-C", "-E", "-x"], process),
        "perl" => script(rest, &["-I", "-M", "-x"], process),
        "sh" | "bash" | "dash" | "zsh" => script(rest, &["-o", "-O", "--rcfile"], process),
        "beam.smp" => beam(rest),
        "gunicorn" | "uvicorn" | "hypercorn" | "uwsgi" | "celery" => app_server(language, rest),
        _ if is_loader(process.exe_name()) => {
            script(rest, &["--library-path", "--preload"], process)
        }
        _ if matches!(exe, "busybox" | "toybox") => match first {
            "busybox" | "toybox" => rest.first().map(|applet| (*applet).to_owned()),
            applet => Some(applet.to_owned()),
        },
        _ => None,
    }
}

/// The executable's name, without what a package or the kernel added to it.
fn executable(process: &Snapshot) -> String {
    let name = process.exe_name();
    let name = name.strip_prefix("memfd:").unwrap_or(name);
    let name = started_as(process)
        .filter(|_| !is_interpreter(name))
        .unwrap_or(name);
    if is_interpreter(name) {
        let typed = process.argv.first().map_or("", |first| base_name(first));
        return versionless(if is_interpreter(typed) { typed } else { name }).to_owned();
    }
    match name {
        name if name.starts_with("php-fpm") => "php-fpm".to_owned(),
        "" => process
            .argv
            .first()
            .map(|first| base_name(first).to_owned())
            .unwrap_or_default(),
        name => stem(name).to_owned(),
    }
}

/// The name under which the executable was started, which may be that of a link to it (Debian's
/// `redis-server` is one to `redis-check-rdb`). The first argument says it, before what the program may
/// have added (`redis-server *:6379`); that it is no other is witnessed by the kernel, whose name for the
/// process is that of the path that was executed (fs/exec.c, `begin_new_exec`), as long as it has room.
pub(super) fn started_as(process: &Snapshot) -> Option<&str> {
    let first = process.argv.first()?;
    let word = first.split(' ').next().unwrap_or_default();
    let mut names = [base_name(word), base_name(first)].into_iter();
    names.find(|name| {
        let witnessed = name.as_bytes().get(..COMM).unwrap_or(name.as_bytes());
        !name.is_empty() && witnessed == process.comm.as_bytes()
    })
}

fn python(words: &[&str], process: &Snapshot) -> Option<String> {
    let mut words = words.iter().copied();
    while let Some(word) = words.next() {
        if word == "--check-hash-based-pycs" {
            words.next();
            continue;
        }
        let Some(flags) = word
            .strip_prefix('-')
            .filter(|flags| !flags.starts_with('-'))
        else {
            if word.starts_with("--") {
                continue;
            }
            let rest: Vec<&str> = words.collect();
            let server = app_server(versionless(stem(base_name(word))), &rest);
            return server.or_else(|| path_name(word, process));
        };
        // Letters may be joined: -um module.
        let Some(at) = flags.find(['m', 'c', 'W', 'X', 'Q']) else {
            if flags.is_empty() {
                return None;
            }
            continue;
        };
        let value = flags
            .get(at + 1..)
            .filter(|value| !value.is_empty())
            .or_else(|| words.next())?;
        match flags.as_bytes().get(at) {
            Some(b'm') => {
                let rest: Vec<&str> = words.collect();
                let module = value.trim_end_matches(".__main__");
                return app_server(module, &rest).or_else(|| Some(module.to_owned()));
            }
            Some(b'c') => return None,
            _ => {}
        }
    }
    None
}

/// `gunicorn -w 4 shop.wsgi:app`, `flask --app shop run`, `celery -A shop worker`.
fn app_server(server: &str, words: &[&str]) -> Option<String> {
    if !APP_SERVERS.contains(&server) {
        return None;
    }
    let mut words = words.iter().copied().peekable();
    let mut plain = None;
    while let Some(word) = words.next() {
        if matches!(
            word,
            "-A" | "--app" | "--module" | "-w" | "--wsgi-file" | "--name" | "-n"
        ) {
            let value = words.next().unwrap_or_default();
            let names = matches!(
                word,
                "--app" | "-A" | "--module" | "--wsgi-file" | "--name" | "-n"
            ) || (server == "uwsgi" && word == "-w");
            if names {
                return Some(application(value));
            }
            continue;
        }
        if let Some((option, value)) = word.split_once('=')
            && matches!(option, "--app" | "--module" | "--name" | "--wsgi-file")
        {
            return Some(application(value));
        }
        let is_module = word.split_once(':').is_some_and(|(module, attribute)| {
            is_dotted(module) && is_dotted(attribute.trim_end_matches("()"))
        });
        if !word.starts_with('-') && is_module {
            plain = Some(word);
        }
    }
    Some(plain.map_or_else(|| server.to_owned(), application))
}

fn is_dotted(text: &str) -> bool {
    let identifier = |part: &str| {
        part.starts_with(|c: char| c.is_alphabetic() || c == '_')
            && part.chars().all(|c| c.is_alphanumeric() || c == '_')
    };
    text.split('.').all(identifier)
}

/// `shop.wsgi:app` → shop, `app:app` → app, `/srv/shop/wsgi.py` → wsgi
fn application(text: &str) -> String {
    let module = text.split(':').next().unwrap_or(text);
    if module.contains('/') {
        return stem(base_name(module)).to_owned();
    }
    let module = module.trim_end_matches(".py");
    ENTRY_MODULES
        .iter()
        .find_map(|entry| module.strip_suffix(entry).filter(|rest| !rest.is_empty()))
        .unwrap_or(module)
        .to_owned()
}

fn java(words: &[&str]) -> Option<String> {
    // Spring's own name for it, wherever it is given.
    let spring = words.iter().find_map(|word| {
        let word = word.trim_start_matches("--").trim_start_matches("-D");
        word.strip_prefix("spring.application.name=")
    });
    if let Some(name) = spring.filter(|name| !name.is_empty()) {
        return Some(name.to_owned());
    }
    let mut words = words.iter().copied();
    while let Some(word) = words.next() {
        match word {
            "-jar" => return words.next().map(|jar| archive(base_name(jar))),
            "-m" | "--module" => {
                let module = words.next()?;
                return Some(class(module.rsplit('/').next().unwrap_or(module)));
            }
            word if JAVA_VALUES.contains(&word) => {
                words.next();
            }
            word if word.starts_with(['-', '@']) => {}
            word => return Some(class(word)),
        }
    }
    None
}

fn class(name: &str) -> String {
    name.rsplit(['.', '/'])
        .find(|part| !part.is_empty())
        .unwrap_or(name)
        .to_owned()
}

/// `shop-1.2.3-SNAPSHOT.jar` → shop: the name has to be the same for all versions.
fn archive(file: &str) -> String {
    let name = stem(file);
    let version = name.match_indices('-').find(|(at, _)| {
        let rest = name.get(at + 1..).unwrap_or_default();
        rest.starts_with(|c: char| c.is_ascii_digit()) && *at > 0
    });
    version
        .and_then(|(at, _)| name.get(..at))
        .unwrap_or(name)
        .to_owned()
}

fn dotnet(words: &[&str]) -> Option<String> {
    let mut words = words.iter().copied();
    while let Some(word) = words.next() {
        match word {
            "--project" => return words.next().map(|path| stem(base_name(path)).to_owned()),
            "--runtimeconfig"
            | "--depsfile"
            | "--additionalprobingpath"
            | "--fx-version"
            | "--roll-forward" => {
                words.next();
            }
            word if word.ends_with(".dll") || word.ends_with(".exe") => {
                return Some(stem(base_name(word)).to_owned());
            }
            _ => {}
        }
    }
    None
}

fn php(words: &[&str]) -> Option<String> {
    let mut words = words.iter().copied();
    let mut root = None;
    while let Some(word) = words.next() {
        match word {
            "-f" | "--file" => return words.next().map(|path| stem(base_name(path)).to_owned()),
            "-t" => root = words.next(),
            "-S" | "-d" | "-c" | "-z" => {
                words.next();
            }
            "-r" | "-a" | "--" => break,
            word if word.starts_with('-') => {}
            word => return Some(stem(base_name(word)).to_owned()),
        }
    }
    root.map(|path| base_name(path).to_owned())
}

fn beam(words: &[&str]) -> Option<String> {
    let at = words
        .iter()
        .position(|word| matches!(*word, "-sname" | "-name"))?;
    let name = words.get(at + 1)?;
    name.split('@')
        .next()
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
}

/// The first word that is no option; `values` are the options that take the next word. An inline
/// program (`-e`, `-c`) has no name.
fn script(words: &[&str], values: &[&str], process: &Snapshot) -> Option<String> {
    let mut words = words.iter().copied();
    while let Some(word) = words.next() {
        if matches!(word, "-e" | "-c" | "-p" | "--eval" | "--print") {
            return None;
        }
        if values.contains(&word) {
            words.next();
        } else if !word.starts_with('-') {
            // A tool of node_modules that runs a script of the project's.
            let tool = word.contains("/node_modules/") || word.starts_with("node_modules/");
            let inner = words.find(|word| tool && is_source(word) && !word.starts_with('-'));
            return path_name(inner.unwrap_or(word), process);
        }
    }
    None
}

fn is_source(word: &str) -> bool {
    [".js", ".mjs", ".cjs", ".ts", ".mts", ".tsx"]
        .iter()
        .any(|end| word.ends_with(end))
}

fn skip<'a>(words: &'a [&'a str], names: &[&str]) -> &'a [&'a str] {
    let n = words.iter().take_while(|word| names.contains(word)).count();
    words.get(n..).unwrap_or_default()
}

/// The name of a script. Where the file's name is the same in every project, its folder's.
fn path_name(path: &str, process: &Snapshot) -> Option<String> {
    let path = path.trim_end_matches('/');
    let own = stem(base_name(path));
    if !GENERIC.contains(&own) && !own.is_empty() && own != "." {
        return Some(own.to_owned());
    }
    let folders = path
        .rsplit('/')
        .skip(1)
        .chain(process.cwd.iter().flat_map(|cwd| cwd.rsplit('/')));
    let folder = folders.take(MAX_FOLDERS).find(|folder| {
        !folder.is_empty() && *folder != "." && *folder != ".." && !BUILT.contains(folder)
    });
    Some(folder.unwrap_or(own).to_owned())
}

/// Without the extension of a program.
fn stem(name: &str) -> &str {
    EXTENSIONS
        .iter()
        .find_map(|end| name.strip_suffix(end).filter(|stem| !stem.is_empty()))
        .unwrap_or(name)
}

/// `python3.11` → python, `php-fpm8.2` → php-fpm
fn versionless(name: &str) -> &str {
    let name = name.strip_prefix("memfd:").unwrap_or(name);
    let cut = name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.');
    if cut.is_empty() {
        name
    } else {
        cut.trim_end_matches('-')
    }
}

fn is_interpreter(name: &str) -> bool {
    INTERPRETERS.contains(&versionless(name))
}

/// Programs that run the program their first argument names.
fn is_loader(exe: &str) -> bool {
    (exe.starts_with("ld-") && exe.contains(".so"))
        || (exe.starts_with("ld-linux") || exe.starts_with("qemu-"))
}

const UNKNOWN: &str = "unknown_service";
const NAME_LIMIT: usize = 128;
/// Bytes of the kernel's name for a process at most (include/linux/sched.h, TASK_COMM_LEN, without the
/// zero).
const COMM: usize = 15;
const MAX_FOLDERS: usize = 12;

const INTERPRETERS: [&str; 18] = [
    "python", "pypy", "node", "nodejs", "deno", "bun", "java", "ruby", "jruby", "php", "php-cgi",
    "perl", "dotnet", "beam.smp", "sh", "bash", "dash", "zsh",
];
const APP_SERVERS: [&str; 12] = [
    "gunicorn",
    "uvicorn",
    "hypercorn",
    "daphne",
    "granian",
    "flask",
    "celery",
    "uwsgi",
    "puma",
    "unicorn",
    "waitress-serve",
    "waitress",
];
/// Modules that only hold the entry point of the package before them.
const ENTRY_MODULES: [&str; 5] = [".wsgi", ".asgi", ".main", ".app", ".application"];
/// Script names that say nothing.
const GENERIC: [&str; 4] = ["index", "__main__", "manage", ""];
/// Folders that say nothing.
const BUILT: [&str; 8] = [
    "dist",
    "build",
    "src",
    "lib",
    "bin",
    "out",
    "cli",
    "node_modules",
];
const EXTENSIONS: [&str; 18] = [
    ".py", ".pyc", ".pyz", ".js", ".mjs", ".cjs", ".ts", ".mts", ".rb", ".ru", ".php", ".phar",
    ".pl", ".sh", ".jar", ".war", ".dll", ".exe",
];
const NODE_VALUES: [&str; 11] = [
    "-r",
    "--require",
    "--import",
    "--loader",
    "--experimental-loader",
    "-C",
    "--conditions",
    "--env-file",
    "--title",
    "--input-type",
    "--config",
];
const JAVA_VALUES: [&str; 13] = [
    "-cp",
    "-classpath",
    "--class-path",
    "-p",
    "--module-path",
    "--upgrade-module-path",
    "--add-modules",
    "--add-opens",
    "--add-exports",
    "--add-reads",
    "--limit-modules",
    "--patch-module",
    "--enable-native-access",
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Redaction;

    fn check(exe: &str, line: &str, expected: &str) {
        let process = Snapshot {
            comm: base_name(exe).into(),
            exe: (!exe.is_empty()).then(|| exe.into()),
            argv: line
                .split('|')
                .filter(|_| !line.is_empty())
                .map(Box::from)
                .collect(),
            cwd: Some("/srv/shop".into()),
            ..Snapshot::default()
        };
        let redactor = Redactor::new(&Redaction::default());
        assert_eq!(name(&process, Some(&redactor)), expected, "{exe} {line}");
    }

    #[test]
    fn executables_that_go_by_another_name() {
        for (exe, comm, first, expected) in [
            // As it is started, and as it writes its own line.
            (
                "redis-check-rdb",
                "redis-server",
                "/usr/bin/redis-server",
                "redis-server",
            ),
            (
                "redis-check-rdb",
                "redis-server",
                "/usr/bin/redis-server 127.0.0.1:6379",
                "redis-server",
            ),
            (
                "redis-check-rdb",
                "redis-server",
                "redis-server unixsocket:/run/redis.sock",
                "redis-server",
            ),
            (
                "redis-check-rdb",
                "redis-sentinel",
                "redis-sentinel *:26379 [sentinel]",
                "redis-sentinel",
            ),
            // The kernel keeps 15 bytes.
            (
                "prometheus-2.1",
                "prometheus-node",
                "prometheus-node-exporter",
                "prometheus-node-exporter",
            ),
            (
                "a b/my server-1.2",
                "my server",
                "/opt/a b/my server",
                "my server",
            ),
            // The first argument may be anything, and so may the kernel's name.
            ("shop", "shop", "anything", "shop"),
            ("shop", "worker-1", "shop", "shop"),
            ("shop", "worker-1", "anything", "shop"),
            ("shop", "", "", "shop"),
            (
                "nginx",
                "nginx",
                "nginx: master process /usr/sbin/nginx",
                "nginx",
            ),
            (
                "postgres",
                "postgres",
                "postgres: 15/main: walwriter ",
                "postgres",
            ),
            ("php-fpm8.2", "php-fpm8.2", "php-fpm: pool www", "php-fpm"),
            ("python3.11", "python3", "python3", "python"),
        ] {
            let process = Snapshot {
                comm: comm.into(),
                exe: Some(format!("/usr/bin/{exe}").into()),
                argv: vec![first.into()],
                ..Snapshot::default()
            };
            assert_eq!(name(&process, None), expected, "{exe} {comm} {first}");
        }
    }

    #[test]
    fn python() {
        let exe = "/usr/bin/python3.11";
        check(exe, "python|app.py", "app");
        check(exe, "python3|-u|/srv/front.py|--port|80", "front");
        check(exe, "python3|-m|http.server|8000", "http.server");
        check(exe, "python3|-um|shop", "shop");
        check(
            exe,
            "python3|-Wignore|-X|dev|-W|error|-mshop.__main__",
            "shop",
        );
        check(exe, "python3|-c|import x; x.y()", "python");
        check(exe, "python3", "python");
        check(exe, "python3|-", "python");
        check(exe, "python3|--check-hash-based-pycs|always|app.py", "app");
        check(
            exe,
            "/usr/bin/python3|/usr/bin/gunicorn|-w|4|app:app",
            "app",
        );
        check(
            exe,
            "/usr/bin/python3|/usr/local/bin/gunicorn|shop.wsgi:application|-b|0.0.0.0:80",
            "shop",
        );
        check(
            exe,
            "/usr/bin/python3|/usr/bin/gunicorn|-c|conf.py",
            "gunicorn",
        );
        check(
            exe,
            "/usr/bin/python3|-m|uvicorn|shop.main:app|--host|0.0.0.0",
            "shop",
        );
        check(
            exe,
            "/usr/bin/python3|/usr/bin/flask|--app|shop|run",
            "shop",
        );
        check(
            exe,
            "/usr/bin/python3|/usr/bin/celery|-A|shop.tasks|worker",
            "shop.tasks",
        );
        check(
            exe,
            "/usr/bin/python3|/usr/bin/gunicorn|--name=api|x:app",
            "api",
        );
        check(exe, "python|manage.py|runserver", "shop");
        check(exe, "python|/opt/store/manage.py|runserver", "store");
        check(exe, "python|/opt/store/__main__.py", "store");
        check(exe, "gunicorn: worker [app:app]", "app");
        check(exe, "gunicorn: master [shop]", "shop");
        check(
            "/usr/bin/uwsgi",
            "uwsgi|--http|:80|--module|shop:app",
            "shop",
        );
    }

    #[test]
    fn node_ruby_php_and_others() {
        let node = "/usr/bin/node";
        check(node, "node|/srv/front.js", "front");
        check(
            node,
            "node|--require|./otel.js|--inspect=0|server.mjs",
            "server",
        );
        check(node, "node|-r|x|index.js", "shop");
        check(node, "node|/opt/api/dist/index.js", "api");
        check(node, "node|.", "shop");
        check(node, "node|-e|0", "node");
        check(node, "node|node_modules/.bin/tsx|server.ts", "server");
        check(node, "node|/app/node_modules/.bin/next|start", "next");
        check(node, "next-server (v14.1.0)", "next-server");
        check("/usr/bin/ruby3.1", "ruby|bin/rails|server", "rails");
        check(
            "/usr/bin/ruby3.1",
            "puma 5.6.5 (tcp://0.0.0.0:3000) [shop]",
            "shop",
        );
        check(
            "/usr/bin/ruby3.1",
            "puma: cluster worker 0: 7 [shop]",
            "shop",
        );
        check("/usr/sbin/php-fpm8.2", "php-fpm: pool www", "php-fpm");
        check("/usr/sbin/php-fpm8.2", "/usr/sbin/php-fpm8.2|-F", "php-fpm");
        check("/usr/bin/php8.2", "php|-S|0.0.0.0:80|-t|/srv/web", "web");
        check("/usr/bin/php8.2", "php|artisan|serve", "artisan");
        check("/usr/bin/dotnet", "dotnet|Foo.dll|--urls|x", "Foo");
        check(
            "/usr/bin/dotnet",
            "dotnet|exec|--depsfile|a.json|/app/Shop.Api.dll",
            "Shop.Api",
        );
        check(
            "/usr/lib/erlang/bin/beam.smp",
            "beam.smp|--|-sname|shop@host",
            "shop",
        );
        check("/bin/bash", "bash|/srv/run.sh", "run");
        check("/bin/dash", "sh|-c|true", "sh");
        check("/usr/bin/deno", "deno|run|--allow-net|serve.ts", "serve");
    }

    #[test]
    fn java() {
        let java = "/usr/lib/jvm/java-17/bin/java";
        check(java, "java|-jar|shop.jar", "shop");
        check(
            java,
            "java|-Xmx1g|-javaagent:/x.jar|-jar|/srv/shop-api-1.2.3-SNAPSHOT.jar|x",
            "shop-api",
        );
        check(java, "java|-cp|a.jar:b.jar|com.acme.Main|arg", "Main");
        check(
            java,
            "java|-p|mods|--add-opens|a/b=c|-m|shop/com.acme.Shop",
            "Shop",
        );
        check(
            java,
            "java|-Dspring.application.name=store|-jar|x.jar",
            "store",
        );
        check(java, "java|-version", "java");
        check(java, "java|@args|Main", "Main");
    }

    #[test]
    fn executables_and_titles() {
        check("/usr/sbin/nginx", "nginx: worker process", "nginx");
        check(
            "/usr/sbin/nginx",
            "nginx: master process /usr/sbin/nginx -g daemon off;",
            "nginx",
        );
        check("/usr/bin/curl", "curl|http://h/", "curl");
        check("/srv/bin/shop-api", "./shop-api|--x", "shop-api");
        check("/bin/busybox", "httpd|-f", "httpd");
        check("/bin/busybox", "busybox|httpd|-f", "httpd");
        check(
            "/lib64/ld-linux-x86-64.so.2",
            "/lib64/ld-linux-x86-64.so.2|/srv/shop",
            "shop",
        );
        check("/memfd:shop", "x", "shop");
        check(
            "/usr/lib/postgresql/15/bin/postgres",
            "postgres: walwriter ",
            "postgres",
        );
        check("", "", "unknown_service");
        check("", "/srv/shop|x", "shop");
        check("/srv/a\u{1b}[0m", "x", "a[0m");
    }

    #[test]
    fn what_is_no_name() {
        let node = "/usr/bin/node";
        check(node, "node|..", "node");
        check(node, "node|../", "node");
        check(node, "node|\u{200b}..", "node");
        check(node, "node|/srv/\u{202e}tnorf\u{2066}\u{feff}.js", "tnorf");
        check(node, "node|\u{200b}\u{ad}.js", "node");
        check(node, "node|/srv/jane.doe@example.com.js", "node");
        check(node, "node|/srv/jane.doe\u{200b}@example.com", "node");
        check(
            "/usr/bin/python3",
            "gunicorn: worker [ann@example.com]",
            "python",
        );
        check("/bin/busybox", "busybox|..", "busybox");
        check("/srv/..", "x", "unknown_service");
        check("/srv/ann@example.com", "x", "unknown_service");
        check(
            "/usr/bin/java",
            "java|-Dspring.application.name=..|-jar|a.jar",
            "java",
        );
    }
}
