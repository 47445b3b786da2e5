//! The figures, and the file in which they are kept between runs.

use std::{collections::BTreeMap, path::Path};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::{machine::Machine, statistics::Summary};

/// What a figure is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Measure {
    /// Time on the clock, in milliseconds.
    Wall,
    /// Processor time of the whole engine, in milliseconds.
    Cpu,
    /// In KiB.
    Memory,
    /// What came over the network, in KiB.
    Bytes,
}

/// What Berth wants to reach.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Bar {
    /// Which figure's median.
    pub measure: Measure,
    /// It is at most this.
    pub most: f64,
}

/// The figures of one engine in one case.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// What was done.
    pub case: String,
    /// By whom.
    pub engine: String,
    /// What it took.
    pub figures: BTreeMap<Measure, Summary>,
    /// What Berth wants to reach.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub bars: Vec<Bar>,
    /// Docker's median time is to be at least so many times ours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub times: Option<f64>,
    /// Docker's median processor time is to be at least so many times ours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_times: Option<f64>,
    /// Why there are no figures.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
}

impl Row {
    /// Without figures yet.
    pub fn new(case: &str, engine: &str) -> Self {
        Self {
            case: case.to_owned(),
            engine: engine.to_owned(),
            figures: BTreeMap::new(),
            bars: Vec::new(),
            times: None,
            cpu_times: None,
            failure: None,
        }
    }

    /// With one more figure, if there are samples.
    #[must_use]
    pub fn with(mut self, measure: Measure, samples: &[f64]) -> Self {
        if let Some(summary) = Summary::of(samples) {
            self.figures.insert(measure, summary);
        }
        self
    }
}

/// One group, measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Its name.
    pub group: String,
    /// What the data was on.
    pub disk: String,
    /// When it began.
    pub taken: String,
    /// How long it took, in seconds.
    pub seconds: f64,
    /// On what.
    pub machine: Machine,
    /// Who, in which version.
    pub versions: BTreeMap<String, String>,
    /// How processor time and memory were counted.
    pub method: String,
    /// How long this machine took to start and end `busybox true`, in milliseconds: a measure of its speed at that time.
    pub reference: Option<Summary>,
    /// Load averages before and after.
    pub load: [String; 2],
    /// What else ran.
    pub others: String,
    /// What is to be known about it besides.
    pub notes: Vec<String>,
    /// The figures.
    pub rows: Vec<Row>,
}

impl Report {
    /// The cases in their order.
    pub fn cases(&self) -> Vec<&str> {
        let mut cases: Vec<&str> = Vec::new();
        for row in &self.rows {
            if !cases.contains(&row.case.as_str()) {
                cases.push(&row.case);
            }
        }
        cases
    }

    /// Figures of somebody else in the same case.
    pub fn peer(&self, case: &str, engine: &str) -> Option<&Row> {
        self.rows.iter().find(|row| row.case == case && row.engine == engine)
    }

    /// Whether any row has this figure.
    pub fn has(&self, measure: Measure) -> bool {
        self.rows.iter().any(|row| row.figures.contains_key(&measure))
    }
}

/// Reads what earlier runs left; no file is no figures.
pub fn read(file: &Path) -> Result<Vec<Report>> {
    match std::fs::read_to_string(file) {
        Ok(text) => serde_json::from_str(&text).with_context(|| format!("reading {}", file.display())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error).with_context(|| format!("reading {}", file.display())),
    }
}

/// Puts new figures in the place of older ones of the same group and disk.
pub fn merge(kept: &mut Vec<Report>, new: Report) {
    match kept.iter_mut().find(|report| report.group == new.group && report.disk == new.disk) {
        Some(old) => *old = new,
        None => kept.push(new),
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A report of one case, for tests of what is made of it.
    pub fn sample(group: &str, disk: &str) -> Report {
        Report {
            group: group.to_owned(),
            disk: disk.to_owned(),
            taken: "2026-01-02 03:04 UTC".to_owned(),
            seconds: 5.0,
            machine: Machine {
                processor: "2 x test".to_owned(),
                memory: 2048,
                kernel: "6.1".to_owned(),
                system: "Debian".to_owned(),
            },
            versions: BTreeMap::from([("docker".to_owned(), "1".to_owned())]),
            method: "cgroup".to_owned(),
            reference: Summary::of(&[0.5]),
            load: ["0".to_owned(), "1".to_owned()],
            others: "nothing".to_owned(),
            notes: Vec::new(),
            rows: vec![
                Row {
                    bars: vec![Bar { measure: Measure::Wall, most: 8.0 }],
                    times: Some(30.0),
                    ..Row::new("run", "berth").with(Measure::Wall, &[1.0, 2.0, 3.0]).with(Measure::Cpu, &[1.0])
                },
                Row::new("run", "docker").with(Measure::Wall, &[50.0]),
                Row { failure: Some("it <fails>".to_owned()), ..Row::new("run", "podman") },
            ],
        }
    }

    #[test]
    fn a_new_report_takes_the_place_of_the_old() {
        let mut kept = vec![sample("run", "a"), sample("run", "b")];
        let mut new = sample("run", "b");
        new.seconds = 7.0;
        merge(&mut kept, new.clone());
        merge(&mut kept, sample("exec", "b"));
        assert_eq!((kept.len(), &kept[1]), (3, &new));
    }

    #[test]
    fn reports_survive_their_file() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("data.json");
        assert_eq!(read(&file).expect("no file"), []);
        std::fs::write(&file, serde_json::to_string(&[sample("run", "a")]).expect("JSON")).expect("written");
        assert_eq!(read(&file).expect("a file"), [sample("run", "a")]);
    }
}
