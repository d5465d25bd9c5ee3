//! pipeline

pub mod shard;
