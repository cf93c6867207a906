//! The users and groups of the guest, from its files: a static program has no other sources of them (umlguest).

use std::fs;
use std::io;
use std::path::PathBuf;

/// What passwd(5) says about a user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) name: String,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Of group(5), with that of passwd(5).
    pub(crate) groups: Vec<u32>,
    pub(crate) home: PathBuf,
    pub(crate) shell: PathBuf,
}

impl User {
    /// Root, as far as the files do not say more.
    fn root() -> User {
        User {
            name: "root".into(),
            uid: 0,
            gid: 0,
            groups: vec![0],
            home: "/root".into(),
            shell: "/bin/sh".into(),
        }
    }

    /// Looks a user up by name or number. Root exists even if the guest has no such files.
    ///
    /// # Errors
    /// If a file cannot be read, or the user is not in it.
    pub(crate) fn find(wanted: &str) -> io::Result<User> {
        let read = |path| match fs::read_to_string(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
            read => read,
        };
        let (passwd, group) = (read("/etc/passwd")?, read("/etc/group")?);
        let found = user(wanted, &passwd, &group);
        let root = || (wanted == "root" || wanted == "0").then(User::root);
        found
            .or_else(root)
            .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "there is no such user"))
    }
}

fn user(wanted: &str, passwd: &str, group: &str) -> Option<User> {
    let mut users = passwd.lines().filter_map(|line| {
        let fields: Vec<_> = line.split(':').collect();
        let [name, _, uid, gid, _, home, shell] = fields[..] else {
            return None;
        };
        Some(User {
            name: name.into(),
            uid: uid.parse().ok()?,
            gid: gid.parse().ok()?,
            groups: Vec::new(),
            home: home.into(),
            shell: shell.into(),
        })
    });
    let mut user = users.find(|user| user.name == wanted || user.uid.to_string() == wanted)?;
    user.groups = group
        .lines()
        .filter_map(|line| {
            let fields: Vec<_> = line.split(':').collect();
            let [_, _, gid, members] = fields[..] else {
                return None;
            };
            let is_member = members.split(',').any(|member| member == user.name);
            is_member.then(|| gid.parse().ok()).flatten()
        })
        .chain([user.gid])
        .collect();
    Some(user)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str =
        "root:x:0:0:root:/root:/bin/bash\nbroken\nfx:x:1000:1001:F:/home/fx:/bin/sh\n";
    const GROUP: &str = "root:x:0:\naudio:x:29:fx,root\nfx:x:1001:\nodd\nfxx:x:7:fxx\n";

    #[test]
    fn a_user_is_found_by_name_and_by_number_with_all_groups() {
        let fx = user("fx", PASSWD, GROUP).unwrap();
        assert_eq!((fx.uid, &fx.groups[..]), (1000, &[29, 1001][..]));
        assert_eq!(user("1000", PASSWD, GROUP), Some(fx));
        assert_eq!(user("broken", PASSWD, GROUP), None);
    }
}
