//! What can go wrong in the jail: one variant per thing that failed, worded for the administrator.

use std::io;
use std::path::PathBuf;

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// A refusal or a failure; the text names the thing, the reason and, where there is one, the remedy.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The configured user does not exist.
    #[error(
        "vmuser: there is no user {0}; create it (adduser --system {0}) or set vmuser to an existing user"
    )]
    NoUser(String),
    /// The configured group does not exist.
    #[error(
        "vmgroup: there is no group {0}; create it (addgroup --system {0}) or set vmgroup to an existing group"
    )]
    NoGroup(String),
    /// The configured user is root under some name.
    #[error(
        "vmuser: {0} has user ID 0; a virtual machine must not run as root, set vmuser to an ordinary user"
    )]
    RootUser(String),
    /// The user or group does not exist in the user namespace.
    #[error(
        "vmuser: the {what} ID {id} of {user} does not exist in this user namespace ({map}); map it, or set vmuser to a \
         user whose IDs are mapped"
    )]
    NotMapped {
        /// The user.
        user: String,
        /// "user" or "group".
        what: &'static str,
        /// The number.
        id: u32,
        /// The file that says which numbers exist.
        map: &'static str,
    },
    /// The number of a VM with `vmuser = auto` is also one of somebody else.
    #[error(
        "vmuser: the user ID {uid} of {vm} also belongs to {owner}; remove {record} and give the files in the jail of {vm} \
         to the user ID that it has after the next umladmin start"
    )]
    TakenUser {
        /// The number.
        uid: u32,
        /// The VM.
        vm: String,
        /// Who else has it, as "the user anna".
        owner: String,
        /// Where it is recorded that the VM has it.
        record: PathBuf,
    },
    /// No number is left for a VM with `vmuser = auto`.
    #[error(
        "vmuser: no user ID from {first} to {last} is free; enlarge user_pool in [GLOBAL], or set vmuser to a user"
    )]
    EmptyUserPool {
        /// The first number of the pool.
        first: u32,
        /// The last number of the pool.
        last: u32,
    },
    /// What is recorded about user IDs cannot be written.
    #[error("cannot write {path}: {source}")]
    Record {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The user database cannot be asked.
    #[error("cannot look up {name}: {source}")]
    Lookup {
        /// The user or group.
        name: String,
        /// Why.
        source: io::Error,
    },
    /// A configured directory is not an absolute path, or has `..` in it.
    #[error("{0} is not a usable directory name; give an absolute path without ..")]
    BadPath(PathBuf),
    /// A directory cannot be made or opened.
    #[error("cannot use directory {path}: {source}")]
    Directory {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Something else than a directory is in the way.
    #[error("{path} is {found}, not a directory; move it away")]
    NotDirectory {
        /// The path.
        path: PathBuf,
        /// What is there, as "a symbolic link".
        found: &'static str,
    },
    /// A user other than root could exchange what root works with.
    #[error(
        "{path} {problem}; root works there, so it must belong to root and be writable by root only (chown root {path}; chmod go-w {path})"
    )]
    Untrusted {
        /// The directory or symbolic link.
        path: PathBuf,
        /// What is wrong, as "belongs to user ID 1000".
        problem: String,
    },
    /// Somebody could have another directory shared than the configuration means.
    #[error(
        "{path} cannot be shared: {on_the_way} {problem}, who could exchange it; share a directory of which the path \
         belongs to its owner and root only"
    )]
    Unsafe {
        /// The directory to be shared.
        path: PathBuf,
        /// The directory or link in its path.
        on_the_way: PathBuf,
        /// What is wrong with it, as "belongs to user ID 1000".
        problem: String,
    },
    /// A directory that no guest may have.
    #[error(
        "{path} cannot be shared: {problem}; share a directory that has only what the guest needs"
    )]
    NotShared {
        /// The directory to be shared.
        path: PathBuf,
        /// Why not, as "it contains /etc/umlmon".
        problem: String,
    },
    /// A network namespace that somebody else is to make is not there.
    #[error(
        "there is no network namespace {0}; correct the path, or start the VM when it is there (ip netns add)"
    )]
    NoNamespace(PathBuf),
    /// A file is no network namespace that can be used.
    #[error(
        "{path} {problem}; give the file of a network namespace, as /run/netns/NAME or /proc/PID/ns/net"
    )]
    Namespace {
        /// The file.
        path: PathBuf,
        /// What is wrong, as "is a directory".
        problem: String,
    },
    /// A mount cannot be made or removed.
    #[error("cannot {what} {at}: {source}")]
    Mount {
        /// What was tried, as "mount a tmpfs on".
        what: &'static str,
        /// Where.
        at: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The kernel file does not exist in the jail.
    #[error(
        "kernel {0} does not exist in the jail; copy a User Mode Linux kernel there or correct the parameter kernel"
    )]
    NoKernel(PathBuf),
    /// The kernel, its loader or a library cannot be opened or read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file, as seen in the jail or on the host.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The kernel is a directory, a device or similar.
    #[error("kernel {path} is {found}, not a file")]
    NotFile {
        /// The kernel, as seen in the jail.
        path: PathBuf,
        /// What is there.
        found: &'static str,
    },
    /// The user of the virtual machine may not execute the kernel.
    #[error(
        "kernel {path} is not executable for user {user} (mode {mode:04o}); chmod 755 it and the directories above"
    )]
    NotExecutable {
        /// The kernel or a directory above it, as seen in the jail.
        path: PathBuf,
        /// The user.
        user: String,
        /// The permission bits.
        mode: u32,
    },
    /// No program can be executed where the kernel is.
    #[error(
        "kernel {0} is on a file system that is mounted noexec; remount it with exec or move the shared directory"
    )]
    NoExec(PathBuf),
    /// The file is no program.
    #[error("{path} is not a usable ELF program: {problem}")]
    NotElf {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The program is for another processor.
    #[error(
        "{path} is a program for {found}, this machine runs {expected}; use a kernel built for it"
    )]
    WrongArchitecture {
        /// The file.
        path: PathBuf,
        /// What the file is for.
        found: String,
        /// What is needed.
        expected: &'static str,
    },
    /// The kernel is larger than any real one.
    #[error(
        "kernel {path} has {size} bytes, more than a kernel can have ({limit}); use another file"
    )]
    TooLarge {
        /// The kernel, as seen in the jail.
        path: PathBuf,
        /// Its size in bytes.
        size: u64,
        /// The most that is allowed.
        limit: u64,
    },
    /// The program loader or a library of a dynamically linked kernel was not found.
    #[error(
        "kernel {kernel} is dynamically linked and needs {what} {name}, which is not in the library directories of this \
         host{}; install it{}, or use a static kernel",
        .beside.as_ref().map(|path| format!(", nor in {}", path.display())).unwrap_or_default(),
        .beside.as_ref().map(|_| " or put it there").unwrap_or_default()
    )]
    NoLibrary {
        /// The kernel, as seen in the jail.
        kernel: PathBuf,
        /// "the loader" or "the library".
        what: &'static str,
        /// Its name; of a loader, the path.
        name: String,
        /// The kernel's own library directory; only a kernel of root has one.
        beside: Option<PathBuf>,
    },
    /// What the process has said that reads files of others.
    #[error("{0}")]
    Reader(String),
    /// The reported result of an inspection is not valid.
    #[error("the process that looked at kernel {kernel} has told nonsense: {what}")]
    Nonsense {
        /// The kernel, as seen in the jail.
        kernel: PathBuf,
        /// What was wrong.
        what: &'static str,
    },
    /// A step of the privilege drop failed.
    #[error("cannot {step}: {source}")]
    Confine {
        /// The step, as "chroot".
        step: String,
        /// Why.
        source: io::Error,
    },
    /// The mounts of the jail cannot be separated from those of others.
    #[error(
        "cannot separate the mounts: / is not a mount point here, as in a plain chroot; \
         bind its directory on itself before (mount --rbind DIR DIR; chroot DIR)"
    )]
    RootIsNoMountPoint,
    /// After the privilege drop some privilege of root was left.
    #[error("the privilege drop did not work: {0}")]
    StillPrivileged(&'static str),
}

impl Error {
    /// A file or directory is missing, or a component of its path is no directory.
    pub(crate) fn is_missing(&self) -> bool {
        match self {
            Error::Directory { source, .. } => source.kind() == io::ErrorKind::NotFound,
            Error::NotDirectory { .. } => true,
            _ => false,
        }
    }
}
