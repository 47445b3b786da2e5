//! Shows the messages of a pull, load, import or build as docker does: bars that are redrawn on a terminal, plain lines
//! elsewhere (B077, B079).

mod total;

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use berth_api::progress::{ProgressDetail, ProgressMessage};
use berth_client::ClientError;
use berth_model::decimal_size;

use crate::error::CliError;

/// Where messages are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Screen {
    /// A terminal of so many columns: lines are redrawn.
    Terminal(usize),
    /// A file or pipe: only lines that stay.
    Plain,
}

impl Screen {
    /// What standard output is.
    pub fn of_stdout() -> Screen {
        let stdout = io::stdout();
        if !rustix::termios::isatty(stdout.as_fd()) {
            return Screen::Plain;
        }
        /// Assumed where the terminal does not tell.
        const UNKNOWN_WIDTH: usize = 200;
        match rustix::termios::tcgetwinsize(stdout.as_fd()) {
            Ok(size) if size.ws_col > 0 => Screen::Terminal(size.ws_col.into()),
            _ => Screen::Terminal(UNKNOWN_WIDTH),
        }
    }
}

/// Shows all messages of a stream.
///
/// # Errors
/// The daemon's text for a failure inside the stream.
pub fn show(
    messages: impl Iterator<Item = Result<ProgressMessage, ClientError>>,
    out: &mut dyn Write,
    screen: Screen,
) -> Result<(), CliError> {
    let mut display = Display { screen, lines: HashMap::new() };
    let mut total = total::Total::default();
    for message in messages {
        let message = message?;
        display.message(out, &message)?;
        if screen != Screen::Plain
            && let Some(line) = total.hear(&message, Instant::now())
        {
            display.message(out, &total_line(line))?;
        }
        out.flush()?;
    }
    Ok(())
}

/// One more line, below those of the layers.
fn total_line(status: String) -> ProgressMessage {
    ProgressMessage {
        id: "Total".to_owned(),
        progress_detail: Some(ProgressDetail::default()),
        ..ProgressMessage::status(status)
    }
}

struct Display {
    screen: Screen,
    /// The line of each id, counted from the first progress line.
    lines: HashMap<String, usize>,
}

impl Display {
    fn message(&mut self, out: &mut dyn Write, message: &ProgressMessage) -> Result<(), CliError> {
        if message.aux.is_some() {
            return Ok(());
        }
        let on_terminal = self.screen != Screen::Plain;
        let mut up = 0;
        if !message.id.is_empty() && message.progress_detail.is_some() {
            let next = self.lines.len();
            let known = self.lines.contains_key(&message.id);
            let line = *self.lines.entry(message.id.clone()).or_insert(next);
            up = self.lines.len() - line;
            if on_terminal {
                write!(out, "{}\x1b[{up}A", if known { "" } else { "\n" })?;
            }
        } else {
            // Other output moves the lines away: they cannot be found again.
            self.lines.clear();
        }
        let result = self.line(out, message);
        if !message.id.is_empty() && on_terminal && up > 0 {
            write!(out, "\x1b[{up}B")?;
        }
        result
    }

    fn line(&self, out: &mut dyn Write, message: &ProgressMessage) -> Result<(), CliError> {
        if let Some(error) = &message.error_detail {
            return Err(CliError::message(error.message.clone()));
        }
        if !message.error.is_empty() {
            return Err(CliError::message(message.error.clone()));
        }
        let id = if message.id.is_empty() { String::new() } else { format!("{}: ", message.id) };
        match (&message.progress_detail, self.screen) {
            (Some(detail), Screen::Terminal(width)) if message.stream.is_empty() => {
                write!(out, "\x1b[2K\r{id}{} {}\r", message.status, bar(detail, width))?;
            }
            (Some(detail), Screen::Terminal(width)) => write!(out, "{id}{} {}", message.status, bar(detail, width))?,
            (Some(detail), Screen::Plain) if detail.current > 0 || detail.total > 0 => {}
            _ if !message.stream.is_empty() => write!(out, "{id}{}", message.stream)?,
            _ => writeln!(out, "{id}{}", message.status)?,
        }
        Ok(())
    }
}

/// `[=====>      ]  1.2MB/4.5MB`; the box only where there is room.
fn bar(detail: &ProgressDetail, width: usize) -> String {
    let (current, total) = (detail.current, detail.total);
    if current <= 0 && total <= 0 {
        return String::new();
    }
    let size = |bytes: i64| decimal_size(bytes as f64, 4);
    let bytes = detail.units.is_empty();
    if total <= 0 {
        return if bytes { format!("{:>8}", size(current)) } else { format!("{current} {}", detail.units) };
    }
    let filled = ((current as f64 / total as f64 * 100.0) as usize / 2).min(50);
    let drawn =
        if width > 110 { format!("[{}>{}] ", "=".repeat(filled), " ".repeat(50 - filled)) } else { String::new() };
    let numbers = match (detail.hide_counts, bytes, current > total) {
        (true, ..) => String::new(),
        (_, true, false) => format!("{:>8}/{}", size(current), size(total)),
        (_, true, true) => format!("{:>8}", size(current)),
        (_, false, false) => format!("{current}/{total} {}", detail.units),
        (_, false, true) => format!("{current} {}", detail.units),
    };
    drawn + &numbers
}

/// How often the bar of an upload is redrawn.
const REDRAW: Duration = Duration::from_millis(100);

/// A reader that draws how much of it has been read; for archives that are sent to the daemon.
pub struct Metered<R> {
    inner: R,
    label: &'static str,
    width: usize,
    detail: ProgressDetail,
    drawn: Instant,
}

impl<R: Read> Metered<R> {
    /// Draws on standard output, which is a terminal of `width` columns. `total` is in bytes, if known.
    pub fn new(inner: R, label: &'static str, width: usize, total: Option<u64>) -> Metered<R> {
        let total = total.and_then(|total| i64::try_from(total).ok()).unwrap_or_default();
        Metered {
            inner,
            label,
            width,
            detail: ProgressDetail { total, ..ProgressDetail::default() },
            drawn: Instant::now(),
        }
    }

    fn draw(&mut self, text: &str) {
        // A terminal that cannot be drawn on is no reason to stop sending.
        let mut out = io::stdout().lock();
        let _ = write!(out, "\x1b[2K\r{text}\r").and_then(|()| out.flush());
    }
}

impl<R: Read> Read for Metered<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.detail.current += i64::try_from(count).unwrap_or_default();
        if count == 0 {
            self.draw("");
        } else if self.drawn.elapsed() >= REDRAW {
            self.drawn = Instant::now();
            self.draw(&format!("{} {}", self.label, bar(&self.detail, self.width)));
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(screen: Screen, messages: &[&str]) -> String {
        let mut out = Vec::new();
        let parsed = messages.iter().map(|text| Ok(serde_json::from_str(text).expect("message")));
        let result = show(parsed, &mut out, screen);
        let text = String::from_utf8(out).expect("text");
        match result {
            Ok(()) => text,
            Err(error) => format!("{text}!{error}"),
        }
    }

    const PULL: &[&str] = &[
        r#"{"status":"Pulling from g","id":"1"}"#,
        r#"{"status":"Pulling fs layer","progressDetail":{},"id":"a"}"#,
        r#"{"status":"Downloading","progressDetail":{"current":500,"total":1000},"id":"a"}"#,
        r#"{"status":"Pull complete","progressDetail":{},"id":"a"}"#,
        r#"{"status":"Digest: sha256:x"}"#,
    ];

    #[test]
    fn files_get_only_the_lines_that_stay() {
        assert_eq!(
            shown(Screen::Plain, PULL),
            "1: Pulling from g\na: Pulling fs layer\na: Pull complete\nDigest: sha256:x\n"
        );
    }

    #[test]
    fn terminals_get_lines_that_are_redrawn() {
        let want = "1: Pulling from g\n\n\x1b[1A\x1b[2K\ra: Pulling fs layer \r\x1b[1B\x1b[1A\x1b[2K\ra: Downloading \
                    [=========================>                         ]     500B/1kB\r\x1b[1B\x1b[1A\x1b[2K\ra: Pull complete \r\x1b[1B\
                    Digest: sha256:x\n";
        assert_eq!(shown(Screen::Terminal(120), PULL), want);
    }

    #[test]
    fn a_failure_in_the_stream_ends_it() {
        let messages =
            [r#"{"stream":"one\n"}"#, r#"{"errorDetail":{"message":"boom"},"error":"boom"}"#, r#"{"stream":"two\n"}"#];
        assert_eq!(shown(Screen::Plain, &messages), "one\n!boom");
    }
}
