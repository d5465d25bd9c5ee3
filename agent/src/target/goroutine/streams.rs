//! Where Go's servers of HTTP/2 begin to serve a stream, and where grpc-go's clients have asked for one.
//!
//! Those of net/http and of golang.org/x/net/http2 have the same members at the same places
//! (`serverConn.conn` at 16, `responseWriter.rws` at 0, `responseWriterState.stream` at 0, `stream.id` at
//! 8), but for `conn`, which is at 24 in net/http/internal/http2 (Go 1.27). grpc-go's have moved; where they
//! are says the program's DWARF.
//!
//! Never true here: that grpc-go's are taken to be anywhere but where that says.

use agent_ebpf::abi::{Place, Streams};

use super::dwarf;
use crate::target::go::Code;
use crate::target::image::{Function, Image};
use crate::target::pclntab::Table;
use crate::target::tls::{Hook, Site};

/// What a program has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Where to probe.
    pub sites: Vec<Site>,
    /// How far in memory code is from where it is in the file.
    pub shift: u64,
    /// Address of `net.(*TCPConn).Close`.
    pub tcp: Option<u64>,
    /// Of `crypto/tls.(*Conn).Close`.
    pub tls: Option<u64>,
    /// Of `Close` of what holds another connection: grpc-go's `credentials.(*syscallConn)`, x/net's
    /// `h2c.(*bufConn)`.
    pub wrapped: [Option<u64>; 2],
    /// Of grpc-go's `transport.(*http2Server).Close`.
    pub server: Option<u64>,
    /// The offsets alone.
    pub layout: Streams,
    /// Why grpc-go's streams are not seen, where there are such.
    pub no_grpc: Option<&'static str>,
}

/// That. `None`: it has no such server nor client. `Err`: it has, and it cannot be probed.
pub fn find(image: &Image) -> Option<Result<Found, &'static str>> {
    let found = Table::find(image)?.and_then(|table| table.functions(&FUNCTIONS));
    let found = match found {
        Ok(found) => found,
        Err(why) => return Some(Err(why)),
    };
    let &[
        own,
        inner,
        module,
        serve,
        ask,
        write,
        tcp,
        tls,
        wrapped,
        buffered,
        server,
    ] = found.as_slice()
    else {
        return None;
    };
    let first = [own, inner, module, serve, ask]
        .into_iter()
        .flatten()
        .next()?;
    let read = || {
        let mut sites = Vec::new();
        let serves = [
            (own, Hook::GoHttp2Serve),
            (inner, Hook::GoHttp2ServeInner),
            (module, Hook::GoHttp2Serve),
        ];
        for (function, hook) in serves {
            if let Some(function) = function {
                sites.push(site(hook, entry(image, function)?));
            }
        }
        if let Some(write) = write {
            sites.push(site(Hook::GoGrpcWrite, entry(image, write)?));
        }
        let layout = match serve.or(ask) {
            Some(_) => members(image),
            None => None,
        };
        if layout.is_some() {
            if let Some(serve) = serve {
                sites.push(site(Hook::GoGrpcServe, entry(image, serve)?));
            }
            if let Some(ask) = ask {
                sites.extend(returns(image, ask)?);
            }
        }
        let address = |function: Option<Function>| function.map(|function| function.address);
        let at = Code::of(image, first)?.offset(first.address)?;
        Ok(Found {
            sites,
            shift: first.address.wrapping_sub(at),
            tcp: address(tcp),
            tls: address(tls),
            wrapped: [address(wrapped), address(buffered)],
            server: address(server),
            layout: layout.unwrap_or_default(),
            no_grpc: serve.or(ask).filter(|_| layout.is_none()).map(|_| UNTOLD),
        })
    };
    Some(read())
}

fn entry(image: &Image, function: Function) -> Result<u64, &'static str> {
    Code::of(image, function)?.entry()
}

/// Every return of a function: its results are in registers there, the goroutine's as ever.
fn returns(image: &Image, function: Function) -> Result<Vec<Site>, &'static str> {
    let code = Code::of(image, function)?;
    let returns = code.instructions().filter(|i| i.code() == RETURN);
    let sites = returns.map(|i| {
        Ok(Site {
            stepped: true,
            ..site(Hook::GoGrpcAsk, code.offset(i.ip())?)
        })
    });
    sites.collect()
}

fn site(hook: Hook, offset: u64) -> Site {
    Site {
        offset,
        hook,
        stepped: false,
    }
}

/// Where grpc-go's members are. `None`: the program does not say.
fn members(image: &Image) -> Option<Streams> {
    let found = dwarf::members(image, &MEMBERS)?;
    let &[
        server_conn,
        client_conn,
        id,
        old_client,
        served,
        behind_served,
        asked,
        client,
    ] = found.as_slice()
    else {
        return None;
    };
    // Before 1.69 both sides have the same structure; then one holds its address, and, later, itself.
    let place = |outer: Option<u32>, next: Option<u32>| {
        let id = id?;
        Some(match (outer, next) {
            (None, _) => Place {
                offset: id,
                behind: 0,
            },
            (Some(0), Some(ADDRESS)) => Place {
                offset: id,
                behind: 1,
            },
            (Some(outer), _) => Place {
                offset: outer.checked_add(id)?,
                behind: 0,
            },
        })
    };
    Some(Streams {
        server_conn: server_conn.unwrap_or_default(),
        client_conn: client_conn.unwrap_or_default(),
        served: place(served, behind_served)?,
        asked: place(asked, client)?,
        client: client.or(old_client).unwrap_or_default(),
        ..Streams::default()
    })
}

/// Of what is not there, none: `http2Server` is in programs that serve, `http2Client` in those that ask.
const MEMBERS: [(&str, &str); 8] = [
    (
        "google.golang.org/grpc/internal/transport.http2Server",
        "conn",
    ),
    (
        "google.golang.org/grpc/internal/transport.http2Client",
        "conn",
    ),
    ("google.golang.org/grpc/internal/transport.Stream", "id"),
    ("google.golang.org/grpc/internal/transport.Stream", "ct"),
    (
        "google.golang.org/grpc/internal/transport.ServerStream",
        "Stream",
    ),
    (
        "google.golang.org/grpc/internal/transport.ServerStream",
        "st",
    ),
    (
        "google.golang.org/grpc/internal/transport.ClientStream",
        "Stream",
    ),
    (
        "google.golang.org/grpc/internal/transport.ClientStream",
        "ct",
    ),
];
const UNTOLD: &str =
    "those by gRPC and for it, as it has no DWARF that says where grpc-go keeps streams";
const ADDRESS: u32 = 8;
const RETURN: iced_x86::Code = iced_x86::Code::Retnq;

/// What serves a stream in net/http, there as a package of its own, in the module and in grpc-go; what asks
/// and what writes there; and what tells a connection's type.
const FUNCTIONS: [&str; 11] = [
    "net/http.(*http2serverConn).runHandler",
    "net/http/internal/http2.(*serverConn).runHandler",
    "golang.org/x/net/http2.(*serverConn).runHandler",
    "google.golang.org/grpc.(*Server).handleStream",
    "google.golang.org/grpc/internal/transport.(*http2Client).NewStream",
    "google.golang.org/grpc/internal/transport.(*loopyWriter).run",
    "net.(*TCPConn).Close",
    "crypto/tls.(*Conn).Close",
    "google.golang.org/grpc/internal/credentials.(*syscallConn).Close",
    "golang.org/x/net/http2/h2c.(*bufConn).Close",
    "google.golang.org/grpc/internal/transport.(*http2Server).Close",
];

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;
    use crate::target::fixture::go;

    #[test]
    fn of_net_http() {
        for flags in go::FLAGS {
            let program = "package main
                import \"net/http\"
                func main() { http.ListenAndServe(\"\", nil) }
                ";
            let Some(file) = go::build_of(program, flags) else {
                return;
            };
            let image = Image::open(file).unwrap();
            let found = find(&image).unwrap().unwrap();
            let hooks: Vec<Hook> = found.sites.iter().map(|site| site.hook).collect();
            let [hook] = hooks[..] else {
                panic!("{hooks:?}");
            };
            // It is another package's from Go 1.27 on.
            let (name, conn) = match hook {
                Hook::GoHttp2ServeInner => ("net/http/internal/http2.serverConn", 24),
                _ => ("net/http.http2serverConn", 16),
            };
            let stripped = flags.contains(&"-ldflags=-s -w");
            let told = dwarf::members(&image, &[(name, "conn")]).map(|told| told[0]);
            assert_eq!(told, (!stripped).then_some(Some(conn)));
            assert!(found.tcp.is_some() && found.tls.is_some() && found.tcp != found.tls);
            assert_eq!((found.wrapped, found.server), ([None; 2], None));
            assert_eq!((found.layout, found.no_grpc), (Streams::default(), None));
        }
    }

    #[test]
    fn without_any() {
        let own = Image::open(File::open("/proc/self/exe").unwrap()).unwrap();
        assert_eq!(find(&own), None);
        let Some(file) = go::build_of("package main\nfunc main() {}\n", &[]) else {
            return;
        };
        assert_eq!(find(&Image::open(file).unwrap()), None);
    }

    /// `GO_PROGRAMS=/tmp/a:/tmp/b cargo test -- --ignored --nocapture of_grpc_go`: programs that serve and
    /// ask by grpc-go, of any version, with DWARF.
    #[test]
    #[ignore = "wants programs with grpc-go"]
    fn of_grpc_go() {
        let programs = std::env::var("GO_PROGRAMS").unwrap();
        for path in programs.split(':') {
            let found = find(&Image::open(File::open(path).unwrap()).unwrap());
            let found = found.unwrap().unwrap();
            println!("{path}: {:?}", found.layout);
            let has = |hook| found.sites.iter().any(|site| site.hook == hook);
            assert!(has(Hook::GoGrpcServe) && has(Hook::GoGrpcAsk) && has(Hook::GoGrpcWrite));
            assert!(found.wrapped[0].is_some() && found.server.is_some());
            assert_eq!(found.no_grpc, None);
        }
    }
}
