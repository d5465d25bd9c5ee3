//! OpenSSL's memory BIOs, for programs that decrypt apart from their sockets: what is put into a BIO
//! is what a socket gave. In libcrypto, or where OpenSSL is inside a program. To be attached only
//! where such a program is met.

use super::named::{self, Known};
use super::{Hook, Library, Plan, Reason};
use crate::target::image::Image;

/// The line of the registry.
pub const LIBRARY: &dyn Library = &Bio;

struct Bio;

impl Library for Bio {
    fn name(&self) -> &'static str {
        "openssl-bio"
    }

    fn plan(&self, image: &Image) -> Option<Result<Plan, Reason>> {
        named::plan(image, self.name(), &FUNCTIONS)
    }
}

const FUNCTIONS: [Known; 2] = [write("BIO_write"), write("BIO_write_ex")];

const fn write(name: &'static str) -> Known {
    Known {
        name,
        hook: Hook::BioWrite,
        done: None,
    }
}
