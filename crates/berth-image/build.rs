//! Builds the program of the embedded `hello-world` image: freestanding, static, a few kilobytes, from `hello/hello.rs`.

use std::{env, path::PathBuf, process::Command};

fn main() {
    println!("cargo::rerun-if-changed=hello/hello.rs");
    println!("cargo::rerun-if-changed=build.rs");
    let variable = |name: &str| env::var(name).unwrap_or_else(|_| panic!("cargo sets {name}"));
    let output = PathBuf::from(variable("OUT_DIR")).join("hello");
    // Start files come with a musl target; with others the word would turn off the linker that comes with the compiler.
    let start_files = (variable("CARGO_CFG_TARGET_ENV") == "musl").then_some("-Clink-self-contained=no");
    let status = Command::new(variable("RUSTC"))
        .args(start_files)
        .args([
            "--edition=2024",
            "--crate-type=bin",
            "--crate-name=hello",
            "-Copt-level=z",
            "-Cpanic=abort",
            "-Cstrip=symbols",
        ])
        .args(["-Crelocation-model=static", "-Ctarget-feature=+crt-static", "-Cforce-unwind-tables=no"])
        // No C library and no start files: the program is the two system calls it makes.
        .args([
            "-Clink-arg=-nostartfiles",
            "-Clink-arg=-nostdlib",
            "-Clink-arg=-static",
            "-Clink-arg=-Wl,--build-id=none",
        ])
        .args(["-Clink-arg=-Wl,-z,noseparate-code", "-Clink-arg=-Wl,-n", "-Clink-arg=-Wl,-z,norelro"])
        .arg(format!("--target={}", variable("TARGET")))
        .arg("-o")
        .arg(&output)
        .arg("hello/hello.rs")
        .status()
        .unwrap_or_else(|error| panic!("running rustc for hello/hello.rs: {error}"));
    assert!(status.success(), "hello/hello.rs does not build");
}
