//! placeholder
use std::sync::Arc;
/// c
pub enum Command { /// m
 Mute(crate::event::ConnectionId) }
/// s
pub struct Shard;
impl Shard {
 /// n
 pub fn new(_: usize, _: &crate::config::Config, _: Arc<crate::stats::Stats>) -> Self { Shard }
 /// f
 pub fn feed(&mut self, _: &crate::event::Event<'_>, _: &mut Vec<crate::exchange::Fact>, _: &mut Vec<Command>) {}
 /// t
 pub fn tick(&mut self, _: u64, _: &mut Vec<crate::exchange::Fact>) {}
}
