//! The group of unix sockets, looked up in `/etc/group` and nowhere else.

use crate::listen::ListenError;
use crate::settings::SocketGroup;

/// The group that may use Docker's socket on most hosts.
const USUAL: &str = "docker";

/// Finds the group's number; `None` if only the usual one was meant and it does not exist.
pub fn find(group: &SocketGroup) -> Result<Option<u32>, ListenError> {
    let text = std::fs::read_to_string("/etc/group").unwrap_or_default();
    match group {
        SocketGroup::Usual => Ok(gid_of(&text, USUAL)),
        SocketGroup::Named(name) => match name.parse().ok().or_else(|| gid_of(&text, name)) {
            Some(gid) => Ok(Some(gid)),
            None => Err(ListenError::NoSuchGroup(name.clone())),
        },
    }
}

fn gid_of(text: &str, name: &str) -> Option<u32> {
    text.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(name)).then(|| fields.nth(1)?.parse().ok()).flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_found_by_name() {
        let text = "root:x:0:\ndocker:x:998:me,you\nbad\n";
        assert_eq!(gid_of(text, "docker"), Some(998));
        assert_eq!(gid_of(text, "bad"), None);
        assert_eq!(gid_of(text, "nobody"), None);
    }
}
