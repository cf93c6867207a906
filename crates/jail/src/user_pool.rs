//! The user IDs of VMs with `vmuser = auto`: each VM has one of its own from its first start until it is deleted. Used
//! by the monitor, before it becomes a daemon, and by umladmin.
//!
//! The number is in the file `uid` in the directory of the VM, which is root's, and goes with it. Who takes a number
//! holds the lock on `VARDIR/.user_pool` meanwhile, and reads the files of all VMs.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use nix::unistd::{Gid, Group, Uid, User};
use rustix::fs::{self as at, Dir, FlockOperation, Mode, OFlags};

use crate::directories::open_path;
use crate::{Account, Error, Result};

/// The file in the directory of a VM. No other program writes it.
const RECORD: &str = "uid";
/// The file that becomes it.
const DRAFT: &str = "uid.new";
/// No VM has a name that begins with a dot.
const LOCK: &str = ".user_pool";
/// What users can give to containers of theirs, subuid(5).
const SUBORDINATE: [&str; 2] = ["/etc/subuid", "/etc/subgid"];
/// The longest record, in bytes.
const MAX_RECORD: u64 = 16;

/// The numbers from which VMs get theirs.
#[derive(Clone, Debug)]
pub struct UserPool {
    /// The data directory, in which each VM has a directory.
    pub vardir: PathBuf,
    /// The first number.
    pub first: u32,
    /// The last number.
    pub last: u32,
}

impl UserPool {
    /// The account of a VM whose directory exists: of this user, or without one of a number
    /// that it has, or gets now.
    ///
    /// # Errors
    /// As [`Account::resolve`]; if the number of the VM belongs to somebody else by now, or if there is none left.
    pub fn account(
        &self,
        vm: &str,
        vmuser: Option<&str>,
        vmgroup: Option<&str>,
    ) -> Result<Account> {
        match vmuser {
            Some(vmuser) => Account::resolve(vmuser, vmgroup),
            None => self.take(vm, vmgroup),
        }
    }

    /// The number that a VM has, if it has one; for those who only look. The files are readable by all users.
    ///
    /// # Errors
    /// A record that cannot be read.
    pub fn recorded(&self, vm: &str) -> Result<Option<u32>> {
        let path = self.vardir.join(vm);
        match File::open(&path) {
            Ok(directory) => read(&directory.into(), &path.join(RECORD)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(Error::Read { path, source }),
        }
    }

    /// The number that the VM has, or one that it gets now. Its group is `vmgroup`, or the one of the same number.
    fn take(&self, vm: &str, vmgroup: Option<&str>) -> Result<Account> {
        let directory = open_path(&self.vardir, 0o755)?;
        let _lock = self.lock(&directory)?;
        let mut others = self.records(&directory)?;
        let own = others.remove(vm);
        let subordinate = subordinate()?;
        let owner = |uid: u32| {
            let other = others.iter().find(|(_, other)| **other == uid);
            let vm = other.map(|(other, _)| format!("the VM {other}"));
            let found = vm.or_else(|| subordinate_owner(&subordinate, uid));
            found.map_or_else(|| known(uid), |owner| Ok(Some(owner)))
        };
        if let Some(uid) = own {
            return match owner(uid)? {
                None => Account::resolve(&uid.to_string(), vmgroup),
                Some(owner) => Err(Error::TakenUser {
                    uid,
                    vm: vm.to_owned(),
                    owner,
                    record: self.vardir.join(vm).join(RECORD),
                }),
            };
        }
        for uid in self.first..=self.last {
            if owner(uid)?.is_none() {
                let account = Account::resolve(&uid.to_string(), vmgroup)?;
                self.record(&directory, vm, uid)?;
                return Ok(account);
            }
        }
        Err(Error::EmptyUserPool {
            first: self.first,
            last: self.last,
        })
    }

    fn lock(&self, directory: &OwnedFd) -> Result<OwnedFd> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let locked = at::openat(directory, LOCK, flags, Mode::RUSR | Mode::WUSR).and_then(|file| {
            at::flock(&file, FlockOperation::LockExclusive)?;
            Ok(file)
        });
        locked.map_err(|error| Error::Record {
            path: self.vardir.join(LOCK),
            source: error.into(),
        })
    }

    /// The numbers of all VMs that have one.
    fn records(&self, directory: &OwnedFd) -> Result<BTreeMap<String, u32>> {
        let failed = |error: rustix::io::Errno| Error::Read {
            path: self.vardir.clone(),
            source: error.into(),
        };
        let mut records = BTreeMap::new();
        for entry in Dir::read_from(directory).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let Ok(vm) = entry.file_name().to_str() else {
                continue;
            };
            if vm.starts_with('.') {
                continue;
            }
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let Ok(of_vm) = at::openat(directory, vm, flags, Mode::empty()) else {
                continue;
            };
            let path = self.vardir.join(vm).join(RECORD);
            if let Some(uid) = read(&of_vm, &path)? {
                records.insert(vm.to_owned(), uid);
            }
        }
        Ok(records)
    }

    /// After a crash there is the whole record, or none.
    fn record(&self, directory: &OwnedFd, vm: &str, uid: u32) -> Result<()> {
        let path = self.vardir.join(vm).join(RECORD);
        let written = || -> io::Result<()> {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let of_vm = at::openat(directory, vm, flags, Mode::empty())?;
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW;
            let mode = Mode::from(0o644);
            let mut file: File = at::openat(&of_vm, DRAFT, flags | OFlags::CLOEXEC, mode)?.into();
            file.write_all(format!("{uid}\n").as_bytes())?;
            file.sync_all()?;
            at::renameat(&of_vm, DRAFT, &of_vm, RECORD)?;
            Ok(at::fsync(&of_vm)?)
        };
        written().map_err(|source| Error::Record { path, source })
    }
}

/// The number in the record in the directory of a VM.
fn read(directory: &OwnedFd, path: &Path) -> Result<Option<u32>> {
    let failed = |source: io::Error| Error::Read {
        path: path.to_owned(),
        source,
    };
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match at::openat(directory, RECORD, flags, Mode::empty()) {
        Ok(file) => File::from(file),
        Err(rustix::io::Errno::NOENT) => return Ok(None),
        Err(error) => return Err(failed(error.into())),
    };
    let mut text = String::new();
    let read = file.take(MAX_RECORD).read_to_string(&mut text);
    read.map_err(failed)?;
    let uid = text.trim_end().parse().ok().filter(|uid| *uid > 0);
    let wrong = || io::Error::new(io::ErrorKind::InvalidData, "it is not a user ID");
    uid.map(Some).ok_or_else(|| failed(wrong()))
}

/// The user or group of this host that has this number.
fn known(id: u32) -> Result<Option<String>> {
    let failed = |error: nix::Error| Error::Lookup {
        name: id.to_string(),
        source: error.into(),
    };
    if let Some(user) = User::from_uid(Uid::from_raw(id)).map_err(failed)? {
        return Ok(Some(format!("the user {}", user.name)));
    }
    let group = Group::from_gid(Gid::from_raw(id)).map_err(failed)?;
    Ok(group.map(|group| format!("the group {}", group.name)))
}

/// A line of subuid(5): where it is, whose numbers these are, the first, and how many.
type Subordinate = (&'static str, String, u32, u32);

fn subordinate() -> Result<Vec<Subordinate>> {
    let mut found = Vec::new();
    for path in SUBORDINATE {
        match std::fs::read_to_string(path) {
            Ok(text) => found.extend(text.lines().filter_map(|line| subordinate_line(path, line))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => {
                let path = path.into();
                return Err(Error::Read { path, source });
            }
        }
    }
    Ok(found)
}

fn subordinate_line(path: &'static str, line: &str) -> Option<Subordinate> {
    let mut parts = line.split(':');
    let (name, first, count) = (parts.next()?, parts.next()?, parts.next()?);
    let count = count.trim().parse().ok()?;
    Some((path, name.to_owned(), first.parse().ok()?, count))
}

fn subordinate_owner(lines: &[Subordinate], id: u32) -> Option<String> {
    let has = |(_, _, first, count): &&Subordinate| id >= *first && id - first < *count;
    let (path, name, _, _) = lines.iter().find(has)?;
    Some(format!("{name} ({path})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subordinate_numbers_have_an_owner() {
        let line = |text| subordinate_line("/etc/subuid", text);
        let lines: Vec<_> = ["anna:100000:65536", "# no", "bert:1:x"]
            .into_iter()
            .filter_map(line)
            .collect();
        assert_eq!(lines.len(), 1);
        let owner = |id| subordinate_owner(&lines, id);
        assert_eq!(owner(165_535).unwrap(), "anna (/etc/subuid)");
        assert_eq!((owner(99_999), owner(165_536)), (None, None));
    }

    #[test]
    fn records_are_numbers() {
        let directory = tempfile::tempdir().unwrap();
        let pool = UserPool {
            vardir: directory.path().to_owned(),
            first: 70_000,
            last: 70_001,
        };
        assert_eq!(pool.recorded("vm1").unwrap(), None);
        let of_vm = directory.path().join("vm1");
        std::fs::create_dir(&of_vm).unwrap();
        assert_eq!(pool.recorded("vm1").unwrap(), None);
        for (text, expected) in [("70000\n", Some(70_000)), ("0\n", None), ("x", None)] {
            std::fs::write(of_vm.join(RECORD), text).unwrap();
            assert_eq!(pool.recorded("vm1").ok().flatten(), expected, "{text}");
        }
    }
}
