//! What a token is asked for, and what it allows: `repository:NAME:pull,push`.

use serde::{Deserialize, Serialize};

use crate::{auth::rules::Action, names::RepositoryName};

/// Access to one thing, as tokens carry it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Access {
    /// `repository` or `registry`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Of which.
    pub name: String,
    /// What may be done.
    pub actions: Vec<String>,
}

impl Access {
    /// Whether it allows this.
    pub fn allows(&self, repository: &RepositoryName, action: Action) -> bool {
        self.kind == "repository"
            && self.name == repository.as_str()
            && self.actions.iter().any(|word| word == action.word() || word == "*")
    }

    /// Whether it lets repositories be listed.
    pub fn allows_catalog(&self) -> bool {
        self.kind == "registry" && self.name == "catalog"
    }
}

/// Reads scopes, several of which may be in one text, separated by spaces. What is not understood is left out, and so not allowed.
pub fn parse<'a>(texts: impl Iterator<Item = &'a str>) -> Vec<Access> {
    texts.flat_map(|text| text.split(' ')).filter_map(one).collect()
}

fn one(text: &str) -> Option<Access> {
    // A name may have a colon in it: a host with its port.
    let (kind, rest) = text.split_once(':')?;
    let (name, actions) = rest.rsplit_once(':')?;
    let kind = kind.split('(').next()?;
    let actions = actions.split(',').filter(|word| !word.is_empty()).map(str::to_owned).collect();
    Some(Access { kind: kind.to_owned(), name: name.to_owned(), actions })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_are_read() {
        let found = parse(["repository:a/b:pull,push repository:c:pull", "registry:catalog:*", "nonsense"].into_iter());
        let names: Vec<&str> = found.iter().map(|access| access.name.as_str()).collect();
        assert_eq!(names, ["a/b", "c", "catalog"]);
        let repository = "a/b".parse().expect("a name");
        assert!(found[0].allows(&repository, Action::Push) && !found[0].allows(&repository, Action::Delete));
        assert!(!found[1].allows(&repository, Action::Pull) && found[2].allows_catalog());
    }
}
