//! The live tests: real programs on the running kernel, traced by the agent's binary, judged by
//! what an OpenTelemetry backend gets. One binary, one table, one case at a time.
//! `cargo test -p spantap-tests --test live`, as root.

mod clients;
mod programs;
mod servers;

fn main() -> std::process::ExitCode {
    let families = [servers::cases(), clients::cases()];
    spantap_tests::run::main(families.into_iter().flatten().collect())
}
