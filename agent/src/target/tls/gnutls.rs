//! GnuTLS: libgnutls.
//!
//! gnutls_record_send, where it only passes its arguments on to gnutls_record_send2 (3.6.3 and
//! later), is left out for it. Bytes of a corked session pass twice: when they are given, and with a
//! socket call inside when gnutls_record_uncork sends them. Left out: gnutls_record_recv_packet,
//! which gives a packet and no bytes, and gnutls_record_send_early_data, which only keeps them.

use super::named::{self, Known, known};
use super::{Hook, Library, Plan, Reason};
use crate::target::image::Image;

/// The line of the registry.
pub const LIBRARY: &dyn Library = &GnuTls;

struct GnuTls;

impl Library for GnuTls {
    fn name(&self) -> &'static str {
        "gnutls"
    }

    fn plan(&self, image: &Image) -> Option<Result<Plan, Reason>> {
        named::plan(image, self.name(), &FUNCTIONS)
    }
}

const FUNCTIONS: [Known; 8] = [
    known("gnutls_record_send", Hook::Write, Some(Hook::Done)),
    known("gnutls_record_send2", Hook::Write, Some(Hook::Done)),
    known("gnutls_record_send_range", Hook::Write, Some(Hook::Done)).seldom(),
    known("gnutls_record_recv", Hook::Read, Some(Hook::Done)),
    known("gnutls_record_recv_seq", Hook::Read, Some(Hook::Done)).seldom(),
    known(
        "gnutls_record_recv_early_data",
        Hook::Read,
        Some(Hook::Done),
    ),
    known("gnutls_handshake", Hook::BeginOnce, None),
    known("gnutls_deinit", Hook::Free, None),
];
