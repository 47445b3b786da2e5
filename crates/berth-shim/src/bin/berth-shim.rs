//! The shim as a program of its own: what the tests start. The product has it inside the one binary.
#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    berth_shim::main(std::env::args_os().skip(1).collect())
}
