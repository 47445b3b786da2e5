//! `berth manifest rm`.

use clap::Args;

use super::local::LocalLists;
use super::name;
use crate::{Arity, CliError, Command, Context, Entry};

/// The command.
pub static ENTRY: Entry = Entry::new::<Rm>(
    "manifest",
    "rm",
    "MANIFEST_LIST [MANIFEST_LIST...]",
    "Delete one or more manifest lists from local storage",
    Arity::AtLeast(1),
);

/// Throws local lists away.
#[derive(Args)]
pub struct Rm {
    lists: Vec<String>,
}

impl Command for Rm {
    fn run(self, cx: &mut Context) -> Result<(), CliError> {
        let lists = LocalLists::of(&cx.globals().config_dir());
        let remove = |text: &String| {
            let list = name(text)?;
            lists.existing(&list)?;
            lists.remove(&list)
        };
        let failed: Vec<String> =
            self.lists.iter().filter_map(|list| remove(list).err()).map(|error| error.to_string()).collect();
        if failed.is_empty() { Ok(()) } else { Err(CliError::message(failed.join("\n"))) }
    }
}
