//! What all `prune` commands share: the question before and the account after (B095).

use berth_model::decimal_size;

use crate::context::Context;
use crate::error::CliError;

/// What a prune has removed.
#[derive(Debug, Default)]
pub struct Pruned {
    /// One line for each object under a headline; empty if there was nothing.
    pub text: String,
    /// How many bytes are free now.
    pub bytes: u64,
}

impl Pruned {
    /// The account of objects that are named one a line.
    pub fn of_names(headline: &str, names: Option<Vec<String>>, bytes: u64) -> Pruned {
        let names = names.unwrap_or_default();
        if names.is_empty() {
            return Pruned::default();
        }
        Pruned { text: format!("{headline}\n{}\n", names.join("\n")), bytes }
    }

    /// Prints it, with the sum.
    pub fn tell(&self, cx: &Context) -> Result<(), CliError> {
        if !self.text.is_empty() {
            cx.say(&self.text)?;
        }
        cx.say(format!("Total reclaimed space: {}", decimal_size(self.bytes as f64, 4)))
    }
}

/// Asks, unless that was ruled out by `force`.
///
/// # Errors
/// Ends the command, silently and well, when the answer is no.
pub fn confirmed(cx: &Context, force: bool, question: &str) -> Result<(), CliError> {
    if force || cx.confirm(question)? { Ok(()) } else { Err(CliError::exit(0)) }
}
