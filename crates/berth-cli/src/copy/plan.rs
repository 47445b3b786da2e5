//! Where a copy goes and what it is called there.

use super::paths::{means_directory, split};
use crate::CliError;

/// One end of a copy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Place {
    /// Its path.
    pub path: String,
    /// Something is there.
    pub exists: bool,
    /// It is a directory.
    pub is_directory: bool,
    /// The name it was asked for by, where a link led elsewhere.
    pub asked_as: Option<String>,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Copied {
    /// The directory that takes it.
    pub directory: String,
    /// The source's name in its archive, and the name it gets; `None` if it keeps its own.
    pub renamed: Option<(String, String)>,
}

/// Settles where a source goes.
pub(crate) fn plan(source: &Place, destination: &Place) -> Result<Copied, CliError> {
    let (directory, name) = split(&destination.path);
    let (_, own_name) = split(&source.path);
    let own_name = source.asked_as.clone().unwrap_or(own_name);
    let renamed =
        |own_name: String| Ok(Copied { directory: directory.clone(), renamed: Some((own_name, name.clone())) });
    match (destination.exists, destination.is_directory, source.is_directory) {
        (true, true, _) => Ok(Copied { directory: destination.path.clone(), renamed: None }),
        (true, false, true) => Err(CliError::message("cannot copy directory")),
        (false, _, false) if means_directory(&destination.path) => Err(CliError::message("no such directory")),
        _ => renamed(own_name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(path: &str, exists: bool, is_directory: bool) -> Place {
        Place { path: path.to_owned(), exists, is_directory, asked_as: None }
    }

    #[test]
    fn a_destination_decides_what_the_copy_is_called() {
        let file = place("/s/file", true, false);
        let directory = place("/s/dir", true, true);
        let content = place("/s/dir/.", true, true);
        let check = |source: &Place, destination: Place| plan(source, &destination).map_err(|error| error.to_string());
        let to = |directory: &str, renamed: Option<(&str, &str)>| {
            let renamed = renamed.map(|(from, to)| (from.to_owned(), to.to_owned()));
            Ok(Copied { directory: directory.to_owned(), renamed })
        };
        assert_eq!(check(&file, place("/d", true, true)), to("/d", None));
        assert_eq!(check(&file, place("/d/new", false, false)), to("/d", Some(("file", "new"))));
        assert_eq!(check(&file, place("/d/old", true, false)), to("/d", Some(("file", "old"))));
        assert_eq!(check(&file, place("/d/new/", false, false)), Err("no such directory".to_owned()));
        assert_eq!(check(&directory, place("/d/old", true, false)), Err("cannot copy directory".to_owned()));
        assert_eq!(check(&directory, place("/d/new", false, false)), to("/d", Some(("dir", "new"))));
        assert_eq!(check(&directory, place("/d", true, true)), to("/d", None));
        assert_eq!(check(&content, place("/d/new", false, false)), to("/d", Some((".", "new"))));
    }
}
