//! FastCGI: php-fpm behind nginx, which keeps connections or does not, and behind Apache's
//! mod_proxy_fcgi; over TCP and a unix socket.

use std::fs;
use std::path::Path;

use anyhow::Result;
use spantap_tests::agent::{self, Capture};
use spantap_tests::driver::Plain;
use spantap_tests::known::{Ask, ask, drive, put};
use spantap_tests::process::free_port;
use spantap_tests::program::{Program, Setup};
use spantap_tests::span::{Kind, Span};
use spantap_tests::{Case, Deed, Doers, Driver, Stage, install};

use crate::deeds::{Place, Way};
use crate::programs::{DRIVER, apache_that, nginx_with};

/// All of them.
pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |front: &'static Front, way: Way| {
        cases.push(way.case("fastcgi", front.name, move |stage| run(stage, front, way)));
    };
    for way in Way::ALL {
        add(&NGINX_KEEPS, way);
    }
    add(&NGINX, Way::NEW);
    add(&NGINX_KEEPS, Way::OLD.unix());
    add(&NGINX, Way::NEW.unix());
    add(&APACHE, Way::OLD);
    add(&APACHE, Way::NEW);
    cases.push(Case::new("fastcgi::nginx::chain", chain));
    cases
}

/// A web server that asks php-fpm.
struct Front {
    name: &'static str,
    /// How it is started on a port, to ask a socket for what a script says.
    setup: fn(&Path, u16, &str, &Path) -> Result<Setup>,
}

const NGINX: Front = Front {
    name: "nginx",
    setup: |folder, port, socket, script| nginx(folder, port, socket, script, ""),
};
const NGINX_KEEPS: Front = Front {
    name: "nginx-keeps",
    setup: |folder, port, socket, script| {
        nginx(folder, port, socket, script, "fastcgi_keep_conn on;")
    },
};
const APACHE: Front = Front {
    name: "apache",
    setup: apache,
};

fn nginx(folder: &Path, port: u16, socket: &str, script: &Path, more: &str) -> Result<Setup> {
    let params: String = [
        "QUERY_STRING $query_string",
        "REQUEST_METHOD $request_method",
        "CONTENT_TYPE $content_type",
        "CONTENT_LENGTH $content_length",
        "REQUEST_URI $request_uri",
        "SERVER_PROTOCOL $server_protocol",
        "REQUEST_SCHEME $scheme",
        "REMOTE_ADDR $remote_addr",
        "REMOTE_PORT $remote_port",
        "SERVER_PORT $server_port",
        "SERVER_NAME $server_name",
    ]
    .map(|param| format!("fastcgi_param {param};\n"))
    .concat();
    let script = script.display();
    nginx_with(
        folder,
        &format!(
            "upstream php {{ server {socket}; keepalive 1; }}
            server {{
                listen 127.0.0.1:{port};
                {params}
                fastcgi_param SCRIPT_FILENAME {script};
                {more}
                location / {{ fastcgi_pass php; }}
            }}"
        ),
    )
}

fn apache(folder: &Path, port: u16, socket: &str, script: &Path) -> Result<Setup> {
    let script = script.display();
    let more = format!(
        "<Proxy \"fcgi://{socket}/\" enablereuse=on max=1>
        </Proxy>
        <Location \"/\">
            DirectorySlash Off
            SetHandler \"proxy:fcgi://{socket}/\"
            ProxyFCGISetEnvIf \"true\" SCRIPT_FILENAME \"{script}\"
            Require all granted
        </Location>"
    );
    apache_that(folder, port, &[], &["proxy", "proxy_fcgi"], &more)
}

/// How configurations name a place.
fn socket(place: &Place) -> String {
    let port = || format!("127.0.0.1:{}", place.port);
    place.path.clone().unwrap_or_else(port)
}

/// php-fpm on a port of this host or at a path.
fn php(folder: &Path, place: &Place) -> Result<Program> {
    let php = install::debian("php-fpm", &["php8.2-fpm"])?;
    let text = format!(
        "[global]\n\
        daemonize = no\n\
        error_log = {}/php-fpm.log\n\
        [www]\n\
        listen = {}\n\
        pm = static\n\
        pm.max_children = 3\n\
        php_admin_flag[log_errors] = on\n\
        php_admin_flag[display_errors] = off\n",
        folder.display(),
        socket(place)
    );
    let file = folder.join("php-fpm.conf");
    fs::write(&file, text)?;
    let setup = Setup::new("php-fpm", folder, php.file("usr/sbin/php-fpm8.2")?)
        .env("LD_LIBRARY_PATH", php.libraries())
        .args(["-n", "-R", "-F", "-y"])
        .arg(file);
    place.start(setup)
}

/// A trace that a request says it is part of.
const TRACE: [&str; 2] = ["0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"];

/// What is asked, one after the other.
fn asks(large: bool) -> Vec<Ask> {
    let [trace, span] = TRACE;
    let carried = ("traceparent".into(), format!("00-{trace}-{span}-01"));
    let all = vec![
        ask("GET", "/hello?page=2", 200),
        put("POST", "/upload", 100, 200),
        put("POST", "/upload", 200_000, 200),
        ask("GET", "/large", 200),
        ask("GET", "/missing", 404),
        ask("GET", "/broken", 500),
        ask("GET", "/slow", 200),
        Ask {
            headers: vec![carried],
            ..ask("GET", "/hello", 200)
        },
    ];
    let fits = |ask: &Ask| large || ask.target != "/large";
    all.into_iter().filter(fits).collect()
}

/// What is to be seen of it.
fn deeds(large: bool) -> Vec<Deed> {
    let deed = |ask: &Ask| {
        let (path, query) = match ask.target.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (&*ask.target, None),
        };
        let route = match ask.status {
            404 => String::new(),
            _ => format!(" {path}"),
        };
        let deed = Deed::new(
            &format!("{}{route}", ask.method),
            [
                ("network.protocol.name", "fastcgi"),
                ("network.protocol.version", "1.0"),
                ("http.request.method", &ask.method),
                ("url.scheme", "http"),
                ("url.path", path),
            ],
        );
        let deed = deed.with("http.response.status_code", ask.status);
        let deed = match query {
            Some(query) => deed.with("url.query", query),
            None => deed.without("url.query"),
        };
        match (path, ask.status) {
            (_, 404) => deed.fails_client("404"),
            (_, 500) => deed.fails("500").with("spantap.fastcgi.stderr", true),
            ("/large", _) => deed.with("http.response.body.size", 3 << 20),
            ("/slow", _) => deed.with("http.response.body.size", 4),
            _ => deed,
        }
    };
    asks(large).iter().map(deed).collect()
}

fn run(stage: &mut Stage, front: &Front, way: Way) -> Result<()> {
    let (port, behind) = (free_port()?, way.place(&stage.folder)?);
    // The web server's own side of HTTP is not asked for.
    let agent = behind.agent(stage, &["*php-fpm*"])?;
    let agent = match way.before {
        // Records of older connections are not followed: three megabytes are copied whole at both ends,
        // faster than a reader wakes on a busy machine.
        true => agent.args(["--ring-bytes", "64MiB"]),
        false => agent,
    };
    let (script, _) = install::app("fastcgi/index.php")?;
    let php = php(&stage.folder, &behind)?;
    let place = match way.unix {
        true => format!("unix:{behind}"),
        false => socket(&behind),
    };
    let front_name = front.name;
    // How long a large answer is the fall-back path does not tell: it copies 64 KiB of a call.
    let large = way.capture != Capture::Syscall;
    let front = (front.setup)(&stage.folder, port, &place, &script)?.port(port);
    let agent = agent.capture(way.capture);
    let mut driver = Driver::start(&stage.folder, DRIVER, "driver")?;
    let (front, agent) = if way.before {
        let front = front.start()?;
        let mut plain = Plain::new(&mut driver, port)?;
        drive(&asks(large), &mut plain, port, None, None)?;
        (front, agent.start()?)
    } else {
        let agent = agent.start()?;
        (front.start()?, agent)
    };
    let mut plain = Plain::new(&mut driver, port)?;
    drive(&asks(large), &mut plain, port, None, None)?;
    let mut deeds = deeds(large);
    let mut doers = Doers {
        client: front.pids(),
        server: php.pids(),
        cell: ("fastcgi".into(), front_name.into()),
    };
    if way.unix {
        (doers.client, doers.server) = (doers.server, Vec::new());
        for deed in &mut deeds {
            deed.kinds = Some([Kind::Server; 2]);
            deed.error.take_if(|error| error == "404");
        }
    }
    let spans = stage.judge_deeds(agent, &deeds, &doers)?;
    for span in &spans {
        place_of(stage, span, (!way.unix).then_some(behind.port));
    }
    Ok(())
}

/// Each side says its own of the place: the web server asks a socket, php-fpm is asked what the
/// browser asked for.
fn place_of(stage: &mut Stage, span: &Span, behind: Option<u16>) {
    let server = span.kind == Kind::Server;
    let mut wants = vec![("url.full", None)];
    if server {
        wants.push(("server.address", Some("127.0.0.1".to_owned())));
        wants.push(("client.address", Some("127.0.0.1".to_owned())));
    } else {
        wants.push(("server.address", Some("127.0.0.1".to_owned())));
        wants.push(("server.port", behind.map(|port| port.to_string())));
    }
    for (key, want) in wants {
        let got = span.text(key);
        stage.check(got == want, || {
            format!(
                "{:?} {}: {key} is {got:?}, want {want:?}",
                span.kind, span.name
            )
        });
    }
    let port = span.text("server.port");
    let front = !server || port != behind.map(|port| port.to_string());
    stage.check(front, || format!("php-fpm was asked at {port:?}"));
}

/// HTTP to nginx and FastCGI behind it.
fn chain(stage: &mut Stage) -> Result<()> {
    let (port, behind) = (free_port()?, Way::NEW.place(&stage.folder)?);
    let (script, _) = install::app("fastcgi/index.php")?;
    let php = php(&stage.folder, &behind)?;
    let front = (NGINX_KEEPS.setup)(&stage.folder, port, &socket(&behind), &script)?.port(port);
    let agent = stage.agent()?.ports(&[port, behind.port]).start()?;
    let front = front.start()?;
    let mut driver = Driver::start(&stage.folder, DRIVER, "driver")?;
    let mut plain = Plain::new(&mut driver, port)?;
    let asks = asks(true);
    drive(&asks, &mut plain, port, None, None)?;
    if agent::dry() {
        return Ok(());
    }
    let (front, php) = (front.pids(), php.pids());
    let spans = stage.receive(agent, 4 * asks.len())?;
    let of = |pids: &[u32], kind| -> Vec<&Span> {
        let is =
            |span: &&Span| span.kind == kind && span.pid().is_some_and(|pid| pids.contains(&pid));
        spans.iter().filter(is).collect()
    };
    let (served, asked) = (of(&front, Kind::Server), of(&front, Kind::Client));
    let answered = of(&php, Kind::Server);
    for kind in [&served, &asked, &answered] {
        stage.check(kind.len() == asks.len(), || {
            format!("{} spans, want {}", kind.len(), asks.len())
        });
    }
    // nginx serves many at once on one thread: of its own two spans nothing tells that they belong
    // together. What it asked php-fpm does.
    for child in answered {
        let is = |parent: &&&Span| child.parent.as_ref() == Some(&parent.id);
        let parent = asked.iter().find(is);
        let path = child.text("url.path");
        let same = parent.is_some_and(|p| p.trace == child.trace && p.text("url.path") == path);
        stage.check(same, || {
            format!("{} is no child of what asked it", child.name)
        });
    }
    let carried = spans.iter().filter(|span| span.trace == TRACE[0]).count();
    stage.check(carried >= 3, || {
        format!("{carried} spans in the trace that was carried")
    });
    Ok(())
}
