//! What a command is: its names, its words, its arguments and what it does.

use clap::{ArgMatches, Args};

use crate::context::Context;
use crate::error::CliError;

/// The arguments of a command, and what it does with them.
pub trait Command: Args {
    /// Does it. A failure is printed by the caller; [`CliError::exit`] ends with a code and prints nothing.
    fn run(self, cx: &mut Context) -> Result<(), CliError>;
}

/// How many positional arguments a command takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arity {
    /// Exactly so many.
    Exactly(usize),
    /// So many or more.
    AtLeast(usize),
    /// So many or fewer.
    AtMost(usize),
    /// From the first to the second number.
    Between(usize, usize),
    /// Any number.
    Any,
}

/// Where the overview of all commands shows one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Among the most used ones, in order of the number.
    Common(u8),
    /// Under its name at the top level.
    Listed,
    /// Nowhere.
    Hidden,
}

/// One command as the list knows it.
pub struct Entry {
    /// The group it belongs to, as in `berth GROUP NAME`; empty for one of the top level only.
    pub group: &'static str,
    /// Its name in the group.
    pub name: &'static str,
    /// Other names in the group.
    pub aliases: &'static [&'static str],
    /// Its names at the top level, the usual one first; empty for one of a group only.
    pub top: &'static [&'static str],
    /// What follows the name in the usage line.
    pub usage: &'static str,
    /// One sentence without a full stop.
    pub about: &'static str,
    /// How many arguments it takes.
    pub arity: Arity,
    /// Where the overview shows it.
    pub place: Place,
    pub(crate) augment: fn(clap::Command) -> clap::Command,
    pub(crate) run: fn(&mut ArgMatches, &mut Context) -> Result<(), CliError>,
}

impl Entry {
    /// A command of a group with the arguments `C`. `usage` is what follows the name: `[OPTIONS] CONTAINER`.
    pub const fn new<C: Command>(
        group: &'static str,
        name: &'static str,
        usage: &'static str,
        about: &'static str,
        arity: Arity,
    ) -> Entry {
        Entry {
            group,
            name,
            aliases: &[],
            top: &[],
            usage,
            about,
            arity,
            place: Place::Listed,
            augment: C::augment_args,
            run: |matches, cx| {
                let command = C::from_arg_matches_mut(matches).map_err(|error| CliError::message(error.to_string()))?;
                command.run(cx)
            },
        }
    }

    /// Gives it names at the top level too.
    pub const fn top(mut self, names: &'static [&'static str]) -> Entry {
        self.top = names;
        self
    }

    /// Gives it other names in its group.
    pub const fn aliases(mut self, names: &'static [&'static str]) -> Entry {
        self.aliases = names;
        self
    }

    /// Says where the overview shows it.
    pub const fn place(mut self, place: Place) -> Entry {
        self.place = place;
        self
    }

    /// All ways to write it, for the help text; empty when there is only one.
    pub fn spellings(&self) -> Vec<String> {
        let in_group = std::iter::once(&self.name).chain(self.aliases).filter(|_| !self.group.is_empty());
        let in_group = in_group.map(|name| format!("berth {} {name}", self.group));
        let all: Vec<_> = in_group.chain(self.top.iter().map(|name| format!("berth {name}"))).collect();
        if all.len() > 1 { all } else { Vec::new() }
    }
}
