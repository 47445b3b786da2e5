//! What all `prune` commands share: the question before and the account after (B095).

use berth_client::Request;
use berth_model::decimal_size;

use crate::context::Context;
use crate::error::CliError;

/// Whether a prune removes, or only tells what it would.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// It removes.
    Remove,
    /// It tells.
    DryRun,
}

impl Mode {
    /// The mode that `--dry-run` chooses, or not.
    pub fn of(dry_run: bool) -> Mode {
        if dry_run { Mode::DryRun } else { Mode::Remove }
    }

    /// Asks for it.
    pub fn ask<'c, 'b>(self, request: Request<'c, 'b>) -> Request<'c, 'b> {
        request.flag("dry-run", self == Mode::DryRun)
    }

    /// Asks as if these containers were gone, which a prune of everything removes before. What is really removed is not there any more.
    pub fn ask_without<'c, 'b>(self, request: Request<'c, 'b>, containers: &[String]) -> Request<'c, 'b> {
        let gone = if self == Mode::DryRun { containers } else { &[] };
        gone.iter().fold(self.ask(request), |request, id| request.query("without", id))
    }

    /// The line above the names of some kind of objects.
    pub fn headline(self, removed: &'static str, planned: &'static str) -> &'static str {
        if self == Mode::DryRun { planned } else { removed }
    }

    /// The last line of an account.
    pub fn sum(self, bytes: u64) -> String {
        let word = self.headline("reclaimed", "reclaimable");
        format!("Total {word} space: {}", decimal_size(bytes as f64, 4))
    }
}

/// What a prune has removed, or would.
#[derive(Debug, Default)]
pub struct Pruned {
    /// One line for each object under a headline; empty if there was nothing.
    pub text: String,
    /// How many bytes are free now.
    pub bytes: u64,
    /// The objects, where they are named one a line.
    pub names: Vec<String>,
}

impl Pruned {
    /// The account of objects that are named one a line.
    pub fn of_names(headline: &str, names: Option<Vec<String>>, bytes: u64) -> Pruned {
        let names = names.unwrap_or_default();
        if names.is_empty() {
            return Pruned::default();
        }
        Pruned { text: format!("{headline}\n{}\n", names.join("\n")), bytes, names }
    }

    /// Prints it, with the sum.
    pub fn tell(&self, cx: &Context, mode: Mode) -> Result<(), CliError> {
        if !self.text.is_empty() {
            cx.say(&self.text)?;
        }
        cx.say(mode.sum(self.bytes))
    }
}

/// Asks, unless that was ruled out by `force`, or nothing is removed.
///
/// # Errors
/// Ends the command, silently and well, when the answer is no.
pub fn confirmed(cx: &Context, mode: Mode, force: bool, question: &str) -> Result<(), CliError> {
    if force || mode == Mode::DryRun || cx.confirm(question)? { Ok(()) } else { Err(CliError::exit(0)) }
}
