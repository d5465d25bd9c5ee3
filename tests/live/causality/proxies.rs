//! Proxies: of a request that they hand on, what is asked is the call. And PHP, which nginx hands requests
//! on to, and whose processes serve one at a time.

use std::fs;
use std::path::Path;

use anyhow::Result;
use spantap_tests::program::Setup;
use spantap_tests::{agent, install};

use super::{Behind, DIRECT, Front, REDIS, SLEEP, SQL, Shape, shape};
use crate::programs::nginx_with;

/// What is handed on has the path of its request; or all have the same, and are told apart by cookies or
/// by nothing.
const SHAPES: &[Shape] = &[
    shape("own", 1, Behind::Leaf),
    shape("cookies", 1, Behind::Leaf),
    shape("same", 1, Behind::Leaf),
];

pub(super) const FRONTS: &[Front] = &[
    Front {
        at_once: &[1, 8, 32, 64],
        ..NGINX
    },
    Front {
        runtime: "nginx-close",
        program: |folder| nginx(folder, ""),
        ..NGINX
    },
    Front {
        runtime: "haproxy",
        program: haproxy,
        ..NGINX
    },
    Front {
        runtime: "nginx-off",
        agent: |agent| agent.args(["--link-forwarded=false"]),
        shapes: &[shape("own", 1, Behind::Leaf)],
        at_once: &[32],
        ..NGINX
    },
    Front {
        runtime: "php-fpm",
        program: php,
        agent: agent::Setup::forwarded,
        shapes: &[
            asked_by_nginx(DIRECT),
            asked_by_nginx(SLEEP),
            asked_by_nginx(REDIS),
            asked_by_nginx(SQL),
            // nginx's own call, by FastCGI.
            Shape {
                requests: 2,
                ..shape("own", 1, Behind::Leaf)
            },
        ],
        at_once: &[1, 8, 32],
    },
];

pub(super) const NGINX: Front = Front {
    runtime: "nginx",
    program: |folder| {
        let kept = "proxy_http_version 1.1; proxy_set_header Connection \"\";";
        nginx(folder, kept)
    },
    agent: agent::Setup::forwarded,
    shapes: SHAPES,
    at_once: &[8, 32],
};

pub(super) const RIGHT: &[(&str, f64)] = &[
    ("nginx::own", 99.0),
    ("nginx::cookies", 99.0),
    ("nginx::same::1", 99.0),
    ("nginx-close::own", 99.0),
    ("nginx-close::cookies", 99.0),
    ("haproxy::own", 99.0),
    ("haproxy::cookies", 99.0),
    ("php-fpm", 99.0),
];

pub(super) const NONE: &[&str] = &["nginx-off"];

const fn asked_by_nginx(shape: Shape) -> Shape {
    Shape {
        requests: 2,
        between: 1,
        ..shape
    }
}

/// `sh`, which puts the ports where their names stand in the configuration, and goes on with `then`.
fn with_ports(folder: &Path, then: &str) -> Setup {
    let put = "s/@PORT/$1/g;s/@LEAF/$2/g;s/@REDIS/$3/g;s/@POSTGRES/$4/g";
    let script = format!("set -e; sed -i \"{put}\" *.conf; {then}");
    Setup::new("front", folder, "sh").args(["-c", &script, "sh"])
}

fn nginx(folder: &Path, kept: &str) -> Result<Setup> {
    let location = format!("proxy_pass http://behind; {kept}");
    let servers = "server 127.0.0.1:@LEAF; keepalive 8;";
    nginx_in_front(folder, servers, &location, "")
}

/// nginx, that asks these servers in this way; `first` something else is begun.
fn nginx_in_front(folder: &Path, servers: &str, location: &str, first: &str) -> Result<Setup> {
    let server = format!(
        "upstream behind {{ {servers} }}
        server {{
            listen 127.0.0.1:@PORT;
            location / {{ {location} }}
        }}"
    );
    nginx_with(folder, &server)?;
    let nginx = install::debian("nginx", &["nginx"])?;
    let program = nginx.file("usr/sbin/nginx")?;
    let libraries = nginx.libraries();
    let then = format!(
        "{first} LD_LIBRARY_PATH={} exec {} -c $PWD/nginx.conf",
        libraries.display(),
        program.display()
    );
    Ok(with_ports(folder, &then))
}

fn haproxy(folder: &Path) -> Result<Setup> {
    let haproxy = install::debian("haproxy", &["haproxy"])?;
    let text = "defaults
    mode http
    timeout connect 5s
    timeout client 60s
    timeout server 60s
frontend front
    bind 127.0.0.1:@PORT
    default_backend behind
backend behind
    option forwardfor
    server leaf 127.0.0.1:@LEAF check
";
    fs::write(folder.join("haproxy.conf"), text)?;
    let program = haproxy.file("usr/sbin/haproxy")?;
    let then = format!("exec {} -db -f haproxy.conf", program.display());
    Ok(with_ports(folder, &then).env("LD_LIBRARY_PATH", haproxy.libraries()))
}

/// php-fpm behind nginx, each of its processes with connections of its own.
fn php(folder: &Path) -> Result<Setup> {
    let packages = ["php8.2-fpm", "php8.2-curl", "php8.2-pgsql", "php-redis"];
    let php = install::debian("php-fpm-calls", &packages)?;
    let extensions = php.file("usr/lib/php/20220829")?;
    let text = format!(
        "[global]\n\
        daemonize = no\n\
        error_log = {}/php-fpm.errors\n\
        [www]\n\
        listen = 127.0.0.2:@PORT\n\
        pm = static\n\
        pm.max_children = 8\n\
        php_admin_flag[log_errors] = on\n\
        php_admin_flag[display_errors] = off\n",
        folder.display()
    );
    fs::write(folder.join("php-fpm.conf"), text)?;
    let loaded: String = ["curl", "pdo", "pdo_pgsql", "igbinary", "redis"]
        .map(|name| format!(" -d extension={}/{name}.so", extensions.display()))
        .concat();
    // It begins a session of its own, which nobody ends but nginx's end.
    let begun = format!(
        "setpriv --pdeathsig TERM env LD_LIBRARY_PATH={} {} -n -R -F -y php-fpm.conf{loaded} &
        until grep -q ready php-fpm.errors; do sleep 0.1; done;",
        php.libraries().display(),
        php.file("usr/sbin/php-fpm8.2")?.display()
    );
    let (script, _) = install::app("causality/php/index.php")?;
    let params: String = [
        "REQUEST_METHOD $request_method",
        "REQUEST_URI $request_uri",
        "LEAF @LEAF",
        "REDIS @REDIS",
        "POSTGRES @POSTGRES",
    ]
    .map(|param| format!("fastcgi_param {param};\n"))
    .concat();
    let location = format!(
        "{params} fastcgi_param SCRIPT_FILENAME {}; fastcgi_pass behind;",
        script.display()
    );
    nginx_in_front(folder, "server 127.0.0.2:@PORT;", &location, &begun)
}
