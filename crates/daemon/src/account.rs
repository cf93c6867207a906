//! The user as which a daemon without privileges runs: known by umldir, which lets it in, and become by umlweb.

use nix::unistd::{Gid, Uid, User, setgroups, setresgid, setresuid};
use rustix::thread::set_no_new_privs;
use std::io;

/// A user of the host and its main group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Account {
    uid: Uid,
    gid: Gid,
}

impl Account {
    /// The user with this name; None if the host has none, or cannot tell.
    pub fn find(name: &str) -> Option<Account> {
        let User { uid, gid, .. } = User::from_name(name).ok()??;
        Some(Account { uid, gid })
    }

    /// The number of the user.
    pub fn uid(&self) -> u32 {
        self.uid.as_raw()
    }

    /// The number of its main group.
    pub fn gid(&self) -> u32 {
        self.gid.as_raw()
    }

    /// Makes this process one of the user, for good: without other groups, and no program that it starts can have more.
    /// Called by root, before there is a second thread.
    ///
    /// # Errors
    /// If that is not permitted, or the user is root.
    pub fn become_it(&self) -> io::Result<()> {
        if self.uid.is_root() {
            return Err(io::Error::other("it is root"));
        }
        setgroups(&[])?;
        setresgid(self.gid, self.gid, self.gid)?;
        setresuid(self.uid, self.uid, self.uid)?;
        Ok(set_no_new_privs(true)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_known_by_name() {
        assert_eq!(Account::find("root").unwrap().uid(), 0);
        assert_eq!(Account::find("no such user"), None);
        assert!(Account::find("root").unwrap().become_it().is_err());
    }
}
