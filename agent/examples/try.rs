//! scratch
use spantap::probe::*; use spantap::event::decode::decode; use spantap::event::*;
use std::time::{Duration,Instant};
fn main() -> anyhow::Result<()> {
    let mut capture = spantap::config::Capture::default();
    if std::env::args().nth(1).as_deref()==Some("syscall") { capture.path = spantap::config::CapturePath::Syscall; }
    let k = kernel::Kernel::look();
    println!("{} btf {} sock {} loop {} lockdown {} kprobes {} missing {:?} absent {:?}", k.release,k.btf,k.socket_tracepoints,k.bpf_loop,k.lockdown,k.kprobes,k.missing,k.absent_fields());
    let mut p = Probe::load(&capture, &k)?;
    let mut rings = p.rings()?;
    p.set_hot(true)?;
    println!("ready {:?}", p.path());
    let t=Instant::now();
    let secs: u64 = std::env::args().nth(2).and_then(|x|x.parse().ok()).unwrap_or(3);
    while t.elapsed() < Duration::from_secs(secs) {
        for r in &mut rings { r.drain(|b| match decode(b) { 
            Some(Event::Segment(s)) => println!("{:?} {:?} off {} len {} got {} tail {} hole {:?} turn {} part {} lost {} pid {}/{} {:?}", s.connection, s.direction, s.offset, s.length, s.bytes.len(), s.tail.len(), s.hole, s.turn, s.part, s.lost, s.execution.process, s.execution.thread, String::from_utf8_lossy(&s.bytes[..s.bytes.len().min(48)])),
            Some(e) => println!("{e:?}"), None => println!("BAD {b:?}") }); }
        std::thread::sleep(Duration::from_millis(4));
    }
    println!("{:?}", p.control().counters()?);
    Ok(())
}
