//! One direction's bytes.
