//! Users and groups by the container's own files, never by the host's (B117).

use berth_oci::runtime::User;

use crate::EngineError;

/// A line of /etc/passwd, as far as it matters.
struct PasswdEntry<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
}

/// A line of /etc/group, as far as it matters.
struct GroupEntry<'a> {
    name: &'a str,
    gid: u32,
    members: &'a str,
}

/// Finds who `user[:group]` is. `extra` are groups added by name or number.
pub(crate) fn resolve(wanted: &str, extra: &[String], passwd: &str, group: &str) -> Result<User, EngineError> {
    let (user_text, group_text) = match wanted.split_once(':') {
        Some((user, group)) => (user, Some(group).filter(|text| !text.is_empty())),
        None => (wanted, None),
    };
    let user_text = if user_text.is_empty() { "0" } else { user_text };
    let entry = find_user(user_text, passwd);
    let (uid, own_gid) = match (&entry, user_text.parse::<u32>()) {
        (Some(entry), _) => (entry.uid, entry.gid),
        (None, Ok(uid)) => (uid, 0),
        (None, Err(_)) => {
            return Err(EngineError::invalid(format!(
                "unable to find user {user_text}: no matching entries in passwd file"
            )));
        }
    };
    let gid = group_text.map_or(Ok(own_gid), |text| find_gid(text, group))?;
    let mut additional_gids: Vec<u32> = match (&entry, group_text) {
        (Some(entry), None) => groups(group).filter(|g| is_member(g, entry.name)).map(|g| g.gid).collect(),
        _ => Vec::new(),
    };
    // The kernel does not add it by itself, and programs expect to find it in the list.
    if group_text.is_none() && !additional_gids.contains(&gid) {
        additional_gids.insert(0, gid);
    }
    for text in extra {
        let gid = find_gid(text, group)?;
        if !additional_gids.contains(&gid) {
            additional_gids.push(gid);
        }
    }
    Ok(User { uid, gid, umask: None, additional_gids })
}

fn find_user<'a>(text: &str, passwd: &'a str) -> Option<PasswdEntry<'a>> {
    let number = text.parse::<u32>().ok();
    let mut by_number = None;
    for entry in passwd.lines().filter_map(passwd_entry) {
        if entry.name == text {
            return Some(entry);
        }
        if by_number.is_none() && Some(entry.uid) == number {
            by_number = Some(entry);
        }
    }
    by_number
}

fn find_gid(text: &str, group: &str) -> Result<u32, EngineError> {
    if let Some(entry) = groups(group).find(|entry| entry.name == text) {
        return Ok(entry.gid);
    }
    text.parse()
        .map_err(|_| EngineError::invalid(format!("unable to find group {text}: no matching entries in group file")))
}

fn passwd_entry(line: &str) -> Option<PasswdEntry<'_>> {
    let mut fields = line.split(':');
    let name = fields.next().filter(|name| !name.is_empty())?;
    let (uid, gid) = (fields.nth(1)?.parse().ok()?, fields.next()?.parse().ok()?);
    Some(PasswdEntry { name, uid, gid })
}

fn groups(group: &str) -> impl Iterator<Item = GroupEntry<'_>> {
    group.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        let gid = fields.nth(1)?.parse().ok()?;
        Some(GroupEntry { name, gid, members: fields.next().unwrap_or_default() })
    })
}

fn is_member(group: &GroupEntry<'_>, user: &str) -> bool {
    group.members.split(',').any(|member| member == user)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nwww:x:33:33::/var/www:/bin/sh\nbroken\n:x:1:1\n42:x:7:8::/:\n";
    const GROUP: &str = "root:x:0:\nwww:x:33:\ndisk:x:6:www,root\naudio:x:29:www\n";

    fn check(wanted: &str, expected: (u32, u32, &[u32])) {
        let user = resolve(wanted, &[], PASSWD, GROUP).expect(wanted);
        assert_eq!((user.uid, user.gid, &user.additional_gids[..]), expected, "{wanted}");
    }

    #[test]
    fn users_are_found_by_name_and_number() {
        check("", (0, 0, &[0, 6]));
        check("www", (33, 33, &[33, 6, 29]));
        check("33", (33, 33, &[33, 6, 29]));
        check("www:disk", (33, 6, &[]));
        check("www:77", (33, 77, &[]));
        check("1000", (1000, 0, &[0]));
        check("1000:1000", (1000, 1000, &[]));
        // A name of digits wins over the number.
        check("42", (7, 8, &[8]));
    }

    #[test]
    fn unknown_ones_are_refused_in_docker_s_words() {
        let message =
            |wanted: &str, extra: &[String]| resolve(wanted, extra, PASSWD, GROUP).expect_err(wanted).to_string();
        assert_eq!(message("nobody", &[]), "unable to find user nobody: no matching entries in passwd file");
        assert_eq!(message("www:nogroup", &[]), "unable to find group nogroup: no matching entries in group file");
        let extra = ["nogroup".to_owned()];
        assert_eq!(message("www", &extra), "unable to find group nogroup: no matching entries in group file");
    }
}
