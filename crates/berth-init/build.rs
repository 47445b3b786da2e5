//! Makes the freestanding program `init/main.rs` with the compiler that makes this crate, for the same target.

use std::{env, path::PathBuf, process::Command};

const SOURCE: &str = "init/main.rs";

/// No start files, no libraries, nothing at run time that a container would have to provide; and as few pages as possible.
const LINK_ARGUMENTS: [&str; 5] = [
    "-nostartfiles",
    "-nostdlib",
    "-static",
    "-Wl,--build-id=none,--gc-sections,-z,noexecstack,-z,norelro,-z,noseparate-code",
    "-no-pie",
];

fn main() {
    println!("cargo::rerun-if-changed={SOURCE}");
    println!("cargo::rerun-if-changed=build.rs");
    let variable = |name: &str| env::var(name).unwrap_or_else(|_| panic!("cargo sets {name}"));
    let output = PathBuf::from(variable("OUT_DIR")).join("berth-init");
    let mut compiler = Command::new(variable("RUSTC"));
    compiler
        .args(["--edition=2024", "--crate-name=berth_init", "--crate-type=bin", "--target", &variable("TARGET")])
        .args(["-Cpanic=abort", "-Copt-level=s", "-Ccodegen-units=1", "-Clto=fat", "-Cstrip=symbols"])
        .args(["-Crelocation-model=static", "-Cforce-unwind-tables=no"])
        .args(LINK_ARGUMENTS.map(|argument| format!("-Clink-arg={argument}")))
        .env("BERTH_INIT_VERSION", variable("CARGO_PKG_VERSION"))
        .arg("-o")
        .arg(&output)
        .arg(SOURCE);
    // Start files come with a musl target; with others the word would turn off the linker that comes with the compiler.
    if variable("CARGO_CFG_TARGET_ENV") == "musl" {
        compiler.arg("-Clink-self-contained=no");
    }
    // A cross build names its linker for this crate's target; the freestanding program wants the same.
    if let Ok(linker) = env::var("RUSTC_LINKER") {
        compiler.arg(format!("-Clinker={linker}"));
    }
    let status = compiler.status().unwrap_or_else(|error| panic!("running {compiler:?}: {error}"));
    assert!(status.success(), "{compiler:?}: {status}");
}
