//! What a command has at hand: the daemon, the user's configuration, the terminal.

use std::cell::OnceCell;
use std::io::{self, BufWriter, IsTerminal, Write};

use berth_client::{Client, ClientError, InFlight};

use crate::config::Config;
use crate::connect::Globals;
use crate::error::CliError;

/// So many requests are on the way at once, as in docker's client. Each has a connection of its own.
const AT_ONCE: usize = 50;

/// What a command has at hand. Nothing is read or connected before it is asked for.
pub struct Context {
    globals: Globals,
    config: OnceCell<Config>,
    client: OnceCell<Client>,
}

impl Context {
    pub(crate) fn new(globals: Globals) -> Context {
        Context { globals, config: OnceCell::new(), client: OnceCell::new() }
    }

    /// The daemon; connects, and starts one where that is the rule, when first asked for.
    pub fn client(&self) -> Result<&Client, CliError> {
        if let Some(client) = self.client.get() {
            return Ok(client);
        }
        let client = self.globals.connect(self.config())?;
        Ok(self.client.get_or_init(|| client))
    }

    /// The user's configuration file.
    pub fn config(&self) -> &Config {
        self.config.get_or_init(|| Config::read(&self.globals.config_dir()))
    }

    /// The global flags.
    pub fn globals(&self) -> &Globals {
        &self.globals
    }

    /// Standard output, buffered: for tables and documents. Flush it, or the end of the command is lost.
    pub fn stdout(&self) -> BufWriter<io::StdoutLock<'static>> {
        BufWriter::with_capacity(32 * 1024, io::stdout().lock())
    }

    /// Whether standard output is a terminal.
    pub fn stdout_is_terminal(&self) -> bool {
        io::stdout().is_terminal()
    }

    /// Prints one line on standard output at once.
    pub fn say(&self, line: impl AsRef<str>) -> Result<(), CliError> {
        let mut out = io::stdout().lock();
        out.write_all(line.as_ref().as_bytes())?;
        out.write_all(b"\n")?;
        Ok(out.flush()?)
    }

    /// Prints one line on standard error.
    pub fn warn(&self, line: impl AsRef<str>) {
        let _ = writeln!(io::stderr(), "{}", line.as_ref());
    }

    /// Does `action` with each of `names` and prints each name that it worked for; the failures follow at the end (B012).
    pub fn for_each(
        &self,
        names: &[String],
        mut action: impl FnMut(&Client, &str) -> Result<(), ClientError>,
    ) -> Result<(), CliError> {
        let client = self.client()?;
        let mut failures = Vec::new();
        for name in names {
            match action(client, name) {
                Ok(()) => self.say(name)?,
                Err(error) => failures.push(error.to_string()),
            }
        }
        if failures.is_empty() { Ok(()) } else { Err(CliError::message(failures.join("\n"))) }
    }

    /// As [`Context::for_each`], with up to [`AT_ONCE`] of them on the way: for actions that take their time.
    pub fn for_all(
        &self,
        names: &[String],
        send: impl for<'c> Fn(&'c Client, &str) -> Result<InFlight<'c>, ClientError>,
    ) -> Result<(), CliError> {
        let client = self.client()?;
        let mut failures = Vec::new();
        for some in names.chunks(AT_ONCE) {
            let sent: Vec<_> = some.iter().map(|name| (name, send(client, name))).collect();
            for (name, sent) in sent {
                match sent.and_then(InFlight::finish) {
                    Ok(()) => self.say(name)?,
                    Err(error) => failures.push(error.to_string()),
                }
            }
        }
        if failures.is_empty() { Ok(()) } else { Err(CliError::message(failures.join("\n"))) }
    }

    /// Asks a question that only `y` or `yes` agrees to.
    pub fn confirm(&self, question: &str) -> Result<bool, CliError> {
        let mut out = io::stdout().lock();
        write!(out, "{question} [y/N] ")?;
        out.flush()?;
        let mut answer = String::new();
        io::stdin().read_line(&mut answer)?;
        Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
    }
}
