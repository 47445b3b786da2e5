//! The runtime alone, for trying it.
fn main() -> std::process::ExitCode {
    berth_runtime::main(std::env::args_os().skip(1).collect())
}
