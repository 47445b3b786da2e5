//! The client alone, without the rest of the binary: what the tests of this crate drive.
#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    berth_cli::main(std::env::args_os().skip(1).collect())
}
