//! Harness of the live tests: real programs, none of them ours, traced by the real agent on the
//! running kernel, judged by what an OpenTelemetry backend receives.
//!
//! A case starts programs ([`Program`], [`Client`], [`Driver`]), an [`Agent`] and a [`Sink`], sends
//! a known set of requests ([`Known`]), and asks [`expect`] whether exactly their spans arrived.
//! Nothing here knows how the agent works: it is a command with flags, and spans come out.

pub mod agent;
pub mod cause;
pub mod certificates;
pub mod client;
pub mod deed;
pub mod driver;
pub mod expect;
pub mod hop;
pub mod hosts;
pub mod install;
pub mod known;
pub mod node;
pub mod process;
pub mod program;
pub mod report;
pub mod run;
pub mod sink;
pub mod span;

pub use agent::Agent;
pub use client::Client;
pub use deed::{Deed, Doers};
pub use driver::Driver;
pub use known::{Known, Party};
pub use node::Node;
pub use program::Program;
pub use run::{Case, Stage};
pub use sink::Sink;
pub use span::{Kind, Span};
