//! Where uvloop, an event loop for asyncio, says what it calls back for: it reads outside of any context
//! (`super::python`), and then calls back in one that all connections of a server share.
//!
//! Both functions are exported by the loop's module, so programs that are stripped have them, too:
//! `Context_Enter` is uvloop's own (includes/compat.h), through which it enters every context;
//! `uv_tcp_getpeername` is of the libuv in it, and called once for each connection, right before its
//! protocol is told that it is connected (handles/tcp.pyx). The same from 0.17 to 0.23.

use super::code::{self, Register};
use super::image::Image;
use super::python::is_musl;
use super::tls::{Hook, Site};

/// The places in uvloop's module. `None`: it is another file. `Err`: they are not to be had, and why.
pub fn find(image: &Image) -> Option<Result<Vec<Site>, &'static str>> {
    let found = image.functions(&[ENTERS, CONNECTED, "PyInit_loop"]);
    let &[Some(enters), connected, Some(_)] = found.as_slice() else {
        return None;
    };
    // There no context is known, and its callbacks are not worth a probe.
    if is_musl(image) {
        return Some(Err("a uvloop for musl"));
    }
    let Some(connected) = connected else {
        return Some(Err("a uvloop whose libuv is another file"));
    };
    let site = |function, hook| {
        let place = code::entry(&image.body_of(function)?, &[Register::RDI])?;
        Site::at(image, place, hook)
    };
    let sites: Option<Vec<_>> = [
        site(enters, Hook::UvloopEnter),
        site(connected, Hook::UvloopConnected),
    ]
    .into_iter()
    .collect();
    Some(sites.ok_or("a uvloop whose code cannot be read"))
}

const ENTERS: &str = "Context_Enter";
const CONNECTED: &str = "uv_tcp_getpeername";

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    /// Where the live tests or a user have installed it:
    /// `UVLOOPS=.../uvloop/loop.cpython-311-x86_64-linux-gnu.so:... cargo test -- uvloop`
    #[test]
    fn places_in_other_loops() {
        let paths = std::env::var("UVLOOPS").unwrap_or_default();
        for path in paths.split(':').filter(|path| !path.is_empty()) {
            let image = Image::open(File::open(path).unwrap()).unwrap();
            let sites = find(&image).unwrap().unwrap();
            let hooks = sites.iter().map(|site| (site.hook, site.stepped));
            let hooks: Vec<_> = hooks.collect();
            let cheap = [(Hook::UvloopEnter, false), (Hook::UvloopConnected, false)];
            assert_eq!(hooks, cheap, "{path}");
        }
    }

    #[test]
    fn what_is_no_uvloop() {
        let own = Image::open(File::open("/proc/self/exe").unwrap()).unwrap();
        assert_eq!(find(&own), None);
    }
}
