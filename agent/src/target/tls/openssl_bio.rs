//! OpenSSL's BIOs, for programs that encrypt apart from their sockets: what the library puts into a
//! BIO is what the program sends later. In libcrypto, or where OpenSSL is inside a program. To be
//! attached only where such a program is met.

use super::named::{self, Known, known};
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

const FUNCTIONS: [Known; 1] = [known("BIO_write", Hook::BioWrite, None)];
