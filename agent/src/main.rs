//! `spantap`: flags → configuration → run → exit code.

/// Facts are made on one thread and freed on another, where the C library's is slow.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    // The agent starts itself again, under another name, to look at files.
    if spantap::pipeline::clerk::is_meant() {
        return spantap::pipeline::clerk::work();
    }
    spantap::ui::main()
}
