//! The live tests.
fn main() -> std::process::ExitCode {
    spantap_tests::run::main(Vec::new())
}
