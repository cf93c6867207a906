//! The jail of one virtual machine on the host: its directories, and the mounts the monitor holds. Monitor only, as
//! root.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use sys::MountAttr;

use crate::directories::{Access, open_below, open_path};
use crate::mounts::{self, Mount};
use crate::{
    Account, Calls, Confinement, Error, Kernel, Limits, Place, Result, SHARES, Scheduler, TmpMount,
    binds,
};

/// Where the configuration puts things. All paths are absolute.
#[derive(Clone, Debug)]
pub struct Places {
    /// Directory of all virtual machines.
    pub vardir: PathBuf,
    /// Directory of this virtual machine.
    pub vm_dir: PathBuf,
    /// Its jail: the future root directory.
    pub jail: PathBuf,
    /// Its log files.
    pub logdir: PathBuf,
    /// The directory that all jails share.
    pub shared: PathBuf,
}

/// The parts of a kernel's confinement that differ between virtual machines.
#[derive(Debug, Default)]
pub struct Terms {
    /// How it is scheduled.
    pub scheduler: Option<Scheduler>,
    /// On which processors of the host it begins to run; `None`: on any.
    pub place: Option<Place>,
    /// Whether it may attach to taps that belong to its user.
    pub tun: bool,
    /// The numbers of the directories that are shared with it.
    pub shares: Vec<u8>,
    /// Resource limits.
    pub limits: Limits,
    /// See [`crate::ControlGroup::doors`].
    pub groups_to_join: Vec<PathBuf>,
}

/// Opens the directory of a virtual machine in that of all; makes them, if they are missing.
///
/// # Errors
/// If another user than root could exchange them or what is in them; as mkdir(2) and open(2).
pub fn open_vm_dir(vardir: &Path, vm_dir: &Path) -> Result<OwnedFd> {
    open_path(vardir, 0o755)?;
    open_path(vm_dir, 0o755)
}

/// A prepared jail. Holds the bind mount of the shared directory, which goes with it, and the directories open.
#[derive(Debug)]
pub struct Jail {
    path: PathBuf,
    account: Account,
    root: OwnedFd,
    vm_dir: OwnedFd,
    shared: Mount,
}

impl Jail {
    /// Makes the directories that are missing, removes mounts that a killed monitor left, and bind mounts the shared
    /// directory into the jail.
    ///
    /// A directory that exists keeps its owner and mode, since administrators restrict access that way, but it must be
    /// a real directory, and only root may be able to change the ones that root works in.
    ///
    /// # Errors
    /// The directory or mount, and what to do.
    pub fn prepare(places: &Places, account: Account) -> Result<Self> {
        Self::open(places, account, false)
    }

    /// The jail of a virtual machine that another monitor has started, and that runs. The mounts that are there stay,
    /// also when this is dropped before [`Jail::take_over`].
    ///
    /// # Errors
    /// As [`Jail::prepare`].
    pub fn adopt(places: &Places, account: Account) -> Result<Self> {
        Self::open(places, account, true)
    }

    fn open(places: &Places, account: Account, runs: bool) -> Result<Self> {
        let vm_dir = open_vm_dir(&places.vardir, &places.vm_dir)?;
        let root = open_path(&places.jail, 0o755)?;
        open_path(&places.logdir, 0o750)?;
        let shared = open_path(&places.shared, 0o755)?;
        for (name, mode) in [
            ("disks", 0o755),
            ("kernels", 0o755),
            ("locks", 0o700),
            ("macpool", 0o700),
        ] {
            open_below(&shared, name, &places.shared.join(name), Access::root(mode))?;
        }
        let inside = |name| places.jail.join(name);
        if !runs {
            for name in ["tmp", "shared"] {
                mounts::detach_all(&root, name, &inside(name))?;
            }
        }
        let of_the_vm = Access {
            uid: account.uid,
            gid: account.gid,
            mode: 0o750,
        };
        open_below(&root, "disks", &inside("disks"), of_the_vm)?;
        if !runs {
            open_below(&root, "tmp", &inside("tmp"), Access::root(0o755))?;
        }
        let target = open_below(&root, "shared", &inside("shared"), Access::root(0o755))?;
        let shared = match Mount::found(&root, "shared", &inside("shared"))? {
            Some(mount) => mount,
            None => bind_shared(&shared, target, &inside("shared"))?,
        };
        Ok(Self {
            path: places.jail.clone(),
            account,
            root,
            vm_dir,
            shared,
        })
    }

    /// One that was adopted belongs to this from now on: dropping it removes the mounts.
    pub fn take_over(&self) {
        self.shared.take_over();
    }

    /// The jail's path on the host.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The account that runs in it.
    #[must_use]
    pub fn account(&self) -> &Account {
        &self.account
    }

    /// The root directory of the jail.
    #[must_use]
    pub fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// The virtual machine's directory (`vardir/NAME`).
    #[must_use]
    pub fn vm_dir(&self) -> BorrowedFd<'_> {
        self.vm_dir.as_fd()
    }

    /// Mounts a fresh tmpfs of `mem` megabytes on `tmp` for one run of the kernel. An earlier one is removed first: a
    /// kernel that was killed leaves a directory that prevents the next one from using its name.
    ///
    /// # Errors
    /// As mount(2).
    pub fn mount_tmp(&self, mem: u32) -> Result<TmpMount> {
        let at = self.path.join("tmp");
        mounts::detach_all(&self.root, "tmp", &at)?;
        let target = open_below(&self.root, "tmp", &at, Access::root(0o755))?;
        TmpMount::new(target, &at, mem, &self.account)
    }

    /// The tmpfs on `tmp` of a run that another monitor has started. `device` is [`TmpMount::device`].
    ///
    /// # Errors
    /// If another one or none is there.
    pub fn adopt_tmp(&self, device: u64) -> Result<TmpMount> {
        TmpMount::adopt(&self.root, &self.path.join("tmp"), device)
    }

    /// How the second process is to confine itself to run `kernel`.
    ///
    /// # Errors
    /// If a directory that something is to appear in cannot be made.
    pub fn confinement(&self, kernel: &Kernel, terms: Terms) -> Result<Confinement> {
        for name in binds::covered(&kernel.binds) {
            open_below(&self.root, name, &self.path.join(name), Access::root(0o755))?;
        }
        if !terms.shares.is_empty() {
            let name = SHARES.trim_start_matches('/');
            open_below(&self.root, name, &self.path.join(name), Access::root(0o755))?;
        }
        if terms.tun {
            let mut directory = self.root.try_clone().map_err(|source| Error::Directory {
                path: self.path.clone(),
                source,
            })?;
            let mut shown = self.path.clone();
            for name in ["dev", "net"] {
                shown.push(name);
                directory = open_below(&directory, name, &shown, Access::root(0o755))?;
            }
        }
        Ok(Confinement {
            binds: kernel.binds.clone(),
            tun: terms.tun,
            calls: Calls::Kernel {
                shares: !terms.shares.is_empty(),
            },
            shares: terms.shares,
            scheduler: terms.scheduler,
            place: terms.place,
            limits: terms.limits,
            groups_to_join: terms.groups_to_join,
            ..self.confinement_for_disks()
        })
    }

    /// How a second process is to confine itself to look at a kernel, with the host's libraries below
    /// [`crate::LIBRARIES`].
    #[must_use]
    pub fn confinement_for_looking(&self) -> Confinement {
        Confinement {
            libraries: true,
            ..self.confinement_for_disks()
        }
    }

    /// How a second process is to confine itself to work on disks.
    #[must_use]
    pub fn confinement_for_disks(&self) -> Confinement {
        Confinement {
            jail: self.path.clone(),
            uid: self.account.uid,
            gid: self.account.gid,
            groups: self.account.groups.clone(),
            binds: Vec::new(),
            libraries: false,
            masks: vec![
                PathBuf::from("shared/locks"),
                PathBuf::from("shared/macpool"),
            ],
            shares: Vec::new(),
            tun: false,
            scheduler: None,
            place: None,
            limits: Limits::default(),
            groups_to_join: Vec::new(),
            calls: Calls::Disks,
        }
    }
}

/// Mounts the shared directory on `target` in a jail, shown as `at`.
fn bind_shared(shared: &OwnedFd, target: OwnedFd, at: &Path) -> Result<Mount> {
    let copy = mounts::copy_of(shared, MountAttr::NO_SUID).map_err(|source| Error::Mount {
        what: "bind mount the shared directory on",
        at: at.to_owned(),
        source,
    })?;
    Mount::attach(copy, target, at)
}
