//! The user and the groups a virtual machine runs as, resolved to numbers by the monitor: the second process cannot
//! read the user database after the chroot.

use std::ffi::CString;
use std::os::fd::AsFd;
use std::path::Path;
use std::{fs, io};

use nix::unistd::{Gid, Group, Uid, User, getgrouplist};
use rustix::fs::Access;
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// A user that is not root, with the groups of its processes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// The name, for messages.
    pub name: String,
    /// The user ID, never 0.
    pub uid: u32,
    /// The main group: `vmgroup`, or the main group of the user.
    pub gid: u32,
    /// All groups the user is a member of.
    pub groups: Vec<u32>,
}

impl Account {
    /// Looks up `vmuser` and, if given, `vmgroup`. A number that is no name is that user, and its main group has the
    /// same number.
    ///
    /// # Errors
    /// Unknown user or group; a user with ID 0; a user database that does not answer.
    pub fn resolve(vmuser: &str, vmgroup: Option<&str>) -> Result<Self> {
        let failed = |name: &str, source: nix::Error| Error::Lookup {
            name: name.to_owned(),
            source: source.into(),
        };
        let known = User::from_name(vmuser).map_err(|error| failed(vmuser, error))?;
        // (uid_t)-1 is nobody's.
        let number = vmuser.parse().ok().filter(|number| *number != u32::MAX);
        let (uid, own_gid) = match (&known, number) {
            (Some(user), _) => (user.uid, user.gid),
            (None, Some(number)) => (Uid::from_raw(number), Gid::from_raw(number)),
            (None, None) => return Err(Error::NoUser(vmuser.to_owned())),
        };
        if uid.is_root() {
            return Err(Error::RootUser(vmuser.to_owned()));
        }
        let gid = match vmgroup {
            None => own_gid,
            Some(name) => {
                let group = Group::from_name(name).map_err(|error| failed(name, error))?;
                group.ok_or_else(|| Error::NoGroup(name.to_owned()))?.gid
            }
        };
        let Some(user) = known else {
            return Self {
                name: vmuser.to_owned(),
                uid: uid.as_raw(),
                gid: gid.as_raw(),
                groups: vec![gid.as_raw()],
            }
            .if_mapped();
        };
        let name = CString::new(user.name.clone()).map_err(|error| Error::Lookup {
            name: vmuser.to_owned(),
            source: io::Error::other(error),
        })?;
        let groups = getgrouplist(&name, user.gid).map_err(|error| failed(vmuser, error))?;
        Self {
            name: user.name,
            uid: user.uid.as_raw(),
            gid: gid.as_raw(),
            groups: groups.into_iter().map(Gid::as_raw).collect(),
        }
        .if_mapped()
    }

    /// Refuses numbers that do not exist in this user namespace, as in some containers: nothing can belong to them.
    fn if_mapped(self) -> Result<Self> {
        let groups = self.groups.iter().chain([&self.gid]);
        let all = groups.map(|gid| ("group", *gid, "/proc/self/gid_map"));
        for (what, id, map) in [("user", self.uid, "/proc/self/uid_map")]
            .into_iter()
            .chain(all)
        {
            // Without /proc nobody says that it is not.
            let known = fs::read_to_string(map).map_or(true, |map| maps(&map, id));
            if !known {
                return Err(Error::NotMapped {
                    user: self.name,
                    what,
                    id,
                    map,
                });
            }
        }
        Ok(self)
    }

    /// Asks the host's kernel whether the account may access `name` in a directory like this. Only root can ask.
    ///
    /// # Errors
    /// Why not, as faccessat(2).
    pub fn may_use(&self, directory: impl AsFd, name: &Path, access: Access) -> io::Result<()> {
        let user = sys::FileUser {
            uid: self.uid,
            gid: self.gid,
            groups: &self.groups,
        };
        user.may(access, directory, name)
    }

    /// Whether a file of this owner, group and mode gives the account the permission `bit` (4 read, 2 write, 1
    /// execute).
    pub fn may(&self, uid: u32, gid: u32, mode: u32, bit: u32) -> bool {
        let shift = if uid == self.uid {
            6
        } else if gid == self.gid || self.groups.contains(&gid) {
            3
        } else {
            0
        };
        mode >> shift & bit != 0
    }
}

/// Whether a map of user_namespaces(7) has this number: lines with the first number inside, outside, and how many.
fn maps(map: &str, id: u32) -> bool {
    map.lines().any(|line| {
        let mut numbers = line.split_whitespace().map(str::parse::<u64>);
        match (numbers.next(), numbers.nth(1)) {
            (Some(Ok(first)), Some(Ok(count))) => {
                (first..first.saturating_add(count)).contains(&u64::from(id))
            }
            _ => false,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolves_and_refuses() {
        let nobody = Account::resolve("nobody", None).unwrap();
        assert_ne!(nobody.uid, 0);
        assert!(nobody.groups.contains(&nobody.gid));
        assert_eq!(Account::resolve("nobody", Some("daemon")).unwrap().gid, 1);
        assert!(matches!(
            Account::resolve("root", None),
            Err(Error::RootUser(_))
        ));
        assert!(matches!(
            Account::resolve("no-such-user", None),
            Err(Error::NoUser(_))
        ));
        let numbered = Account::resolve("1879048200", None).unwrap();
        assert_eq!((numbered.uid, numbered.gid), (1_879_048_200, 1_879_048_200));
        assert_eq!(numbered.groups, [1_879_048_200]);
        assert!(Account::resolve("0", None).is_err());
        assert!(Account::resolve("4294967295", None).is_err());
        assert!(matches!(
            Account::resolve("nobody", Some("no-such-group")),
            Err(Error::NoGroup(_))
        ));
    }

    #[test]
    fn numbers_are_looked_up_in_the_map_of_the_namespace() {
        let all = "         0          0 4294967295\n";
        assert!(maps(all, 0) && maps(all, 65534));
        let container = "0 100000 1000\n2000 300000 1\n";
        assert!(maps(container, 999) && maps(container, 2000));
        assert!(!maps(container, 1000) && !maps(container, 65534) && !maps("", 0));
    }

    #[test]
    fn the_owner_is_judged_by_the_owner_bits_alone() {
        let account = Account {
            name: "u".to_owned(),
            uid: 7,
            gid: 8,
            groups: vec![9],
        };
        assert!(!account.may(7, 0, 0o077, 1));
        assert!(account.may(0, 9, 0o010, 1));
        assert!(!account.may(0, 8, 0o001, 1));
        assert!(account.may(0, 0, 0o001, 1));
    }
}
