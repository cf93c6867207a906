//! What a user may do with a file, as the host's kernel answers. Used by the monitor and by umladmin, as root.

use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use nix::unistd::{Gid, Uid, setfsgid, setfsuid};
use rustix::fs::{Access, AtFlags, accessat};
use rustix::io::Errno;
use rustix::process::getgroups;
use rustix::thread::set_thread_groups;

/// A user, as far as files are concerned.
#[derive(Clone, Copy, Debug)]
pub struct FileUser<'a> {
    /// The user's number.
    pub uid: u32,
    /// The main group.
    pub gid: u32,
    /// All others.
    pub groups: &'a [u32],
}

impl FileUser<'_> {
    /// Asks whether the user may access a file like this. A link at the end of the path is not followed. In a container
    /// that forbids the question, everything seems to be allowed.
    ///
    /// # Errors
    /// Why not, as faccessat(2); `EPERM` without root's privileges.
    pub fn may(&self, access: Access, directory: impl AsFd, path: &Path) -> io::Result<()> {
        let ask = |access| {
            // With the first flag, the identity for files counts.
            let flags = AtFlags::EACCESS | AtFlags::SYMLINK_NOFOLLOW;
            accessat(&directory, path, access, flags)
        };
        let answer = self.be(|| match ask(Access::EXISTS) {
            Err(Errno::PERM | Errno::NOSYS) => Ok(()),
            _ => ask(access),
        });
        Ok(answer??)
    }

    /// Calls `ask` while the calling thread has the rights of this user for files, and of root for everything else: it
    /// gets no signals of that user (setfsuid(2)). Other threads are not affected.
    fn be<T>(&self, ask: impl FnOnce() -> T) -> io::Result<T> {
        let former = Former {
            groups: getgroups()?,
        };
        let groups = self.groups.iter().copied();
        let groups: Vec<_> = groups.map(rustix::process::Gid::from_raw).collect();
        set_thread_groups(&groups)?;
        let (uid, gid) = (Uid::from_raw(self.uid), Gid::from_raw(self.gid));
        setfsgid(gid);
        setfsuid(uid);
        // They report nothing but the former value; this one is never valid.
        let none = u32::MAX;
        let now = (setfsuid(Uid::from_raw(none)), setfsgid(Gid::from_raw(none)));
        let result = match now == (uid, gid) {
            true => Ok(ask()),
            false => Err(Errno::PERM.into()),
        };
        drop(former);
        result
    }
}

/// What the thread was before; it is again when this is dropped.
struct Former {
    groups: Vec<rustix::process::Gid>,
}

impl Drop for Former {
    fn drop(&mut self) {
        setfsuid(Uid::effective());
        setfsgid(Gid::effective());
        // It had them a moment ago, and still has the privilege.
        let _ = set_thread_groups(&self.groups);
    }
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::{PermissionsExt as _, chown};

    use rustix::fs::CWD;

    use super::*;

    #[test]
    fn the_thread_has_the_rights_of_the_user_and_then_those_it_had() {
        if !Uid::effective().is_root() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        std::fs::set_permissions(dir.path(), Permissions::from_mode(0o700)).unwrap();
        let user = FileUser {
            uid: 65534,
            gid: 65534,
            groups: &[65534],
        };
        let may = || user.may(Access::READ_OK, CWD, dir.path()).is_ok();
        let before = getgroups().unwrap();
        for (owner, expected) in [(0, false), (65534, true), (1, false)] {
            chown(dir.path(), Some(owner), None).unwrap();
            assert_eq!(may(), expected, "{owner}");
            assert!(std::fs::read_dir(dir.path()).is_ok(), "root again");
        }
        assert_eq!(getgroups().unwrap(), before);
    }
}
