//! `spantap`: flags → configuration → run → exit code.
fn main() -> std::process::ExitCode {
    spantap::ui::main()
}
