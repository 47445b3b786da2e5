//! How far all layers are together: bytes, speed, and the time that is left. Only what is known is told.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::{Duration, Instant};

use berth_api::progress::ProgressMessage;
use berth_model::decimal_size;

/// How often it is told.
const TELL_EVERY: Duration = Duration::from_millis(500);
/// Over how long the speed is measured; nothing is told before half of it.
const WINDOW: Duration = Duration::from_secs(4);

/// What was heard of the layers so far.
#[derive(Default)]
pub(super) struct Total {
    /// Bytes done and bytes in all, by layer.
    layers: HashMap<String, (i64, i64)>,
    /// Layers whose size is not known yet.
    unknown: HashSet<String>,
    samples: VecDeque<(Instant, i64)>,
    told: Option<Instant>,
}

impl Total {
    /// Takes a message in, and gives the line to show when it is time for one.
    pub fn hear(&mut self, message: &ProgressMessage, now: Instant) -> Option<String> {
        let detail = message.progress_detail.as_ref()?;
        let id = &message.id;
        match message.status.as_str() {
            "Pulling fs layer" | "Waiting" => {
                self.unknown.insert(id.clone());
            }
            "Downloading" | "Pushing" if detail.total > 0 => {
                self.unknown.remove(id);
                self.layers.insert(id.clone(), (detail.current, detail.total));
            }
            "Download complete" | "Pushed" => {
                self.unknown.remove(id);
                if let Some((current, total)) = self.layers.get_mut(id) {
                    *current = *total;
                }
            }
            _ => return None,
        }
        self.line(now)
    }

    fn line(&mut self, now: Instant) -> Option<String> {
        let done: i64 = self.layers.values().map(|(current, _)| current).sum();
        let all: i64 = self.layers.values().map(|(_, total)| total).sum();
        self.samples.push_back((now, done));
        while self.samples.len() > 2 && now - self.samples[0].0 > WINDOW {
            self.samples.pop_front();
        }
        let (since, at_first) = self.samples[0];
        let measured = now - since;
        let due = self.told.is_none_or(|told| now - told >= TELL_EVERY) || done == all;
        if all == 0 || !due || measured < WINDOW / 2 {
            return None;
        }
        self.told = Some(now);
        let size = |bytes: f64| decimal_size(bytes, 4);
        if done == all && self.unknown.is_empty() {
            return Some(size(all as f64));
        }
        let speed = (done - at_first).max(0) as f64 / measured.as_secs_f64();
        let of = if self.unknown.is_empty() { "of" } else { "of at least" };
        let mut line = format!("{} {of} {}, {}/s", size(done as f64), size(all as f64), size(speed));
        if speed > 0.0 && self.unknown.is_empty() {
            line.push_str(&format!(", {} left", words((all - done) as f64 / speed)));
        }
        Some(line)
    }
}

/// Seconds as people say them: `7s`, `3m 20s`, `2h 5m`.
fn words(seconds: f64) -> String {
    let seconds = seconds.ceil().min(1e9) as u64;
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m {}s", seconds / 60, seconds % 60),
        _ => format!("{}h {}m", seconds / 3600, seconds % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use berth_api::progress::ProgressDetail;

    use super::*;

    fn message(id: &str, status: &str, current: i64, total: i64) -> ProgressMessage {
        ProgressMessage {
            id: id.to_owned(),
            progress_detail: Some(ProgressDetail { current, total, ..ProgressDetail::default() }),
            ..ProgressMessage::status(status.to_owned())
        }
    }

    #[test]
    fn the_total_says_only_what_is_known() {
        let (mut total, begun) = (Total::default(), Instant::now());
        let at = |seconds: f64| begun + Duration::from_secs_f64(seconds);
        assert_eq!(total.hear(&message("a", "Pulling fs layer", 0, 0), at(0.0)), None);
        assert_eq!(total.hear(&message("b", "Pulling fs layer", 0, 0), at(0.0)), None);
        assert_eq!(total.hear(&message("a", "Downloading", 1_000, 9_000_000), at(1.0)), None);
        let line = total.hear(&message("a", "Downloading", 4_000_000, 9_000_000), at(2.0));
        assert_eq!(line.as_deref(), Some("4MB of at least 9MB, 2MB/s"));
        assert_eq!(total.hear(&message("b", "Downloading", 0, 1_000_000), at(2.1)), None);
        let line = total.hear(&message("a", "Downloading", 8_000_000, 9_000_000), at(4.0));
        assert_eq!(line.as_deref(), Some("8MB of 10MB, 2MB/s, 1s left"));
        total.hear(&message("a", "Download complete", 0, 0), at(5.0));
        assert_eq!(total.hear(&message("b", "Download complete", 0, 0), at(5.1)).as_deref(), Some("10MB"));
        assert_eq!(total.hear(&message("a", "Extracting", 1, 0), at(6.0)), None);
        assert_eq!((words(7.1).as_str(), words(200.0).as_str(), words(7500.0).as_str()), ("8s", "3m 20s", "2h 5m"));
    }
}
