//! Users and groups as the image's own files have them.

use std::fs;

/// Whom a process runs as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) groups: Vec<u32>,
    pub(crate) home: String,
    pub(crate) shell: String,
}

/// Resolves what a Dockerfile's USER may say: empty, `user`, `uid`, and `:group` or `:gid` behind it.
pub(crate) fn resolve(specification: &str) -> Result<User, String> {
    // An image need not have these files; numbers are all that can be used then.
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let group = fs::read_to_string("/etc/group").unwrap_or_default();
    resolve_in(specification, &passwd, &group)
}

fn resolve_in(specification: &str, passwd: &str, group: &str) -> Result<User, String> {
    let (name, group_name) = match specification.split_once(':') {
        Some((name, group)) => (name, Some(group)),
        None => (specification, None),
    };
    let name = if name.is_empty() { "0" } else { name };
    let row = passwd.lines().map(|line| line.split(':').collect::<Vec<_>>()).find(|row| {
        row.len() >= 7
            && (row[0] == name || name.parse().is_ok_and(|uid: u32| row[2].parse() == Ok(uid)))
    });
    let mut user = match (&row, name.parse::<u32>()) {
        (Some(row), _) => User {
            uid: row[2].parse().map_err(|_| format!("/etc/passwd: uid of {name}"))?,
            gid: row[3].parse().map_err(|_| format!("/etc/passwd: gid of {name}"))?,
            groups: groups_of(row[0], group),
            home: row[5].into(),
            shell: row[6].into(),
        },
        (None, Ok(uid)) => {
            let home = if uid == 0 { "/root" } else { "/" };
            User { uid, gid: 0, groups: vec![], home: home.into(), shell: "/bin/sh".into() }
        }
        (None, Err(_)) => return Err(format!("there is no user {name:?} in /etc/passwd")),
    };
    if let Some(name) = group_name {
        user.gid = group_id(name, group)?;
        user.groups.clear();
    }
    Ok(user)
}

fn groups_of(user: &str, group: &str) -> Vec<u32> {
    let member =
        |row: &&str| row.split(':').nth(3).is_some_and(|m| m.split(',').any(|n| n == user));
    group.lines().filter(member).filter_map(|row| row.split(':').nth(2)?.parse().ok()).collect()
}

fn group_id(name: &str, group: &str) -> Result<u32, String> {
    let row = group.lines().find(|row| row.split(':').next() == Some(name));
    match (name.parse(), row.and_then(|row| row.split(':').nth(2)?.parse().ok())) {
        (Ok(gid), _) | (Err(_), Some(gid)) => Ok(gid),
        (Err(_), None) => Err(format!("there is no group {name:?} in /etc/group")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/bash\nana:x:1000:1000::/home/ana:/bin/sh\n";
    const GROUP: &str = "root:x:0:\nana:x:1000:\ndocker:x:999:bob,ana\n";

    fn check(specification: &str, expected: Result<(u32, u32, &[u32], &str), ()>) {
        let user = resolve_in(specification, PASSWD, GROUP);
        let found =
            user.as_ref().map(|u| (u.uid, u.gid, &u.groups[..], &u.home[..])).map_err(|_| ());
        assert_eq!(found, expected, "{specification}");
    }

    #[test]
    fn a_user_is_what_docker_makes_of_it() {
        check("", Ok((0, 0, &[], "/root")));
        check("ana", Ok((1000, 1000, &[999], "/home/ana")));
        check("1000", Ok((1000, 1000, &[999], "/home/ana")));
        check("ana:docker", Ok((1000, 999, &[], "/home/ana")));
        check("4711", Ok((4711, 0, &[], "/")));
        check("4711:12", Ok((4711, 12, &[], "/")));
        check("eve", Err(()));
        check("ana:nobody", Err(()));
    }
}
