//! The live tests: real programs on the running kernel, traced by the agent's binary, judged by
//! what an OpenTelemetry backend gets. One binary, one table, one case at a time.
//! `cargo test -p spantap-tests --test live`, as root.

mod broken;
mod clients;
mod duo;
mod programs;
mod servers;
mod shapes;

fn main() -> std::process::ExitCode {
    let families = [servers::cases(), clients::cases(), shapes::cases()];
    spantap_tests::run::main(families.into_iter().flatten().collect())
}
