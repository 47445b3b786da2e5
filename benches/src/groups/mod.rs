//! What is measured, a file for each group.

mod archive;
mod burst;
mod cuts;
mod exec;
mod images;
mod load;
mod many;
mod many_ports;
mod names;
mod ports;
mod registry;
mod run;
mod runtime;
mod steps;
mod traffic;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Instant,
};

use anyhow::{Context, Result, ensure};

use crate::{
    disk,
    engine::{self, Engine, Kind},
    machine::{self, Machine, Others},
    options::Options,
    results::{Bar, Measure, Report, Row},
};

/// The image that everybody runs.
const IMAGE: &str = "bench-busybox";

/// A group of cases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// `run --rm`.
    Run,
    /// `run --rm` with published ports.
    Ports,
    /// 10,000 published ports.
    ManyPorts,
    /// What the default bridge adds.
    Burst,
    /// create, start, wait, rm.
    Steps,
    /// `exec`.
    Exec,
    /// `load`.
    Load,
    /// Many containers at once.
    Many,
    /// OCI runtimes.
    Runtime,
    /// `load` of a whole distribution.
    Debian,
    /// `pull` and `push`.
    Registry,
    /// `pull` on a bad line.
    Cuts,
    /// `load` and `save` of a large image.
    Archive,
    /// `images`.
    Images,
    /// Throughput of networks.
    Traffic,
    /// Name services.
    Names,
}

impl Group {
    /// All of them, in the order of the page.
    pub const ALL: [Self; 16] = [
        Self::Run,
        Self::Ports,
        Self::ManyPorts,
        Self::Burst,
        Self::Steps,
        Self::Exec,
        Self::Load,
        Self::Many,
        Self::Runtime,
        Self::Debian,
        Self::Registry,
        Self::Cuts,
        Self::Archive,
        Self::Images,
        Self::Traffic,
        Self::Names,
    ];

    /// Those that are measured only when they are named: they need a mirror, or minutes and much room.
    pub const LARGE: [Self; 6] = [Self::Debian, Self::Registry, Self::Cuts, Self::Archive, Self::Traffic, Self::Names];

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Run => "run",
            Self::Ports => "ports",
            Self::ManyPorts => "many-ports",
            Self::Burst => "burst",
            Self::Steps => "steps",
            Self::Exec => "exec",
            Self::Load => "load",
            Self::Many => "many",
            Self::Runtime => "runtime",
            Self::Debian => "debian",
            Self::Registry => "registry",
            Self::Cuts => "cuts",
            Self::Archive => "archive",
            Self::Images => "images",
            Self::Traffic => "traffic",
            Self::Names => "names",
        }
    }

    /// The group of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|group| group.name() == name)
    }

    /// A sentence that says what is measured.
    pub fn title(self) -> &'static str {
        match self {
            Self::Run => "`run --rm IMAGE true`",
            Self::Ports => "`run --rm -p ... IMAGE true`",
            Self::ManyPorts => "`run -d -p ...` of 10,000 ports",
            Self::Burst => "What the default bridge adds to `run --rm IMAGE true`",
            Self::Steps => "`create`, `start`, `wait` and `rm` of one container that runs `true`",
            Self::Exec => "`exec` of `true` in a running container",
            Self::Load => "`load` of an image archive",
            Self::Many => "Many containers that sleep, without network",
            Self::Runtime => "OCI runtimes: `run` of a bundle that runs `true`",
            Self::Debian => "`load` of a Debian root file system",
            Self::Registry => "`pull` and `push` of a large image, with a registry on loopback",
            Self::Cuts => "`pull` on a bad line",
            Self::Archive => "`load` and `save` of an image of 4 GB",
            Self::Images => "`images` where there are 1,000",
            Self::Traffic => "1 GB by TCP (iperf3)",
            Self::Names => "Questions for the name of a container, from eight clients inside another one",
        }
    }

    /// Measures it.
    pub fn measure(self, setting: &Setting<'_>) -> Result<Report> {
        let (started, taken, before) = (Instant::now(), machine::now(), machine::load());
        let others = Others::look();
        let kinds: &[Kind] = match self {
            Self::Runtime => &Kind::RUNTIMES,
            Self::Cuts | Self::Archive | Self::Images => &Kind::DAEMONS,
            Self::Traffic => &Kind::CARRIERS,
            Self::Names => &Kind::NAMERS,
            // The others would start 20,000 processes, or write 40,000 rules one by one.
            Self::ManyPorts => &[Kind::Berth],
            _ => &Kind::ENGINES,
        };
        let mut field = setting.field(kinds)?;
        if self != Self::Runtime {
            field.load_image()?;
        }
        if setting.options.first {
            field.note("everything measured ran at nice -20, before whatever else there was".to_owned());
        }
        let reference = field.engines[0].reference()?;
        let measure = match self {
            Self::Run => run::measure,
            Self::Ports => ports::measure,
            Self::ManyPorts => many_ports::measure,
            Self::Burst => burst::measure,
            Self::Steps => steps::measure,
            Self::Exec => exec::measure,
            Self::Load => load::measure,
            Self::Many => many::measure,
            Self::Runtime => runtime::measure,
            Self::Debian => load::measure_debian,
            Self::Registry => registry::measure,
            Self::Cuts => cuts::measure,
            Self::Archive => archive::measure,
            Self::Images => images::measure,
            Self::Traffic => traffic::measure,
            Self::Names => names::measure,
        };
        let rows = measure(setting, &mut field)?;
        let used: f64 = field.engines.iter().filter_map(|engine| engine.account.cpu().ok()).sum();
        let method = field.engines.first().map(|engine| engine.account.method().to_owned()).unwrap_or_default();
        Ok(Report {
            group: self.name().to_owned(),
            disk: disk::describe(&std::env::temp_dir()),
            taken,
            others: others.since(used),
            seconds: started.elapsed().as_secs_f64(),
            machine: Machine::here(),
            versions: field.versions,
            reference,
            method,
            load: [before, machine::load()],
            notes: field.notes,
            rows,
        })
    }
}

/// What all groups are measured with.
pub struct Setting<'a> {
    /// What was asked for.
    pub options: &'a Options,
    /// Our program.
    pub program: PathBuf,
    /// Room for archives.
    pub directory: &'a Path,
}

/// The engines of one group, running.
pub struct Field<'a> {
    /// Those that came up; ours first.
    pub engines: Vec<Engine>,
    /// What is to be known besides the figures.
    pub notes: Vec<String>,
    versions: BTreeMap<String, String>,
    directory: &'a Path,
}

impl<'a> Setting<'a> {
    fn field(&self, kinds: &[Kind]) -> Result<Field<'a>> {
        let mut field =
            Field { engines: Vec::new(), notes: Vec::new(), versions: BTreeMap::new(), directory: self.directory };
        for &kind in kinds.iter().filter(|kind| !self.options.without.contains(kind)) {
            let Some(programs) = kind.programs() else {
                field.notes.push(format!("{} is not installed", kind.name()));
                continue;
            };
            match Engine::start(kind, &self.program) {
                Ok(engine) => field.engines.push(engine),
                Err(error) => field.note(format!("{} does not start: {error:#}", kind.name())),
            }
            let versions = if kind.is_ours() { self.our_version() } else { versions(&programs) };
            field.versions.insert(kind.name().to_owned(), versions);
        }
        ensure!(!field.engines.is_empty(), "nothing to measure: {}", field.notes.join("; "));
        Ok(field)
    }

    fn our_version(&self) -> String {
        let build = if self.program.components().any(|part| part.as_os_str() == "debug") { "debug" } else { "release" };
        let size = std::fs::metadata(&self.program).map_or(0, |data| data.len()) / 1_000_000;
        format!("{}, {build} build, {size} MB", engine::version(&self.program))
    }
}

fn versions(programs: &[PathBuf]) -> String {
    programs.iter().map(|program| engine::version(program)).collect::<Vec<_>>().join("; ")
}

impl Field<'_> {
    /// Something to be known.
    pub fn note(&mut self, text: String) {
        eprintln!("    {text}");
        self.notes.push(text);
    }

    fn load_image(&mut self) -> Result<()> {
        let archive = crate::archive::busybox(self.directory, IMAGE, 0).context("making the image")?;
        let archive = archive.display().to_string();
        let mut kept = Vec::new();
        for mut engine in std::mem::take(&mut self.engines) {
            match engine.run(&["load", "-i", &archive]) {
                Ok(_) => kept.push(engine),
                Err(error) => self.note(format!("{} does not load the image: {error:#}", engine.kind.name())),
            }
        }
        self.engines = kept;
        ensure!(!self.engines.is_empty(), "nothing to measure: {}", self.notes.join("; "));
        Ok(())
    }
}

/// Puts bars on our row of a case: what it may take at most, and how many times more docker shall take.
fn set_bars(rows: &mut [Row], case: &str, bars: &[(Measure, f64)], times: Option<f64>) {
    for row in rows.iter_mut().filter(|row| row.case == case && row.engine == Kind::Berth.name()) {
        row.bars = bars.iter().map(|&(measure, most)| Bar { measure, most }).collect();
        row.times = times;
    }
}

/// How many times more processor time than ours docker shall take.
fn set_cpu_times(rows: &mut [Row], case: &str, times: f64) {
    for row in rows.iter_mut().filter(|row| row.case == case && row.engine == Kind::Berth.name()) {
        row.cpu_times = Some(times);
    }
}
