//! Behaviour through the real binary, one file per command or resource. See CONTRIBUTING.md, "Tests".

mod api;
mod attestations;
mod bad_input;
mod both_clients;
mod container_files;
mod crashes;
mod exec;
mod faults;
mod full_disk;
mod golden;
mod idle_shims;
mod image_mounts;
mod images;
mod isolation;
mod lent_roots;
mod lifecycle;
mod limits;
mod logs;
mod manifests;
mod names;
mod network;
mod network_faults;
mod network_leaks;
mod network_many;
mod networks;
mod platforms;
mod ports;
mod prune;
mod pull;
mod registry;
mod registry_access;
mod registry_clients;
mod registry_durability;
mod registry_judges;
mod run;
mod shape;
mod streams;
mod tap;
mod volumes;
mod zygote;

use berth_testkit::Berth;

/// The program under test.
const BERTH: &str = env!("CARGO_BIN_EXE_berth");

/// An engine with the `busybox` image.
fn start() -> Berth {
    Berth::start(BERTH)
}

/// Waits until something is so.
#[track_caller]
fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while !is_so() {
        assert!(std::time::Instant::now() < deadline, "not so after 20 s: {what}");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}
