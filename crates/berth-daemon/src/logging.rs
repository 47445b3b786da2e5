//! Where log messages go: standard error, as text or JSON.

use std::io::IsTerminal;

use crate::settings::Settings;

/// Starts logging for the whole process.
pub fn start(settings: &Settings) {
    let builder =
        tracing_subscriber::fmt().with_max_level(settings.log_level).with_writer(std::io::stderr).with_target(false);
    if settings.log_json {
        builder.json().init();
    } else {
        builder.with_ansi(std::io::stderr().is_terminal()).init();
    }
}
