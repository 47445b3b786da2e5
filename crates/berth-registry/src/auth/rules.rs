//! What users may do to which repositories.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::names::RepositoryName;

/// Something that is done to a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// Reading.
    Pull,
    /// Writing.
    Push,
    /// Removing.
    Delete,
}

impl Action {
    /// All there are.
    pub const ALL: [Action; 3] = [Action::Pull, Action::Push, Action::Delete];

    /// The word in scopes and in the configuration.
    pub fn word(self) -> &'static str {
        match self {
            Action::Pull => "pull",
            Action::Push => "push",
            Action::Delete => "delete",
        }
    }
}

/// One line of the configuration: these may do that there. Whatever no line allows is not allowed.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Names of users; `@name` for a group, `*` for everybody who has logged in, `anonymous` for everybody.
    pub users: Vec<String>,
    /// Patterns of repositories: `*` is anything but `/`, `**` is anything.
    pub repositories: Vec<String>,
    /// What they may do.
    pub actions: Vec<Action>,
}

/// All rules.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    lines: Vec<Rule>,
    groups: BTreeMap<String, Vec<String>>,
    anonymous_read: bool,
}

impl Rules {
    /// Rules of a configuration. Without any line, whoever has logged in may do everything.
    pub fn new(lines: Vec<Rule>, groups: BTreeMap<String, Vec<String>>, anonymous_read: bool) -> Self {
        Self { lines, groups, anonymous_read }
    }

    /// Whether somebody, or nobody known, may do this.
    pub fn allow(&self, user: Option<&str>, repository: &RepositoryName, action: Action) -> bool {
        if self.anonymous_read && action == Action::Pull {
            return true;
        }
        if self.lines.is_empty() {
            return user.is_some();
        }
        self.lines.iter().any(|line| {
            line.actions.contains(&action)
                && line.users.iter().any(|name| self.names(name, user))
                && line.repositories.iter().any(|pattern| fits(pattern.as_bytes(), repository.as_str().as_bytes()))
        })
    }

    /// Whether anything at all is open to people without a password.
    pub fn welcome_strangers(&self) -> bool {
        self.anonymous_read || self.lines.iter().any(|line| line.users.iter().any(|name| name == "anonymous"))
    }

    fn names(&self, name: &str, user: Option<&str>) -> bool {
        match (name, user) {
            ("anonymous", _) => true,
            (_, None) => false,
            ("*", Some(_)) => true,
            (name, Some(user)) => match name.strip_prefix('@') {
                Some(group) => self.groups.get(group).is_some_and(|members| members.iter().any(|m| m == user)),
                None => name == user,
            },
        }
    }
}

/// Whether a pattern fits a name.
fn fits(pattern: &[u8], name: &[u8]) -> bool {
    match pattern {
        [] => name.is_empty(),
        [b'*', b'*', rest @ ..] => (0..=name.len()).any(|n| fits(rest, &name[n..])),
        [b'*', rest @ ..] => {
            let end = name.iter().position(|b| *b == b'/').unwrap_or(name.len());
            (0..=end).any(|n| fits(rest, &name[n..]))
        }
        [first, rest @ ..] => name.split_first().is_some_and(|(byte, tail)| byte == first && fits(rest, tail)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> RepositoryName {
        text.parse().expect("a name")
    }

    #[test]
    fn patterns_know_parts() {
        for (pattern, text, expected) in [
            ("*", "a", true),
            ("*", "a/b", false),
            ("**", "a/b/c", true),
            ("team/*", "team/x", true),
            ("team/*", "team/x/y", false),
            ("team/**", "team/x/y", true),
            ("team/**", "team", false),
            ("*-dev", "x-dev", true),
            ("*-dev", "x-prod", false),
            ("a", "ab", false),
        ] {
            assert_eq!(fits(pattern.as_bytes(), text.as_bytes()), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn only_what_a_line_allows_is_allowed() {
        let line = |users: &[&str], repositories: &str, actions: &[Action]| Rule {
            users: users.iter().map(|&user| user.to_owned()).collect(),
            repositories: vec![repositories.to_owned()],
            actions: actions.to_vec(),
        };
        let lines = vec![
            line(&["anonymous"], "public/**", &[Action::Pull]),
            line(&["*"], "**", &[Action::Pull]),
            line(&["ci", "@team"], "team/*", &Action::ALL),
        ];
        let groups = BTreeMap::from([("team".to_owned(), vec!["ann".to_owned()])]);
        let rules = Rules::new(lines, groups, false);
        for (user, repository, action, expected) in [
            (None, "public/a/b", Action::Pull, true),
            (None, "public/a", Action::Push, false),
            (None, "team/a", Action::Pull, false),
            (Some("bob"), "team/a", Action::Pull, true),
            (Some("bob"), "team/a", Action::Push, false),
            (Some("ci"), "team/a", Action::Push, true),
            (Some("ann"), "team/a", Action::Delete, true),
            (Some("ann"), "other", Action::Push, false),
            (Some("anonymous"), "team/a", Action::Push, false),
        ] {
            assert_eq!(rules.allow(user, &name(repository), action), expected, "{user:?} {repository} {action:?}");
        }
    }

    #[test]
    fn without_lines_a_login_is_enough() {
        let rules = Rules::new(Vec::new(), BTreeMap::new(), true);
        assert!(rules.allow(Some("ann"), &name("a"), Action::Delete));
        assert!(rules.allow(None, &name("a"), Action::Pull));
        assert!(!rules.allow(None, &name("a"), Action::Push));
    }
}
