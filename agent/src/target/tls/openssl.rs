//! OpenSSL 1.1 and 3, and BoringSSL with its symbols: libssl, or a program or library that holds it.
//!
//! The functions and their results are those of SSL_read(3), SSL_write(3), SSL_read_early_data(3)
//! and SSL_free(3); the `ex` forms give 1 or 0, and the count through their last argument.
//! SSL_read_early_data gives 1 for bytes, 2 for the end of them. SSL_peek is not a read: what it
//! shows is read later. SSL_do_handshake(3) moves nothing of the program's, but a server that encrypts into
//! memory sends nothing else of a session before its first answer. SSL_sendfile has no bytes of the program's to show.

use super::named::{self, Known, known};
use super::{Hook, Library, Plan, Reason};
use crate::target::image::Image;

/// The line of the registry.
pub const LIBRARY: &dyn Library = &OpenSsl;

struct OpenSsl;

impl Library for OpenSsl {
    fn name(&self) -> &'static str {
        "openssl"
    }

    fn plan(&self, image: &Image) -> Option<Result<Plan, Reason>> {
        named::plan(image, self.name(), &FUNCTIONS)
    }
}

const FUNCTIONS: [Known; 11] = [
    known("SSL_write", Hook::Write, Some(Hook::Done)),
    known("SSL_write_ex", Hook::Write, Some(Hook::DoneEx)),
    known("SSL_write_ex2", Hook::WriteEx2, Some(Hook::DoneEx)),
    known("SSL_write_early_data", Hook::Write, Some(Hook::DoneEx)).seldom(),
    known("SSL_read", Hook::Read, Some(Hook::Done)),
    known("SSL_read_ex", Hook::Read, Some(Hook::DoneEx)),
    known("SSL_read_early_data", Hook::Read, Some(Hook::DoneEx)).seldom(),
    known("SSL_set_connect_state", Hook::Begin, None),
    known("SSL_set_accept_state", Hook::Begin, None),
    known("SSL_do_handshake", Hook::Handshake, None).seldom(),
    known("SSL_free", Hook::Free, None),
];
