//! spantap, the agent: the modules below are the data's way, in its order.
//!
//! ```text
//! kernel ─ probe → event → connection → protocol → exchange → trace → span → policy → export
//!          target ┘ (what to attach)     resource (whose span it is) ┘
//! ```
//!
//! A stage may name the stages before it and none after it; `cargo xtask tidy` refuses the rest.
//! `config`, `say` and `stats` may be named by all, `courtesy` by `target`; `serve` tells others of counters and
//! health; `pipeline` and `ui` are where the stages meet.

#![warn(clippy::print_stderr, clippy::print_stdout)]

pub mod config;
pub mod courtesy;
pub mod say;
pub mod stats;

pub mod probe;

pub mod event;

pub mod connection;

pub mod protocol;

pub mod exchange;

pub mod trace;

pub mod span;

pub mod policy;

pub mod export;

pub mod kubernetes;

pub mod target;

pub mod resource;

pub mod serve;

pub mod pipeline;

pub mod ui;
