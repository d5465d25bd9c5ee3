//! OpenSSL 1.1 and 3, and BoringSSL with its symbols: libssl, or a program or library that holds it.
//!
//! The functions and their results are those of SSL_read(3), SSL_write(3), SSL_read_early_data(3)
//! and SSL_free(3); the `ex` forms give 1 or 0, and the count through their last argument.
//! SSL_read_early_data gives 1 for bytes, 2 for the end of them. SSL_peek is not a read: what it
//! shows is read later. SSL_sendfile has no bytes of the program's to show.

use super::named::{self, Known};
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

const FUNCTIONS: [Known; 8] = [
    write("SSL_write"),
    write("SSL_write_ex"),
    write("SSL_write_ex2"),
    write("SSL_write_early_data"),
    Known {
        name: "SSL_read",
        hook: Hook::Read,
        done: Some(Hook::ReadDone),
    },
    read_ex("SSL_read_ex"),
    read_ex("SSL_read_early_data"),
    Known {
        name: "SSL_free",
        hook: Hook::Free,
        done: None,
    },
];

const fn write(name: &'static str) -> Known {
    Known {
        name,
        hook: Hook::Write,
        done: None,
    }
}

const fn read_ex(name: &'static str) -> Known {
    Known {
        name,
        hook: Hook::Read,
        done: Some(Hook::ReadExDone),
    }
}
