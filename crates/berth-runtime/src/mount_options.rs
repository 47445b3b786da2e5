//! Mount options as fstab writes them, told apart: attributes, propagation, and what the file system itself reads.

use berth_sys::mount::{Attributes, Depth, Propagation};

/// The options of one mount, sorted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct MountOptions {
    /// Present for a bind mount.
    pub(crate) bind: Option<Bind>,
    /// Attributes of the mount itself.
    pub(crate) own: Change,
    /// Attributes of the whole tree (`rro` and its like).
    pub(crate) tree: Change,
    /// How mounts pass through, in the order given.
    pub(crate) propagation: Vec<(Propagation, Reach)>,
    /// Fill the new tmpfs with what was there.
    pub(crate) copy_up: bool,
    /// Map owners through a user namespace.
    pub(crate) idmap: Option<Bind>,
    /// Options of the file system.
    pub(crate) data: Vec<String>,
}

/// How much is bound or mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bind {
    /// `bind`, `idmap`: the one mount.
    One,
    /// `rbind`, `ridmap`: and all below.
    All,
}

/// How far a propagation word reaches.
pub(crate) type Reach = Bind;

impl Bind {
    pub(crate) fn depth(self) -> Depth {
        match self {
            Bind::One => Depth::Single,
            Bind::All => Depth::Tree,
        }
    }
}

/// Attributes to clear, then to set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) clear: Attributes,
    pub(crate) set: Attributes,
}

impl Change {
    fn clears(attributes: Attributes) -> Change {
        Change { clear: attributes, set: Attributes::NONE }
    }

    fn sets(attributes: Attributes) -> Change {
        Change { clear: Attributes::NONE, set: attributes }
    }

    /// Access times are one choice of several: the earlier choice is taken back.
    fn keeps_atime(choice: Attributes) -> Change {
        Change { clear: Attributes::ATIME, set: choice }
    }

    /// A later option wins over an earlier one.
    fn then(self, later: Change) -> Change {
        Change {
            clear: self.clear.without(later.set).union(later.clear),
            set: self.set.without(later.clear).union(later.set),
        }
    }

    /// Whether nothing changes.
    pub(crate) fn is_empty(self) -> bool {
        self == Change::default()
    }
}

/// What one word says.
enum Word {
    Own(Change),
    Tree(Change),
    Propagation(Propagation, Reach),
    Bind(Bind),
    Idmap(Bind),
    CopyUp,
    /// A flag of the file system as a whole, which fsconfig(2) takes by name.
    Filesystem,
    /// Says what is so anyway, or what has had no effect for years.
    Nothing,
}

/// Every word that is not passed to the file system, for `features`.
pub(crate) const KNOWN_WORDS: &[&str] = &[
    "async",
    "atime",
    "bind",
    "defaults",
    "dev",
    "diratime",
    "dirsync",
    "exec",
    "idmap",
    "iversion",
    "lazytime",
    "loud",
    "mand",
    "noatime",
    "nodev",
    "nodiratime",
    "noexec",
    "noiversion",
    "nolazytime",
    "nomand",
    "norelatime",
    "nostrictatime",
    "nosuid",
    "nosymfollow",
    "private",
    "ratime",
    "rbind",
    "rdev",
    "rdiratime",
    "relatime",
    "remount",
    "rexec",
    "ridmap",
    "rnoatime",
    "rnodev",
    "rnodiratime",
    "rnoexec",
    "rnorelatime",
    "rnostrictatime",
    "rnosuid",
    "rnosymfollow",
    "ro",
    "rprivate",
    "rrelatime",
    "rro",
    "rrw",
    "rshared",
    "rslave",
    "rstrictatime",
    "rsuid",
    "rsymfollow",
    "runbindable",
    "rw",
    "shared",
    "silent",
    "slave",
    "strictatime",
    "suid",
    "symfollow",
    "sync",
    "tmpcopyup",
    "unbindable",
];

impl MountOptions {
    /// Sorts options; `kind` is the mount's type, of which `bind` alone makes a bind mount.
    pub(crate) fn parse(kind: &str, options: &[String]) -> MountOptions {
        let mut parsed = MountOptions::default();
        if kind == "bind" {
            parsed.bind = Some(Bind::One);
        }
        for option in options {
            parsed.add(option);
        }
        parsed
    }

    fn add(&mut self, option: &str) {
        match word(option) {
            Some(Word::Own(change)) => self.own = self.own.then(change),
            Some(Word::Tree(change)) => self.tree = self.tree.then(change),
            Some(Word::Propagation(propagation, reach)) => self.propagation.push((propagation, reach)),
            Some(Word::Bind(bind)) if self.bind != Some(Bind::All) => self.bind = Some(bind),
            Some(Word::Idmap(idmap)) => self.idmap = Some(idmap),
            Some(Word::CopyUp) => self.copy_up = true,
            Some(Word::Bind(_) | Word::Nothing) => {}
            // A file system reads its own words; for a bind mount there is nobody to read them.
            Some(Word::Filesystem) | None => self.data.push(option.to_owned()),
        }
    }
}

fn word(option: &str) -> Option<Word> {
    if let Some(propagation) = propagation(option) {
        return Some(propagation);
    }
    if let Some(change) = attribute(option) {
        return Some(Word::Own(change));
    }
    // `rw`, `ro` and `relatime` begin with an r of their own and were found above.
    if let Some(change) = option.strip_prefix('r').and_then(attribute) {
        return Some(Word::Tree(change));
    }
    Some(match option {
        "bind" => Word::Bind(Bind::One),
        "rbind" => Word::Bind(Bind::All),
        "idmap" => Word::Idmap(Bind::One),
        "ridmap" => Word::Idmap(Bind::All),
        "tmpcopyup" => Word::CopyUp,
        "sync" | "dirsync" | "lazytime" | "mand" => Word::Filesystem,
        "async" | "defaults" | "loud" | "silent" | "remount" | "nolazytime" | "nomand" | "iversion" | "noiversion" => {
            Word::Nothing
        }
        _ => return None,
    })
}

fn attribute(option: &str) -> Option<Change> {
    Some(match option {
        "ro" => Change::sets(Attributes::READ_ONLY),
        "rw" => Change::clears(Attributes::READ_ONLY),
        "nosuid" => Change::sets(Attributes::NO_SUID),
        "suid" => Change::clears(Attributes::NO_SUID),
        "nodev" => Change::sets(Attributes::NO_DEV),
        "dev" => Change::clears(Attributes::NO_DEV),
        "noexec" => Change::sets(Attributes::NO_EXEC),
        "exec" => Change::clears(Attributes::NO_EXEC),
        "nodiratime" => Change::sets(Attributes::NO_DIR_ATIME),
        "diratime" => Change::clears(Attributes::NO_DIR_ATIME),
        "nosymfollow" => Change::sets(Attributes::NO_SYMFOLLOW),
        "symfollow" => Change::clears(Attributes::NO_SYMFOLLOW),
        "noatime" => Change::keeps_atime(Attributes::NO_ATIME),
        "strictatime" | "norelatime" => Change::keeps_atime(Attributes::STRICT_ATIME),
        "atime" | "relatime" | "nostrictatime" => Change::keeps_atime(Attributes::NONE),
        _ => return None,
    })
}

fn propagation(option: &str) -> Option<Word> {
    let one = match option {
        "shared" | "rshared" => Propagation::Shared,
        "slave" | "rslave" => Propagation::Slave,
        "private" | "rprivate" => Propagation::Private,
        "unbindable" | "runbindable" => Propagation::Unbindable,
        _ => return None,
    };
    Some(Word::Propagation(one, if option.starts_with('r') { Bind::All } else { Bind::One }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(kind: &str, options: &str) -> MountOptions {
        let options: Vec<String> = options.split(',').map(str::to_owned).collect();
        MountOptions::parse(kind, &options)
    }

    #[test]
    fn the_later_option_wins() {
        let options = parse("tmpfs", "ro,noexec,rw,nosuid,size=64m,mode=755");
        assert_eq!(options.own.set, Attributes::NO_EXEC.union(Attributes::NO_SUID));
        assert_eq!(options.own.clear, Attributes::READ_ONLY);
        assert_eq!(options.data, ["size=64m", "mode=755"]);
    }

    #[test]
    fn access_times_are_one_choice() {
        let options = parse("tmpfs", "noatime,strictatime,nodiratime");
        assert_eq!(options.own.set, Attributes::STRICT_ATIME.union(Attributes::NO_DIR_ATIME));
        assert!(options.own.clear.contains(Attributes::NO_ATIME));
        assert_eq!(parse("tmpfs", "relatime").own.set, Attributes::NONE);
    }

    #[test]
    fn binds_are_known_by_type_or_option() {
        assert_eq!(parse("bind", "ro").bind, Some(Bind::One));
        assert_eq!(parse("none", "rbind,rprivate").bind, Some(Bind::All));
        assert_eq!(parse("bind", "rbind,bind").bind, Some(Bind::All));
        assert_eq!(parse("", "nodev").bind, None);
    }

    #[test]
    fn words_with_an_r_reach_the_whole_tree() {
        let options = parse("bind", "rbind,rro,rnosuid,rslave,slave");
        assert_eq!(options.tree.set, Attributes::READ_ONLY.union(Attributes::NO_SUID));
        assert!(options.own.is_empty());
        assert_eq!(options.propagation, [(Propagation::Slave, Bind::All), (Propagation::Slave, Bind::One)]);
    }

    #[test]
    fn every_known_word_is_understood() {
        for known in KNOWN_WORDS {
            assert!(word(known).is_some(), "{known}");
        }
    }
}
