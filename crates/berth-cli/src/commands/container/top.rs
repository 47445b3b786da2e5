//! `berth top`.

use std::io::Write;

use crate::columns::aligned;
use crate::{Arity, CliError, Command, Context, Entry};

/// The command.
pub static ENTRY: Entry = Entry::new::<Top>(
    "container",
    "top",
    "CONTAINER [ps OPTIONS]",
    "Display the running processes of a container",
    Arity::AtLeast(1),
)
.top(&["top"]);

/// Lists the processes of a container; the words behind it go to `ps`.
#[derive(clap::Args)]
pub struct Top {
    #[arg(trailing_var_arg = true)]
    words: Vec<String>,
}

impl Command for Top {
    fn run(self, cx: &mut Context) -> Result<(), CliError> {
        let (container, arguments) = self.words.split_first().expect("the arity says at least one");
        let top = cx.client()?.container_top(container, &arguments.join(" "))?;
        let mut out = aligned(cx.stdout(), 20, 3);
        for row in std::iter::once(&top.titles).chain(&top.processes) {
            writeln!(out, "{}", row.join("\t"))?;
        }
        Ok(out.flush()?)
    }
}
