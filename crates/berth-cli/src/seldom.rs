//! Flags that few command lines have, and a parser without them.
//!
//! A client lives for some milliseconds, and each flag that its parser knows costs it one or two microseconds; `run` has a hundred flags. So the
//! seldom ones stand in structs of their own behind [`Seldom`], and a command line is first given to a parser that was begun with
//! [`leave_out`]. What this one understands, the whole parser would understand in the same way: it knows the same flags, and more, of
//! which none asks for another or rules it out. Whatever it does not understand is the whole parser's: seldom flags, mistakes, calls for
//! help.

use std::ops::{Deref, DerefMut};

use clap::{ArgMatches, Args, FromArgMatches};

/// Begins a parser that will not know the flags behind [`Seldom`]. Nobody is shown such a one, and that is also how it is known.
pub(crate) fn leave_out(parser: clap::Command) -> clap::Command {
    parser.hide(true)
}

/// Flags that few command lines have. Without any of them they are as their `Default` says, which has to be what an empty command line says.
#[derive(Clone, Debug, Default)]
pub struct Seldom<T>(T);

impl<T> Deref for Seldom<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> DerefMut for Seldom<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

impl<T: Args + Default> Args for Seldom<T> {
    fn augment_args(parser: clap::Command) -> clap::Command {
        if parser.is_hide_set() { parser } else { T::augment_args(parser) }
    }

    fn augment_args_for_update(parser: clap::Command) -> clap::Command {
        if parser.is_hide_set() { parser } else { T::augment_args_for_update(parser) }
    }
}

impl<T: Args + Default> FromArgMatches for Seldom<T> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        Self::from_arg_matches_mut(&mut matches.clone())
    }

    fn from_arg_matches_mut(matches: &mut ArgMatches) -> Result<Self, clap::Error> {
        // A struct of flags is a group, which is there once one of its flags was given.
        let given = T::group_id().is_none_or(|group| matches.try_contains_id(group.as_str()).unwrap_or(false));
        if given { T::from_arg_matches_mut(matches).map(Seldom) } else { Ok(Self::default()) }
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        self.0.update_from_arg_matches(matches)
    }
}
