//! The programs: how each is got, configured and started, what it can be asked, and by what name
//! its spans must go. Those without a name of their own are given one by OTEL_SERVICE_NAME, as an
//! operator would; the others must be named by the agent.

use std::fs;
use std::path::Path;

use anyhow::Result;
use spantap_tests::Party;
use spantap_tests::install::{self, debian};
use spantap_tests::known::{Ask, Known, Origin, Size, application, ask, number, put};
use spantap_tests::program::Setup;

/// The harness's own peer.
pub const DRIVER: &str = env!("CARGO_BIN_EXE_live-driver");
/// The server and client on hyper and reqwest.
pub const HYPER: &str = env!("CARGO_BIN_EXE_live-hyper");
/// The program that uses sockets in every way.
pub const SOCKETS: &str = env!("CARGO_BIN_EXE_live-sockets");

/// A server.
pub struct Server {
    /// Name in the table.
    pub name: &'static str,
    /// Its `service.name`.
    pub service: &'static str,
    /// Whether it serves files only.
    pub files: bool,
    /// Whether it may answer a POST before it has read the body.
    pub early: bool,
    /// What it is asked.
    pub mix: fn() -> Vec<Ask>,
    /// How it is started on a port, to answer these.
    pub setup: fn(&Path, u16, &[&Ask]) -> Result<Setup>,
}

const fn server(
    name: &'static str,
    service: &'static str,
    setup: fn(&Path, u16, &[&Ask]) -> Result<Setup>,
) -> Server {
    Server {
        name,
        service,
        files: false,
        early: false,
        mix: application,
        setup,
    }
}

/// All of them.
pub const SERVERS: &[Server] = &[
    Server {
        early: true,
        ..server("nginx", "nginx", nginx)
    },
    Server {
        files: true,
        mix: || files(200),
        ..server("lighttpd", "lighttpd", lighttpd)
    },
    Server {
        files: true,
        mix: || files(200),
        ..server("apache", "apache2", apache)
    },
    Server {
        files: true,
        mix: || files(501),
        ..server("python-http", "python-http", python_http)
    },
    server("gunicorn-sync", "gunicorn-sync", |folder, port, _| {
        gunicorn(folder, port, "gunicorn-sync", &["--workers", "2"])
    }),
    server("gunicorn-gthread", "gunicorn-gthread", |folder, port, _| {
        gunicorn(
            folder,
            port,
            "gunicorn-gthread",
            &["--threads", "4", "--keep-alive", "75"],
        )
    }),
    server("aiohttp", "aio_server", |folder, port, _| {
        aiohttp(folder, port, "")
    }),
    server("node-http", "http", |folder, port, _| {
        node(folder, "http.js", port, "")
    }),
    server("express", "express", |folder, port, _| {
        node(folder, "express.js", port, "")
    }),
    server("go", "go-app", |folder, port, _| go_server(folder, port)),
    server("jdk", "jdk-server", |folder, port, _| {
        let classes = install::java()?.display().to_string();
        java(folder, "jdk-server", &classes, "JdkServer", port)
    }),
    server("jetty", "jetty-server", |folder, port, _| {
        java(
            folder,
            "jetty-server",
            &install::jetty()?,
            "JettyServer",
            port,
        )
    }),
    server("hyper", "live-hyper", |folder, port, _| {
        Ok(Setup::new("hyper", folder, HYPER).args(["server", &port.to_string()]))
    }),
];

/// A client that takes requests line by line.
pub struct ClientProgram {
    /// Name in the table.
    pub name: &'static str,
    /// Its `service.name`.
    pub service: &'static str,
    /// Whether it can be told to close a connection.
    pub closes: bool,
    /// How it is started.
    pub setup: fn(&Path, &str) -> Result<Setup>,
}

const fn client(
    name: &'static str,
    service: &'static str,
    setup: fn(&Path, &str) -> Result<Setup>,
) -> ClientProgram {
    ClientProgram {
        name,
        service,
        closes: true,
        setup,
    }
}

/// All of them.
pub const CLIENTS: &[ClientProgram] = &[
    client("requests", "client_requests", |folder, base| {
        python_client(folder, "client_requests.py", base)
    }),
    client("aiohttp", "client_aiohttp", |folder, base| {
        python_client(folder, "client_aiohttp.py", base)
    }),
    client("node-http", "client", |folder, base| {
        node_client(folder, "http", base)
    }),
    ClientProgram {
        closes: false,
        ..client("node-fetch", "client", |folder, base| {
            node_client(folder, "fetch", base)
        })
    },
    client("go", "go-app", |folder, base| {
        Ok(Setup::new("go-client", folder, install::go()?).args(["client", base]))
    }),
    ClientProgram {
        closes: false,
        ..client("jdk", "jdk-client", |folder, base| {
            jdk_client(folder, base, "1.1")
        })
    },
    ClientProgram {
        closes: false,
        ..client("jdk-h2c", "jdk-client", |folder, base| {
            jdk_client(folder, base, "")
        })
    },
    client("reqwest", "live-hyper", |folder, base| {
        Ok(Setup::new("reqwest", folder, HYPER).args(["client", base]))
    }),
];

/// Servers that speak HTTP/2 without TLS, to clients that know that.
pub const SERVERS_H2: &[Server] = &[
    server("hyper", "live-hyper", |folder, port, _| {
        Ok(Setup::new("hyper", folder, HYPER).args(["server2", &port.to_string()]))
    }),
    server("node", "http", |folder, port, _| {
        Ok(node(folder, "http.js", port, "")?.arg("h2"))
    }),
    Server {
        early: true,
        ..server("nginx", "nginx", nginx_h2)
    },
];

/// Clients of theirs.
pub const CLIENTS_H2: &[ClientProgram] = &[
    client("reqwest", "live-hyper", |folder, base| {
        Ok(Setup::new("reqwest", folder, HYPER).args(["client2", base]))
    }),
    client("node", "client", |folder, base| {
        node_client(folder, "h2", base)
    }),
];

/// What servers of files are asked; POST is answered differently by each.
fn files(post: u16) -> Vec<Ask> {
    let mut all = Vec::new();
    for size in [0, 1024, 100 << 10, 2 << 20] {
        all.push(ask("GET", &format!("/bytes/{size}/{}", number()), 200));
    }
    all.push(ask("HEAD", &format!("/bytes/1024/{}", number()), 200));
    all.push(ask("GET", &format!("/missing/{}", number()), 404));
    all.push(ask("GET", &format!("/folder/{}", number()), 301));
    all.push(ask(
        "GET",
        &format!("/bytes/7/{}?page=2&sort=up", number()),
        200,
    ));
    all.push(put("POST", &format!("/bytes/5/{}", number()), 0, post));
    all
}

/// Makes the files that the requests ask for, under `www`.
fn www(folder: &Path, asks: &[&Ask]) -> Result<String> {
    let root = folder.join("www");
    for name in ["upload", "item", "folder", "bytes", "temporary"] {
        fs::create_dir_all(root.join(name))?;
    }
    for ask in asks {
        let path = ask.target.split('?').next().unwrap_or_default();
        let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
        match parts[..] {
            ["bytes" | "chunked", size, _] => {
                let file = root.join(path.trim_start_matches('/'));
                fs::create_dir_all(file.parent().unwrap_or(&root))?;
                fs::write(file, "x".repeat(size.parse()?))?;
            }
            ["item", name] => fs::write(root.join("item").join(name), "x")?,
            ["folder", name] => fs::create_dir_all(root.join("folder").join(name))?,
            _ => {}
        }
    }
    Ok(root.display().to_string())
}

fn nginx(folder: &Path, port: u16, asks: &[&Ask]) -> Result<Setup> {
    nginx_at(folder, &format!("listen 127.0.0.1:{port};"), asks)
}

fn nginx_h2(folder: &Path, port: u16, asks: &[&Ask]) -> Result<Setup> {
    nginx_at(folder, &format!("listen 127.0.0.1:{port} http2;"), asks)
}

/// nginx; `listen` are the directives that say where.
pub fn nginx_at(folder: &Path, listen: &str, asks: &[&Ask]) -> Result<Setup> {
    let root = www(folder, asks)?;
    let mut places = String::new();
    for status in [200, 201, 404, 500] {
        places +=
            &format!("location /status/{status}/ {{ return {status} \"status {status}\\n\"; }}\n");
    }
    let server = format!(
        "server {{
            {listen}
            root {root};
            default_type text/plain;
            {places}
            location /status/204/ {{ return 204; }}
            location /status/301/ {{ return 301 /bytes/0/1; }}
            location /chunked/ {{ ssi on; ssi_types *; }}
            location /item/ {{ dav_methods DELETE; }}
            location /upload/ {{
                if ($request_method = POST) {{ return 201 \"received\\n\"; }}
                dav_methods PUT;
            }}
        }}"
    );
    nginx_with(folder, &server)
}

/// nginx in front of a server, with connections kept on both sides.
pub fn nginx_proxy(folder: &Path, port: u16, behind: u16) -> Result<Setup> {
    let server = format!(
        "upstream behind {{ server 127.0.0.1:{behind}; keepalive 8; }}
        server {{
            listen 127.0.0.1:{port};
            location / {{
                proxy_pass http://behind;
                proxy_http_version 1.1;
                proxy_set_header Connection \"\";
                proxy_set_header Host 127.0.0.1:{behind};
            }}
        }}"
    );
    nginx_with(folder, &server)
}

/// nginx with a server of any kind in its configuration.
pub fn nginx_with(folder: &Path, server: &str) -> Result<Setup> {
    let place = folder.display();
    fs::create_dir_all(folder.join("www/temporary"))?;
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("{kind}_temp_path {place}/www/temporary;\n"))
        .concat();
    let text = format!(
        "daemon off;
        user root;
        worker_processes 2;
        pid {place}/nginx.pid;
        error_log {place}/nginx-error.log;
        events {{ worker_connections 512; }}
        http {{
            access_log off;
            sendfile on;
            keepalive_timeout 75;
            client_max_body_size 64m;
            {temporary}
            {server}
        }}"
    );
    let file = folder.join("nginx.conf");
    fs::write(&file, text)?;
    let nginx = debian("nginx", &["nginx"])?;
    let setup = Setup::new("nginx", folder, nginx.file("usr/sbin/nginx")?);
    Ok(setup
        .env("LD_LIBRARY_PATH", nginx.libraries())
        .args(["-c".as_ref(), file.as_os_str()]))
}

fn lighttpd(folder: &Path, port: u16, asks: &[&Ask]) -> Result<Setup> {
    let root = www(folder, asks)?;
    let text = format!(
        "server.document-root = \"{root}\"
        server.bind = \"127.0.0.1\"
        server.port = {port}
        server.upload-dirs = ( \"{root}/temporary\" )
        server.stream-request-body = 0
        mimetype.assign = ( \"\" => \"text/plain\" )
        "
    );
    let file = folder.join("lighttpd.conf");
    fs::write(&file, text)?;
    let lighttpd = debian("lighttpd", &["lighttpd"])?;
    let modules = lighttpd.file("usr/lib/lighttpd")?;
    Ok(
        Setup::new("lighttpd", folder, lighttpd.file("usr/sbin/lighttpd")?)
            .env("LD_LIBRARY_PATH", lighttpd.libraries())
            .args([
                "-D".as_ref(),
                "-f".as_ref(),
                file.as_os_str(),
                "-m".as_ref(),
                modules.as_os_str(),
            ]),
    )
}

fn apache(folder: &Path, port: u16, asks: &[&Ask]) -> Result<Setup> {
    apache_that(folder, port, asks, &[], "")
}

/// Changes to HTTP/2 where it is asked to.
pub fn apache_h2c(folder: &Path, port: u16, asks: &[&Ask]) -> Result<Setup> {
    apache_that(folder, port, asks, &["http2"], "Protocols h2c http/1.1")
}

/// Apache with further modules and lines of configuration.
pub fn apache_that(
    folder: &Path,
    port: u16,
    asks: &[&Ask],
    modules: &[&str],
    more: &str,
) -> Result<Setup> {
    let root = www(folder, asks)?;
    let apache = debian("apache", &["apache2-bin"])?;
    let modules: String = [&["mpm_event", "authz_core", "dir", "mime"][..], modules]
        .concat()
        .iter()
        .map(|name| format!("LoadModule {name}_module usr/lib/apache2/modules/mod_{name}.so\n"))
        .collect();
    let place = folder.display();
    fs::write(folder.join("mime.types"), "text/plain txt\n")?;
    let text = format!(
        "{modules}
        Listen 127.0.0.1:{port}
        ServerName localhost
        PidFile {place}/apache.pid
        DefaultRuntimeDir {place}
        ErrorLog {place}/apache-error.log
        TypesConfig {place}/mime.types
        DocumentRoot {root}
        KeepAliveTimeout 75
        MaxKeepAliveRequests 0
        EnableSendfile On
        {more}
        <Directory {root}>
            Require all granted
        </Directory>
        "
    );
    let file = folder.join("apache.conf");
    fs::write(&file, text)?;
    let binary = apache.file("usr/sbin/apache2")?;
    let place = apache.file("/")?;
    Ok(Setup::new("apache", folder, binary)
        .env("LD_LIBRARY_PATH", apache.libraries())
        .args(["-D", "FOREGROUND", "-d"])
        .args([place.as_os_str(), "-f".as_ref(), file.as_os_str()]))
}

fn python_http(folder: &Path, port: u16, asks: &[&Ask]) -> Result<Setup> {
    let root = www(folder, asks)?;
    let words = [
        "-m",
        "http.server",
        "--bind",
        "127.0.0.1",
        "--protocol",
        "HTTP/1.1",
        "--directory",
    ];
    Ok(
        Setup::new("python-http", folder, install::python()?.join("python"))
            .env("OTEL_SERVICE_NAME", "python-http")
            .args(words)
            .args([root, port.to_string()]),
    )
}

/// A Flask application under gunicorn.
pub fn gunicorn(folder: &Path, port: u16, name: &str, words: &[&str]) -> Result<Setup> {
    flask(folder, port, name, words, "")
}

/// Flask under gunicorn; `peer` is whom `/call` asks.
pub fn flask(folder: &Path, port: u16, name: &str, words: &[&str], peer: &str) -> Result<Setup> {
    let (file, _) = install::app("python/flask_app.py")?;
    let place = file.parent().unwrap_or(folder);
    Ok(
        Setup::new(name, folder, install::python()?.join("gunicorn"))
            .env("OTEL_SERVICE_NAME", name)
            .env("PEER", peer)
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .args([
                "--bind",
                &format!("127.0.0.1:{port}"),
                "--worker-tmp-dir",
                "/dev/shm",
            ])
            .args([
                "--no-control-socket",
                "--chdir".as_ref(),
                &place.to_string_lossy().into_owned(),
            ])
            .args(words)
            .arg("flask_app:app"),
    )
}

/// A server on aiohttp.
pub fn aiohttp(folder: &Path, port: u16, peer: &str) -> Result<Setup> {
    let (file, _) = install::app("python/aio_server.py")?;
    Ok(
        Setup::new("aiohttp", folder, install::python()?.join("python"))
            .arg(file)
            .args([&port.to_string(), peer]),
    )
}

/// One of Node's scripts as a server.
pub fn node(folder: &Path, script: &str, port: u16, peer: &str) -> Result<Setup> {
    let place = install::node()?;
    Ok(Setup::new("node", folder, "node")
        .arg(place.join(script))
        .args([&port.to_string(), peer]))
}

/// A server on Go's net/http.
pub fn go_server(folder: &Path, port: u16) -> Result<Setup> {
    go_calling(folder, port, "")
}

/// The same; `peer` is whom `/call` asks.
pub fn go_calling(folder: &Path, port: u16, peer: &str) -> Result<Setup> {
    Ok(Setup::new("go-app", folder, install::go()?).args(["server", &port.to_string(), peer]))
}

fn java(folder: &Path, name: &str, path: &str, class: &str, port: u16) -> Result<Setup> {
    Ok(Setup::new(name, folder, "java")
        .env("OTEL_SERVICE_NAME", name)
        .args([
            "-Xmx256m",
            "-XX:TieredStopAtLevel=1",
            "-XX:+UseSerialGC",
            "-cp",
            path,
            class,
        ])
        .arg(port.to_string()))
}

/// A client of `apps/python`.
pub fn python_client(folder: &Path, script: &str, base: &str) -> Result<Setup> {
    let (file, _) = install::app(&format!("python/{script}"))?;
    Ok(
        Setup::new("python-client", folder, install::python()?.join("python"))
            .arg(file)
            .arg(base),
    )
}

/// The client on Node, by one of its libraries.
pub fn node_client(folder: &Path, kind: &str, base: &str) -> Result<Setup> {
    let script = install::node()?.join("client.js");
    Ok(Setup::new("node-client", folder, "node")
        .arg(script)
        .args([kind, base]))
}

fn jdk_client(folder: &Path, base: &str, version: &str) -> Result<Setup> {
    let classes = install::java()?.display().to_string();
    let words = [
        "-Xmx256m",
        "-XX:TieredStopAtLevel=1",
        "-XX:+UseSerialGC",
        "-cp",
        &classes,
        "JdkClient",
        base,
    ];
    let setup = Setup::new("jdk-client", folder, "java")
        .env("OTEL_SERVICE_NAME", "jdk-client")
        .args(words);
    Ok(if version.is_empty() {
        setup
    } else {
        setup.arg(version)
    })
}

/// The exchange between a proxy and what is behind it, made of the one in front of it.
pub fn passed_on(one: &Known, port: u16, front: &Party, back: &Party) -> Known {
    let mut next = one.clone();
    next.port = port;
    next.client_port = None;
    next.client = Some(front.clone());
    next.server = Some(back.clone());
    next.origin = Origin::Any;
    // A proxy may frame bodies anew.
    for size in [&mut next.sent, &mut next.received] {
        if let Size::Framed(low, high) = *size {
            *size = Size::Framed(low, high + low / 64 + 64);
        }
    }
    next
}
