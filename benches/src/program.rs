//! A run from start to end: find the programs, measure group by group, print, and write the page if asked.

use std::{
    fs,
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail, ensure};

use crate::{
    disk,
    groups::{Group, Setting},
    options::Options,
    plot, report,
    results::{self, Report},
};

/// As in `scripts/install`, in bytes.
const PIECE: usize = 256 << 10;

/// Does what the options say.
pub fn run(options: &Options) -> Result<()> {
    if options.render {
        return write(&results::read(&data_file())?);
    }
    ensure!(rustix::process::geteuid().is_root(), "namespaces and cgroups need root");
    if disk::inner().is_some() {
        return measure(options);
    }
    for &disk in &options.disks {
        let status = disk::run_on(disk, options.first)?;
        ensure!(status.success(), "the run on {disk:?} failed");
    }
    Ok(())
}

fn measure(options: &Options) -> Result<()> {
    let directory =
        tempfile::Builder::new().prefix("berth-bench-").tempdir().context("making a directory for archives")?;
    let program = install(&program(options)?, directory.path())?;
    let setting = Setting { options, program, directory: directory.path() };
    for &group in &options.groups {
        eprintln!("measuring {}: {}", group.name(), group.title());
        match group.measure(&setting) {
            Ok(report) => {
                print!("{}", report::section(&report, false));
                if options.write {
                    keep(report)?;
                }
            }
            // One group that cannot be measured is no reason to lose the others.
            Err(error) => eprintln!("    {} is left out: {error:#}", group.name()),
        }
    }
    Ok(())
}

/// The program to measure: the one that was named, or the newest build of the profile that this one has, or the other's.
fn program(options: &Options) -> Result<PathBuf> {
    let here = std::env::current_exe().context("finding this program")?;
    let builds = here.ancestors().nth(2).unwrap_or(Path::new("/"));
    let places = [builds.join("release/berth"), builds.join("debug/berth")];
    let program = match &options.berth {
        Some(file) => file.clone(),
        None => match places.iter().find(|file| file.is_file()) {
            Some(file) => file.clone(),
            None => bail!("no berth in {}: build it with `cargo build --release` first", builds.display()),
        },
    };
    program.canonicalize().with_context(|| format!("the program {}", program.display()))
}

/// Puts the program where it is measured, as `scripts/install` does: written in pieces of a size that is how the page cache then holds it.
fn install(program: &Path, directory: &Path) -> Result<PathBuf> {
    let profile = if program.components().any(|part| part.as_os_str() == "debug") { "debug" } else { "release" };
    let installed = directory.join(profile).join("berth");
    let copy = || {
        fs::create_dir(directory.join(profile))?;
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o755).open(&installed)?;
        fs::read(program)?.chunks(PIECE).try_for_each(|piece| file.write_all(piece))
    };
    copy().with_context(|| format!("copying {} to {}", program.display(), installed.display()))?;
    Ok(installed)
}

fn keep(report: Report) -> Result<()> {
    let mut reports = results::read(&data_file())?;
    results::merge(&mut reports, report);
    reports
        .sort_by_key(|report| (Group::ALL.iter().position(|group| group.name() == report.group), report.disk.clone()));
    write(&reports)
}

fn write(reports: &[Report]) -> Result<()> {
    let docs = docs();
    let save = |name: &str, text: String| {
        fs::write(docs.join(name), text).with_context(|| format!("writing {name} in {}", docs.display()))
    };
    save("benchmarks.json", serde_json::to_string_pretty(reports)? + "\n")?;
    save("benchmarks.md", report::page(reports))?;
    for report in reports {
        save(&report::plot_name(report), plot::svg(report))?;
    }
    Ok(())
}

fn docs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs")
}

fn data_file() -> PathBuf {
    docs().join("benchmarks.json")
}
