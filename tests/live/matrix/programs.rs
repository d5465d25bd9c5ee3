//! The programs that speak TLS, each with the library its language has for it, and how they are
//! told which certificates to use: by the environment, as an operator would, and in no other way.

use std::fs;
use std::path::Path;

use anyhow::Result;
use spantap_tests::certificates::Certificates;
use spantap_tests::install::{self, tool};
use spantap_tests::known::Ask;
use spantap_tests::program::Setup;

use crate::programs::{
    HYPER, aiohttp, go_server, gunicorn, nginx_at, nginx_with, node, node_client, python_client,
};

/// A server.
pub struct Server {
    /// Name of its cases.
    pub name: &'static str,
    /// Its `service.name`.
    pub service: &'static str,
    /// Whether it speaks HTTP/2 as well.
    pub two: bool,
    /// Whether it may answer a POST before it has read the body.
    pub early: bool,
    /// How it is started.
    pub setup: fn(&Place<'_>) -> Result<Setup>,
}

/// Where a server is to be.
pub struct Place<'a> {
    /// The case's folder.
    pub folder: &'a Path,
    /// Its port.
    pub port: u16,
    /// A port of its own behind it, for a proxy.
    pub behind: u16,
    /// Whether it is to speak HTTP/2.
    pub two: bool,
    /// What it will be asked.
    pub asks: &'a [Ask],
    /// What it shows.
    pub certificates: &'a Certificates,
}

const fn server(name: &'static str, setup: fn(&Place<'_>) -> Result<Setup>) -> Server {
    Server {
        name,
        service: name,
        two: true,
        early: false,
        setup,
    }
}

/// The one that clients are tried on.
pub const NGINX: Server = Server {
    early: true,
    ..server("nginx", nginx)
};

/// The others.
pub const SERVERS: &[Server] = &[
    server("node", |place| {
        let kind = if place.two { "h2" } else { "http" };
        node(place.folder, "http.js", place.port, "").map(|setup| setup.arg(kind))
    }),
    server("go", |place| go_server(place.folder, place.port)),
    server("hyper", |place| {
        let kind = if place.two { "server2" } else { "server" };
        Ok(Setup::new("hyper", place.folder, HYPER).args([kind, &place.port.to_string()]))
    }),
    Server {
        two: false,
        ..server("aiohttp", |place| aiohttp(place.folder, place.port, ""))
    },
    Server {
        two: false,
        ..server("gunicorn", |place| {
            let own = place.certificates;
            let [certificate, key] = [&own.server, &own.server_key].map(|file| file.display());
            let words = [
                "--threads=4",
                "--keep-alive=75",
                &format!("--certfile={certificate}"),
                &format!("--keyfile={key}"),
            ];
            gunicorn(place.folder, place.port, "gunicorn", &words)
        })
    },
    server("hypercorn", hypercorn),
];

/// nginx in front of a Go server: TLS on both sides of it.
pub const PROXY: Server = Server {
    service: "nginx",
    early: true,
    ..server("nginx-proxy", proxy)
};

/// A client.
pub struct Client {
    /// Name of its cases, and its `service.name`.
    pub name: &'static str,
    /// Whether it speaks HTTP/2 as well.
    pub two: bool,
    /// How it is run.
    pub how: How,
}

/// How a client is run.
pub enum How {
    /// It takes requests line by line: its folder, the base of all URLs, whether by HTTP/2.
    Lines(fn(&Path, &str, bool) -> Result<Setup>),
    /// It takes a list of URLs and ends: its folder, the list, the authority, whether by HTTP/2.
    Once(fn(&Path, &[String], &Certificates, bool) -> Result<Setup>),
}

const fn client(name: &'static str, how: fn(&Path, &str, bool) -> Result<Setup>) -> Client {
    Client {
        name,
        two: true,
        how: How::Lines(how),
    }
}

/// The one that servers are tried with.
pub const HTTPX: Client = client("httpx", |folder, base, two| {
    python_client(folder, "client_httpx.py", base).map(|setup| setup.args(two.then_some("h2")))
});

/// The others.
pub const CLIENTS: &[Client] = &[
    Client {
        name: "curl",
        two: true,
        how: How::Once(curl),
    },
    Client {
        name: "wget",
        two: false,
        how: How::Once(wget),
    },
    Client {
        two: false,
        ..client("requests", |folder, base, _| {
            python_client(folder, "client_requests.py", base)
        })
    },
    AIOHTTP,
    NODE,
    GO,
    client("reqwest", |folder, base, two| {
        let kind = if two { "client2" } else { "client" };
        Ok(Setup::new("reqwest", folder, HYPER).args([kind, base]))
    }),
];

/// Go's net/http.
pub const GO: Client = client("go", |folder, base, two| {
    Ok(Setup::new("go-client", folder, install::go()?)
        .args(["client", base])
        .env("GODEBUG", if two { "" } else { "http2client=0" }))
});

/// A client whose TLS library sees no socket: asyncio hands it bytes.
pub const AIOHTTP: Client = Client {
    two: false,
    ..client("aiohttp", |folder, base, _| {
        python_client(folder, "client_aiohttp.py", base)
    })
};

/// Another: Node's reads and writes are its event loop's.
pub const NODE: Client = client("node", |folder, base, two| {
    node_client(folder, if two { "h2" } else { "http" }, base)
});

/// Makes a server show a certificate, and gives it its name.
pub fn showing(setup: Setup, name: &str, certificates: &Certificates) -> Setup {
    named(setup, name)
        .env("TLS_CERT", &certificates.server)
        .env("TLS_KEY", &certificates.server_key)
}

/// Makes a client trust the authority, and gives it its name.
pub fn trusting(setup: Setup, name: &str, certificates: &Certificates) -> Setup {
    let variables = ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS"];
    variables
        .iter()
        .fold(named(setup, name), |setup, variable| {
            setup.env(variable, &certificates.authority)
        })
}

fn named(setup: Setup, name: &str) -> Setup {
    setup.env("OTEL_SERVICE_NAME", name)
}

/// nginx's directives for a port of TLS, for both versions of HTTP.
pub fn listen(address: &str, port: u16) -> String {
    format!("listen {address}:{port} ssl http2;\n")
}

/// nginx's directives for what it shows.
pub fn shown(certificates: &Certificates) -> String {
    let [certificate, key] =
        [&certificates.server, &certificates.server_key].map(|file| file.display());
    format!("ssl_certificate {certificate};\nssl_certificate_key {key};\n")
}

fn nginx(place: &Place<'_>) -> Result<Setup> {
    let listen = listen("127.0.0.1", place.port) + &shown(place.certificates);
    nginx_at(
        place.folder,
        &listen,
        &place.asks.iter().collect::<Vec<_>>(),
    )
}

fn proxy(place: &Place<'_>) -> Result<Setup> {
    let listen = listen("127.0.0.1", place.port) + &shown(place.certificates);
    let (behind, authority) = (place.behind, place.certificates.authority.display());
    let server = format!(
        "upstream behind {{ server 127.0.0.1:{behind}; keepalive 8; }}
        server {{
            {listen}
            location / {{
                proxy_pass https://behind;
                proxy_http_version 1.1;
                proxy_ssl_trusted_certificate {authority};
                proxy_ssl_verify on;
                proxy_ssl_server_name on;
                proxy_ssl_name localhost;
                proxy_set_header Connection \"\";
                proxy_set_header Host localhost:{behind};
            }}
        }}"
    );
    nginx_with(place.folder, &server)
}

fn hypercorn(place: &Place<'_>) -> Result<Setup> {
    let (file, _) = install::app("python/asgi_app.py")?;
    let program = install::python()?.join("hypercorn");
    Ok(Setup::new("hypercorn", place.folder, program)
        .inside(file.parent().unwrap_or(place.folder))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .args(["--bind", &format!("127.0.0.1:{}", place.port)])
        .args([
            "--certfile".as_ref(),
            place.certificates.server.as_os_str(),
            "--keyfile".as_ref(),
            place.certificates.server_key.as_os_str(),
            "asgi_app:app".as_ref(),
        ]))
}

/// One process, one connection; it writes the statuses, a line each.
fn curl(folder: &Path, urls: &[String], own: &Certificates, two: bool) -> Result<Setup> {
    let version = if two { "http2" } else { "http1.1" };
    let authority = own.authority.display();
    let mut text =
        format!("silent\n{version}\ncacert = \"{authority}\"\nwrite-out = \"%{{http_code}}\\n\"\n");
    for url in urls {
        text += &format!("url = \"{url}\"\noutput = \"/dev/null\"\n");
    }
    let file = folder.join("curl.conf");
    fs::write(&file, text)?;
    Ok(Setup::new("curl", folder, tool("curl", &["curl"])?)
        .args(["--config".as_ref(), file.as_os_str()]))
}

/// One process, one connection while statuses are good; it writes the heads it gets.
fn wget(folder: &Path, urls: &[String], own: &Certificates, _: bool) -> Result<Setup> {
    let file = folder.join("urls");
    fs::write(&file, urls.join("\n"))?;
    let authority = own.authority.display();
    let list = file.display();
    Ok(Setup::new("wget", folder, tool("wget", &["wget"])?).args([
        "--no-verbose",
        "--server-response",
        "--output-file=/dev/stdout",
        "--output-document=/dev/null",
        &format!("--ca-certificate={authority}"),
        &format!("--input-file={list}"),
    ]))
}
