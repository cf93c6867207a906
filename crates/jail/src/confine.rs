//! THE PRIVILEGE DROP. [`Confinement::confine`] turns a fresh root process in its own namespaces into the ordinary user
//! in the jail; the monitor fills in a [`Confinement`] and sends it to its second process, which calls it once.
//! [`renounce`] is for a process that only reads a file, of umladmin.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::unistd::{Gid, Uid, chdir, chroot, fchdir, getgroups, getresgid, getresuid, setgroups};
use nix::unistd::{setresgid, setresuid, setsid, setuid};
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, chownat, fstat, makedev};
use rustix::fs::{mknodat, openat};
use rustix::io::Errno;
use rustix::mount::{MountPropagationFlags, UnmountFlags, mount_change, unmount};
use rustix::process::{DumpableBehavior, Resource, Rlimit, Signal, setpriority_process, setrlimit};
use rustix::process::{set_dumpable_behavior, set_parent_process_death_signal, umask};
use serde::{Deserialize, Serialize};
use sys::MountAttr;

use crate::mounts::beneath;
use crate::{
    Bind, Calls, Error, Place, Result, binds, directories, landlock, library, mounts, seccomp,
    share,
};

/// The number of the device (the kernel's Documentation/networking/tuntap.rst).
const TUN: (u32, u32) = (10, 200);

/// Everything the privilege drop needs, in numbers and paths: nothing is looked up after the chroot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confinement {
    /// The future root directory, on the host.
    pub jail: PathBuf,
    /// User ID, not 0.
    pub uid: u32,
    /// Main group ID.
    pub gid: u32,
    /// All group IDs of the user.
    pub groups: Vec<u32>,
    /// Files to bring into the jail.
    pub binds: Vec<Bind>,
    /// Whether the host's directories of libraries can be read, in `/tmp`.
    pub libraries: bool,
    /// Files and directories, relative to the jail, to cover with something empty. Missing ones are skipped.
    pub masks: Vec<PathBuf>,
    /// The numbers of shared directories; the directory [`crate::SHARES`] exists if there are any.
    pub shares: Vec<u8>,
    /// Whether `/dev/net/tun` is provided, for this process and the kernel only. The directory above it exists.
    pub tun: bool,
    /// How the kernel is scheduled; `None` leaves it as it is.
    pub scheduler: Option<Scheduler>,
    /// On which processors of the host it runs; `None` leaves that as it is.
    pub place: Option<Place>,
    /// Resource limits.
    pub limits: Limits,
    /// Files of control groups, on the host, by which this process joins them.
    pub groups_to_join: Vec<PathBuf>,
    /// To which system calls it is restricted.
    pub calls: Calls,
}

/// The parameter `scheduler` of umlmon(5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Scheduler {
    /// `sched_default(prio=n)`: the standard scheduler.
    Default {
        /// Nice value, -20 to 19.
        nice: i32,
    },
    /// `sched_rr(prio=n)`: the round-robin realtime scheduler.
    RoundRobin {
        /// Realtime priority, 1 to 99.
        priority: i32,
    },
}

/// Resource limits (getrlimit(2)). Core dumps are always off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Open descriptors per process.
    pub open_files: u64,
    /// Processes of the user, over all virtual machines it runs: each guest process is one of the host. `None`, if a
    /// control group limits those of this one.
    pub processes: Option<u64>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            open_files: 256,
            processes: Some(2000),
        }
    }
}

impl Confinement {
    /// Confines the calling process, which must be root, single-threaded, and in a mount namespace of its own. `mounts`
    /// are those of the shared directories, in the order of their numbers. This cannot be undone; after an error the
    /// process must exit.
    ///
    /// # Errors
    /// The step that failed.
    pub fn confine(&self, mounts: Vec<OwnedFd>) -> Result<()> {
        // Mounts that only the jailed processes see.
        separate_mounts()?;
        let root = directories::open_path(&self.jail, 0o755)?;
        binds::apply(&root, &self.binds)?;
        if self.libraries {
            library::show(&root, &self.jail)?;
        }
        for path in &self.masks {
            let what = || format!("mask {} in the jail", path.display());
            mask(&root, path).map_err(|source| Error::Confine {
                step: what(),
                source,
            })?;
        }
        step("restrict /disks", self.restrict_disks(&root))?;
        let shares = self.shares.iter().copied().zip(mounts).collect();
        step(
            "attach the shared directories",
            share::attach(&root, shares),
        )?;
        if self.tun {
            let at = beneath(&root, Path::new("dev/net"));
            let provided = at.and_then(|at| provide_tun(at, self.uid, self.gid));
            step("provide /dev/net/tun in the jail", provided)?;
        }

        // Steps that need privileges but give none up.
        step("setsid", setsid())?;
        for door in &self.groups_to_join {
            step("join the control group", std::fs::write(door, "0"))?;
        }
        if let Some(place) = &self.place {
            step("choose the processors of the host", place.enter())?;
        }
        self.schedule()?;
        self.limit()?;
        umask(Mode::WGRP | Mode::WOTH);

        // The root directory. No descriptor of a directory outside may survive.
        step("make the jail the root directory", enter(root))?;

        become_user(self.uid, self.gid, &self.groups)?;
        seal_off()?;
        step(
            "restrict files with Landlock",
            landlock::restrict(self.calls),
        )?;
        step("restrict system calls", seccomp::restrict(self.calls))
    }

    /// The disks belong to the user, who could put programs there: these must not run with privileges. Block devices
    /// are in `/shared/disks` only.
    fn restrict_disks(&self, root: &OwnedFd) -> io::Result<()> {
        let disks = beneath(root, Path::new("disks"))?;
        let attr = MountAttr::NO_SUID | MountAttr::NO_DEV;
        mounts::attach(mounts::copy_of(&disks, attr)?, disks)
    }

    fn schedule(&self) -> Result<()> {
        match self.scheduler {
            None => Ok(()),
            Some(Scheduler::Default { nice }) => {
                step("set the priority", setpriority_process(None, nice))
            }
            Some(Scheduler::RoundRobin { priority }) => step(
                "set the realtime scheduler",
                sys::set_realtime_scheduler(priority),
            ),
        }
    }

    fn limit(&self) -> Result<()> {
        let limits = [
            // A limit of 0 would not stop a program that the host has for core dumps (core(5)).
            ("limit core dumps", Resource::Core, Some(1)),
            (
                "limit open files",
                Resource::Nofile,
                Some(self.limits.open_files),
            ),
            ("limit processes", Resource::Nproc, self.limits.processes),
        ];
        for (name, resource, limit) in limits {
            let Some(limit) = limit else { continue };
            step(
                name,
                setrlimit(
                    resource,
                    Rlimit {
                        current: Some(limit),
                        maximum: Some(limit),
                    },
                ),
            )?;
        }
        Ok(())
    }
}

/// Mounts made in this namespace do not propagate to the host; unmounts on the host still propagate here, so that this
/// namespace keeps no file system busy.
fn separate_mounts() -> Result<()> {
    let down = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
    match mount_change("/", down) {
        Err(Errno::INVAL) => Err(Error::RootIsNoMountPoint),
        separated => step("separate the mounts", separated),
    }
}

/// Covers the host's `/dev/net` with a directory in which the tun device belongs to this user. To be called by a
/// process that has left the host's mounts ([`leave_mounts`]).
///
/// # Errors
/// The step that failed.
pub fn show_tun(uid: u32, gid: u32) -> Result<()> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let at = openat(CWD, "/dev/net", flags, Mode::empty()).map_err(io::Error::from);
    let shown = at.and_then(|at| provide_tun(at, uid, gid));
    step("provide /dev/net/tun", shown)
}

/// A node that belongs to the user: that of the host may be for root only.
fn provide_tun(at: OwnedFd, uid: u32, gid: u32) -> io::Result<()> {
    let directory = mounts::node_directory()?;
    mknodat(
        &directory,
        "tun",
        FileType::CharacterDevice,
        Mode::RUSR | Mode::WUSR,
        makedev(TUN.0, TUN.1),
    )?;
    let (uid, gid) = (
        rustix::fs::Uid::from_raw(uid),
        rustix::fs::Gid::from_raw(gid),
    );
    chownat(
        &directory,
        "tun",
        Some(uid),
        Some(gid),
        AtFlags::SYMLINK_NOFOLLOW,
    )?;
    sys::restrict_mount(&directory, MountAttr::READ_ONLY)?;
    mounts::attach(directory, at)
}

/// Puts the calling thread, and what it starts from now on, into a mount namespace of its own. What is mounted there is
/// gone when the last process in it ends.
///
/// # Errors
/// The step that failed.
pub fn leave_mounts() -> Result<()> {
    step(
        "have a mount namespace",
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS),
    )?;
    separate_mounts()
}

/// Puts the calling thread, and what it starts from now on, into this mount namespace: an open file below `/proc`.
///
/// # Errors
/// The step that failed.
pub fn enter_mounts(namespace: BorrowedFd<'_>) -> Result<()> {
    use nix::sched::{CloneFlags, setns, unshare};
    // The kernel lets no thread in that shares its root and working directory with others.
    step("have a root of its own", unshare(CloneFlags::CLONE_FS))?;
    let entered = setns(namespace, CloneFlags::CLONE_NEWNS);
    step("enter a mount namespace", entered)
}

/// The user that a process of root becomes which reads files of others: it has no files of its own (the kernel's
/// `DEFAULT_OVERFLOWUID`, "nobody").
const NOBODY: u32 = 65534;
/// The memory that such a process may have, in bytes.
const MEMORY: u64 = 512 << 20;

/// Has the calling process, which must have one thread, give up everything but its standard input and output: it can
/// open no file, make no process and no socket, and is not root any more. For a process that reads a file of others,
/// which may take it over. This cannot be undone; after an error the process must exit.
///
/// # Errors
/// The step that failed.
pub fn renounce() -> Result<()> {
    sys::close_inherited();
    for (name, resource, limit) in [
        ("limit core dumps", Resource::Core, 1),
        ("limit memory", Resource::As, MEMORY),
    ] {
        let limit = Rlimit {
            current: Some(limit),
            maximum: Some(limit),
        };
        step(name, setrlimit(resource, limit))?;
    }
    if Uid::effective().is_root() {
        become_user(NOBODY, NOBODY, &[])?;
    }
    seal_off()?;
    step("give up files with Landlock", landlock::give_up_files())?;
    step("restrict system calls", seccomp::restrict(Calls::Disks))
}

/// Gives up root: the bounding set first, as that needs a privilege; groups before the user, as they need root.
fn become_user(uid: u32, gid: u32, groups: &[u32]) -> Result<()> {
    step(
        "drop the capability bounding set",
        sys::empty_bounding_set(),
    )?;
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    let groups: Vec<Gid> = groups.iter().copied().map(Gid::from_raw).collect();
    step("setgroups", setgroups(&groups))?;
    step("setresgid", setresgid(gid, gid, gid))?;
    step("setresuid", setresuid(uid, uid, uid))?;
    verify(uid, gid, groups)
}

/// No new privileges from now on, and no other process of the user gets at this one. The death signal comes after
/// setresuid, which clears it.
fn seal_off() -> Result<()> {
    step("set no_new_privs", rustix::thread::set_no_new_privs(true))?;
    step(
        "set the death signal",
        set_parent_process_death_signal(Some(Signal::KILL)),
    )?;
    step(
        "forbid tracing",
        set_dumpable_behavior(DumpableBehavior::NotDumpable),
    )
}

/// Names the step that failed.
fn step<T>(name: &str, result: std::result::Result<T, impl Into<io::Error>>) -> Result<T> {
    result.map_err(|source| Error::Confine {
        step: name.to_owned(),
        source: source.into(),
    })
}

/// Makes the jail the root of the mount namespace, and removes the host's file systems from it: a process that escapes
/// from a root directory finds nothing there.
fn enter(jail: OwnedFd) -> io::Result<()> {
    let outside = openat(CWD, "/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    // Only a mount can become the root. No program in it gives privileges, whichever user put it there.
    let root = mounts::copy_of(&jail, MountAttr::NO_SUID)?;
    mounts::attach(&root, jail)?;
    fchdir(&root)?;
    match rustix::process::pivot_root(".", ".") {
        Ok(()) => {
            fchdir(&outside)?;
            unmount(".", UnmountFlags::DETACH)?;
        }
        // A host that runs from its initramfs cannot unmount that; then only the root of the process is changed.
        Err(Errno::INVAL) => chroot(".")?,
        Err(error) => return Err(error.into()),
    }
    Ok(chdir("/")?)
}

/// Verifies the result with the kernel: not root, in no group of root, and unable to become root again.
fn verify(uid: Uid, gid: Gid, mut groups: Vec<Gid>) -> Result<()> {
    let users = step("getresuid", getresuid())?;
    if uid.is_root() || [users.real, users.effective, users.saved] != [uid; 3] {
        return Err(Error::StillPrivileged("the user ID is wrong"));
    }
    let ids = step("getresgid", getresgid())?;
    if [ids.real, ids.effective, ids.saved] != [gid; 3] {
        return Err(Error::StillPrivileged("the group ID is wrong"));
    }
    let mut now = step("getgroups", getgroups())?;
    for list in [&mut now, &mut groups] {
        list.sort_unstable_by_key(|gid| gid.as_raw());
        list.dedup();
    }
    if now != groups {
        return Err(Error::StillPrivileged("the groups are wrong"));
    }
    if setuid(Uid::from_raw(0)).is_ok() {
        return Err(Error::StillPrivileged(
            "the process could become root again",
        ));
    }
    Ok(())
}

/// Covers a directory with an empty one, a file with a device that cannot be opened.
fn mask(root: &OwnedFd, path: &Path) -> io::Result<()> {
    let target = match beneath(root, path) {
        Err(error) if error.raw_os_error() == Some(Errno::NOENT.raw_os_error()) => return Ok(()),
        target => target?,
    };
    let cover = if FileType::from_raw_mode(fstat(&target)?.st_mode) == FileType::Directory {
        mounts::empty_directory()?
    } else {
        let null = openat(
            CWD,
            "/dev/null",
            OFlags::PATH | OFlags::CLOEXEC,
            Mode::empty(),
        )?;
        let attr =
            MountAttr::READ_ONLY | MountAttr::NO_SUID | MountAttr::NO_DEV | MountAttr::NO_EXEC;
        mounts::copy_of(null, attr)?
    };
    mounts::attach(cover, target)
}
