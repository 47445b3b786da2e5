//! What was done, counted: requests by part of the API and kind of answer, their bytes and their time; as OpenMetrics text.

use std::{
    fmt::Write as _,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use ::http::StatusCode;
use berth_store::RegistryTotals;

use crate::notify::Notifier;

/// The content type that the text is made for.
pub const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// What older scrapers ask for; they can read the text, too.
pub const PLAIN: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Upper ends of the classes of time, in milliseconds.
const CLASSES: [u64; 9] = [1, 5, 10, 50, 100, 500, 1000, 10_000, 60_000];

/// One part of the API, one class of answers.
#[derive(Default)]
struct Line {
    route: &'static str,
    class: u16,
    requests: u64,
    bytes: u64,
    nanos: u64,
    times: [u64; CLASSES.len()],
}

/// All counts of a server.
pub struct Metrics {
    started: Instant,
    lines: Mutex<Vec<Line>>,
    /// Connections that are open.
    pub connections: AtomicU64,
}

impl Metrics {
    /// Nothing was done yet.
    pub fn new() -> Self {
        Self { started: Instant::now(), lines: Mutex::default(), connections: AtomicU64::new(0) }
    }

    /// A request was answered.
    pub fn count(&self, route: &'static str, status: StatusCode, bytes: u64, time: Duration) {
        let class = status.as_u16() / 100;
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let at = lines.iter().position(|line| line.route == route && line.class == class).unwrap_or_else(|| {
            lines.push(Line { route, class, ..Line::default() });
            lines.len() - 1
        });
        let line = &mut lines[at];
        line.requests += 1;
        line.bytes += bytes;
        line.nanos = line.nanos.saturating_add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
        for (count, _) in line.times.iter_mut().zip(CLASSES).filter(|(_, end)| time <= Duration::from_millis(*end)) {
            *count += 1;
        }
    }

    /// The text. The classes of time are cumulative, as the format has it.
    pub fn text(&self, totals: &RegistryTotals, uploads: u64, notifier: &Notifier) -> String {
        let mut text = String::new();
        self.write(&mut text, totals, uploads, notifier).expect("writing to a string cannot fail");
        text
    }

    fn write(&self, out: &mut String, totals: &RegistryTotals, uploads: u64, notifier: &Notifier) -> std::fmt::Result {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        writeln!(out, "# TYPE berth_registry_requests counter\n# HELP berth_registry_requests Requests answered.")?;
        for line in lines.iter() {
            let labels = format!("route=\"{}\",class=\"{}xx\"", line.route, line.class);
            writeln!(out, "berth_registry_requests_total{{{labels}}} {}", line.requests)?;
        }
        writeln!(
            out,
            "# TYPE berth_registry_response_bytes counter\n# UNIT berth_registry_response_bytes bytes\n# HELP berth_registry_response_bytes Bytes of bodies in answers."
        )?;
        for line in lines.iter() {
            let labels = format!("route=\"{}\",class=\"{}xx\"", line.route, line.class);
            writeln!(out, "berth_registry_response_bytes_total{{{labels}}} {}", line.bytes)?;
        }
        writeln!(
            out,
            "# TYPE berth_registry_request_seconds histogram\n# UNIT berth_registry_request_seconds seconds\n# HELP berth_registry_request_seconds Time until an answer was sent."
        )?;
        for line in lines.iter() {
            let labels = format!("route=\"{}\",class=\"{}xx\"", line.route, line.class);
            for (count, end) in line.times.iter().zip(CLASSES) {
                let end = Duration::from_millis(end).as_secs_f64();
                writeln!(out, "berth_registry_request_seconds_bucket{{{labels},le=\"{end}\"}} {count}")?;
            }
            writeln!(out, "berth_registry_request_seconds_bucket{{{labels},le=\"+Inf\"}} {}", line.requests)?;
            writeln!(out, "berth_registry_request_seconds_count{{{labels}}} {}", line.requests)?;
            let seconds = Duration::from_nanos(line.nanos).as_secs_f64();
            writeln!(out, "berth_registry_request_seconds_sum{{{labels}}} {seconds}")?;
        }
        for (name, help, value) in [
            ("berth_registry_repositories", "Repositories.", totals.repositories),
            ("berth_registry_tags", "Tags.", totals.tags),
            ("berth_registry_manifests", "Manifests, each once per repository.", totals.manifests),
            ("berth_registry_blobs", "Blobs, each once.", totals.blobs),
            ("berth_registry_blob_bytes", "Bytes of blobs, each once.", totals.bytes),
            ("berth_registry_uploads", "Uploads on their way.", uploads),
            ("berth_registry_connections", "Open connections.", self.connections.load(Ordering::Relaxed)),
            ("berth_registry_uptime_seconds", "Time since the start.", self.started.elapsed().as_secs()),
        ] {
            writeln!(out, "# TYPE {name} gauge\n# HELP {name} {help}\n{name} {value}")?;
        }
        write_notifications(out, notifier)?;
        writeln!(out, "# EOF")
    }
}

/// What became of the events for each server that is told.
fn write_notifications(out: &mut String, notifier: &Notifier) -> std::fmt::Result {
    let name = "berth_registry_notifications";
    writeln!(out, "# TYPE {name} counter\n# HELP {name} Events for each server that is told what happens.")?;
    for (listener, counts) in notifier.counts() {
        let listener = listener.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        for (result, count) in [("sent", &counts.sent), ("failed", &counts.failed), ("dropped", &counts.dropped)] {
            let count = count.load(Ordering::Relaxed);
            writeln!(out, "{name}_total{{listener=\"{listener}\",result=\"{result}\"}} {count}")?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::storage::Storage;

    #[test]
    fn counts_are_told_as_open_metrics() {
        let metrics = Metrics::new();
        let directory = tempfile::tempdir().expect("a directory");
        let storage = Arc::new(Storage::open(directory.path()).expect("a registry's directory"));
        for time in [Duration::from_micros(100), Duration::from_millis(7)] {
            metrics.count("blob", StatusCode::OK, 10, time);
        }
        metrics.count("blob", StatusCode::NOT_FOUND, 1, Duration::from_secs(100));
        let text = metrics.text(
            &RegistryTotals { repositories: 3, ..RegistryTotals::default() },
            2,
            &Notifier::start(Vec::new(), &storage).expect("nobody"),
        );
        for line in [
            "berth_registry_requests_total{route=\"blob\",class=\"2xx\"} 2",
            "berth_registry_response_bytes_total{route=\"blob\",class=\"2xx\"} 20",
            "berth_registry_request_seconds_bucket{route=\"blob\",class=\"2xx\",le=\"0.001\"} 1",
            "berth_registry_request_seconds_bucket{route=\"blob\",class=\"2xx\",le=\"0.01\"} 2",
            "berth_registry_request_seconds_bucket{route=\"blob\",class=\"4xx\",le=\"60\"} 0",
            "berth_registry_request_seconds_bucket{route=\"blob\",class=\"4xx\",le=\"+Inf\"} 1",
            "berth_registry_repositories 3",
            "berth_registry_uploads 2",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is missing in\n{text}");
        }
        assert!(text.ends_with("# EOF\n"));
    }
}
