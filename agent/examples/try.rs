//! scratch
use aya::programs::BtfTracePoint;
use spantap::probe::*;
fn main() -> anyhow::Result<()> {
    let blob = std::fs::read("/sys/kernel/btf/vmlinux")?;
    let offsets = btf::Btf::parse(&blob)?.offsets();
    let capture = spantap::config::Capture::default();
    let b = aya::Btf::from_sys_fs()?;
    let mut e = object::load(&object::Settings{offsets:&offsets, shards:1, fallback:false, capture:&capture}, Some(&b))?;
    for (p, f) in [("sent","sock_send_length"),("received","sock_recv_length"),("state_changed","inet_sock_set_state"),("destroyed","tcp_destroy_sock"),("returned","sys_exit"),("executed","sched_process_exec"),("exited","sched_process_exit"),("state_changed_fallback","inet_sock_set_state"),("destroyed_fallback","tcp_destroy_sock")] {
        let program = e.program_mut(p).unwrap(); if let aya::programs::Program::RawTracePoint(raw) = program { match raw.load() { Ok(()) => println!("{p}: ok, {} insns", raw.info()?.verified_instruction_count().unwrap_or(0)), Err(x) => println!("{p}: {x:?}") } continue }
        let prog: &mut BtfTracePoint = program.try_into()?;
        if let Err(x) = prog.load(f, &b) { println!("{p}: {x:#?}"); let s=format!("{x:#?}"); std::fs::write(format!("/tmp/verifier-{p}.log"), s.replace("\\n","\n"))?; continue }
        println!("{p}: ok, {} insns verified", prog.info()?.verified_instruction_count().unwrap_or(0));
        prog.attach()?;
    }
    Ok(())
}
