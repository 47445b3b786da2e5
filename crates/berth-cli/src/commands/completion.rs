//! `berth completion`, and the hidden command that the scripts ask.

use std::io::Write;

use clap::Args;

use crate::completion::{self, BASH, FISH, ZSH};
use crate::{Arity, CliError, Command, Context, Entry, Place};

/// Prints a script.
pub static ENTRY: Entry = Entry::new::<Completion>(
    "",
    "completion",
    "bash|zsh|fish",
    "Generate the autocompletion script for the specified shell",
    Arity::Exactly(1),
)
.top(&["completion"]);

/// Prints what may come next.
pub static COMPLETE: Entry =
    Entry::new::<Complete>("", "__complete", "-- [WORD...]", "Complete a command line", Arity::Any)
        .top(&["__complete"])
        .place(Place::Hidden);

/// Prints the completion script of a shell.
#[derive(Args)]
pub struct Completion {
    shell: String,
}

impl Command for Completion {
    fn run(self, cx: &mut Context) -> Result<(), CliError> {
        let script = match self.shell.as_str() {
            "bash" => BASH,
            "zsh" => ZSH,
            "fish" => FISH,
            other => return Err(CliError::message(format!("unknown shell: {other}: must be one of bash, zsh, fish"))),
        };
        let mut out = cx.stdout();
        out.write_all(script.as_bytes())?;
        Ok(out.flush()?)
    }
}

/// Prints the words that may stand in the place of the last one.
#[derive(Args)]
pub struct Complete {
    #[arg(allow_hyphen_values = true, trailing_var_arg = true)]
    words: Vec<String>,
}

impl Command for Complete {
    fn run(self, cx: &mut Context) -> Result<(), CliError> {
        let mut out = cx.stdout();
        out.write_all(completion::complete(&self.words).to_text().as_bytes())?;
        Ok(out.flush()?)
    }
}
