//! Block devices of the host for the VMs: the nodes in `shared/disks` that the parameter `device` asks for (umlmon, the
//! monitor process, as root).
//!
//! The directory belongs to root, and only root can change its entries. A node is finished under another name and then
//! renamed, so a monitor that starts at the same time sees it complete or not at all.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use config::{Device, DiskName, Identity};
use rustix::fs::{self, AtFlags, CWD, Dev, FileType, Gid, Mode, OFlags, Stat, Uid, major, minor};
use rustix::io::Errno;

/// Members of the group may read and write the device, and no other users.
const MODE: Mode = Mode::RUSR
    .union(Mode::WUSR)
    .union(Mode::RGRP)
    .union(Mode::WGRP);

/// Why a device cannot be provided.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The target is not a block device.
    #[error("device {disk}: {target} is not a block device")]
    NotBlock {
        /// The disk's name in the jails.
        disk: DiskName,
        /// The device on the host.
        target: PathBuf,
    },
    /// Under the disk's name there is something other than a node.
    #[error("device {disk}: {node} is there already, and is not a block device; remove it")]
    InTheWay {
        /// The disk's name in the jails.
        disk: DiskName,
        /// The node.
        node: PathBuf,
    },
    /// The node and the target are different devices (`identity=check`).
    #[error(
        "device {disk}: {target} is the device {now} now, but the disk was made for {before}; \
         remove {node} if the new one is right, or set identity=update"
    )]
    Changed {
        /// The disk's name in the jails.
        disk: DiskName,
        /// The device on the host.
        target: PathBuf,
        /// The node.
        node: PathBuf,
        /// The device number of the node, as `major:minor`.
        before: String,
        /// The device number of the target.
        now: String,
    },
    /// The target is gone, so it is not known whether the node is right (`identity=check`).
    #[error(
        "device {disk}: {target} does not exist, so the device of the disk cannot be checked; \
         attach the device, or remove {node}"
    )]
    Gone {
        /// The disk's name in the jails.
        disk: DiskName,
        /// The device on the host.
        target: PathBuf,
        /// The node.
        node: PathBuf,
    },
    /// A step did not work.
    #[error("device {disk}: cannot {what} {path}: {source}")]
    Step {
        /// The disk's name in the jails.
        disk: DiskName,
        /// What was tried.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
}

/// A warning for the administrator, which does not prevent the start of a VM.
pub type Notes = Vec<String>;

/// The directory of the nodes. It is opened anew for each look: a file system may be mounted there meanwhile.
#[derive(Debug)]
pub struct Devices {
    path: PathBuf,
}

impl Devices {
    /// Opens `SHARED/disks`, which must be root's.
    ///
    /// # Errors
    /// As open(2).
    pub fn open(shared: &Path) -> io::Result<Devices> {
        let path = shared.join("disks");
        std::fs::File::open(&path)?;
        Ok(Devices { path })
    }

    /// Makes the node of a device, or checks the one that is there, and lets the group `gid` use it.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn provide(&self, device: &Device, gid: u32) -> Result<Notes, Error> {
        let directory = std::fs::File::open(&self.path).map_err(|source| Error::Step {
            disk: device.name.clone(),
            what: "open",
            path: self.path.clone(),
            source,
        })?;
        let node = One {
            path: &self.path,
            directory: directory.into(),
            device,
            gid,
        };
        match (node.number_of_node()?, device.identity) {
            (Some(_), Identity::Ignore) => node.give_to_group().map(|()| Vec::new()),
            (present, identity) => match (present, node.number_of_target()?, identity) {
                (Some(before), Some(now), _) if before == now => {
                    node.give_to_group().map(|()| Vec::new())
                }
                (Some(before), Some(now), Identity::Check) => Err(node.changed(before, now)),
                (_, Some(now), _) => node.make(now),
                (Some(_), None, Identity::Check) => Err(node.gone()),
                (present, None, _) => node.take_away(present.is_some()),
            },
        }
    }
}

/// One device, while it is provided.
struct One<'a> {
    path: &'a Path,
    directory: OwnedFd,
    device: &'a Device,
    gid: u32,
}

impl One<'_> {
    fn name(&self) -> &str {
        self.device.name.file_name()
    }

    fn node(&self) -> PathBuf {
        self.path.join(self.name())
    }

    fn failed(&self, what: &'static str, path: &Path) -> impl Fn(Errno) -> Error + use<> {
        let (disk, path) = (self.device.name.clone(), path.to_owned());
        move |error| Error::Step {
            disk: disk.clone(),
            what,
            path: path.clone(),
            source: error.into(),
        }
    }

    /// The device that the node refers to; None if there is no node.
    fn number_of_node(&self) -> Result<Option<Dev>, Error> {
        let stat = fs::statat(&self.directory, self.name(), AtFlags::SYMLINK_NOFOLLOW);
        match stat {
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(self.failed("look at", &self.node())(error)),
            Ok(stat) if is_block(&stat) => Ok(Some(stat.st_rdev)),
            Ok(_) => Err(Error::InTheWay {
                disk: self.device.name.clone(),
                node: self.node(),
            }),
        }
    }

    /// The device on the host; None if it is not there. It is examined by a descriptor, and not opened.
    fn number_of_target(&self) -> Result<Option<Dev>, Error> {
        let target = &self.device.target;
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let opened = match fs::openat(CWD, target, flags, Mode::empty()) {
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
            opened => opened.map_err(self.failed("open", target))?,
        };
        let stat = fs::fstat(&opened).map_err(self.failed("look at", target))?;
        if is_block(&stat) {
            return Ok(Some(stat.st_rdev));
        }
        Err(Error::NotBlock {
            disk: self.device.name.clone(),
            target: target.clone(),
        })
    }

    fn changed(&self, before: Dev, now: Dev) -> Error {
        let shown = |dev| format!("{}:{}", major(dev), minor(dev));
        Error::Changed {
            disk: self.device.name.clone(),
            target: self.device.target.clone(),
            node: self.node(),
            before: shown(before),
            now: shown(now),
        }
    }

    fn gone(&self) -> Error {
        Error::Gone {
            disk: self.device.name.clone(),
            target: self.device.target.clone(),
            node: self.node(),
        }
    }

    fn make(&self, number: Dev) -> Result<Notes, Error> {
        let directory = &self.directory;
        let draft = format!(".{}.{}", self.name(), std::process::id());
        let shown = self.path.join(&draft);
        // Left by an earlier monitor that had the same process ID and was interrupted.
        let _ = fs::unlinkat(directory, &*draft, AtFlags::empty());
        fs::mknodat(
            directory,
            &*draft,
            FileType::BlockDevice,
            Mode::empty(),
            number,
        )
        .map_err(self.failed("make", &shown))?;
        let placed = self.give(&draft).and_then(|()| {
            fs::renameat(directory, &*draft, directory, self.name())
                .map_err(self.failed("make", &self.node()))
        });
        if placed.is_err() {
            let _ = fs::unlinkat(directory, &*draft, AtFlags::empty());
        }
        placed.map(|()| Vec::new())
    }

    fn give_to_group(&self) -> Result<(), Error> {
        self.give(self.name())
    }

    fn give(&self, name: &str) -> Result<(), Error> {
        let directory = &self.directory;
        let failed = self.failed("give to the group", &self.node());
        let (root, group) = (Uid::ROOT, Gid::from_raw(self.gid));
        fs::chownat(
            directory,
            name,
            Some(root),
            Some(group),
            AtFlags::SYMLINK_NOFOLLOW,
        )
        .map_err(&failed)?;
        // It is a device node in a directory that belongs to root, so there is no link to follow.
        fs::chmodat(directory, name, MODE, AtFlags::empty()).map_err(&failed)
    }

    /// The target is not there: from now on, the disk is not there, either.
    fn take_away(&self, present: bool) -> Result<Notes, Error> {
        if present {
            fs::unlinkat(&self.directory, self.name(), AtFlags::empty())
                .map_err(self.failed("remove", &self.node()))?;
        }
        Ok(vec![format!(
            "device {}: {} does not exist, so there is no such disk",
            self.device.name,
            self.device.target.display()
        )])
    }
}

fn is_block(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::BlockDevice
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};

    use super::*;

    /// A directory for nodes, and two block devices of memory that no program opens (major 1).
    struct World {
        directory: tempfile::TempDir,
        devices: Devices,
    }

    impl World {
        /// None where device nodes cannot be made.
        fn new() -> Option<World> {
            let directory = tempfile::tempdir().unwrap();
            std::fs::create_dir(directory.path().join("disks")).unwrap();
            let devices = Devices::open(directory.path()).unwrap();
            let world = World { directory, devices };
            world.target(1).then_some(world)
        }

        /// Makes the target another device.
        fn target(&self, minor: u32) -> bool {
            let path = self.directory.path().join("target");
            let _ = std::fs::remove_file(&path);
            let number = fs::makedev(1, minor);
            fs::mknodat(CWD, &path, FileType::BlockDevice, MODE, number).is_ok()
        }

        fn device(&self, identity: &str) -> Device {
            let target = self.directory.path().join("target");
            let form = format!(
                "device_file(name=a.dev,target_file={},group=disk,identity={identity})",
                target.display()
            );
            form.parse().unwrap()
        }

        fn node(&self) -> std::fs::Metadata {
            std::fs::symlink_metadata(self.directory.path().join("disks/a.dev")).unwrap()
        }

        fn provide(&self, identity: &str) -> Result<Notes, String> {
            let provided = self.devices.provide(&self.device(identity), 6);
            provided.map_err(|error| error.to_string())
        }
    }

    #[test]
    fn a_node_is_made_for_the_group() {
        let Some(world) = World::new() else { return };
        assert_eq!(world.provide("check"), Ok(vec![]));
        let node = world.node();
        assert!(node.file_type().is_block_device());
        assert_eq!(node.rdev(), fs::makedev(1, 1));
        assert_eq!((node.uid(), node.gid()), (0, 6));
        assert_eq!(node.permissions().mode() & 0o7777, 0o660);
        let entries = std::fs::read_dir(world.directory.path().join("disks")).unwrap();
        assert_eq!(entries.count(), 1, "only the node is there");
    }

    #[test]
    fn another_device_is_refused_followed_or_ignored() {
        let Some(world) = World::new() else { return };
        world.provide("check").unwrap();
        assert!(world.target(2));
        let refused = world.provide("check").unwrap_err();
        assert!(refused.contains("is the device 1:2 now"), "{refused}");
        assert!(refused.contains("was made for 1:1"), "{refused}");
        assert_eq!(world.provide("ignore"), Ok(vec![]));
        assert_eq!(world.node().rdev(), fs::makedev(1, 1));
        assert_eq!(world.provide("update"), Ok(vec![]));
        assert_eq!(world.node().rdev(), fs::makedev(1, 2));
    }

    #[test]
    fn a_device_that_is_gone_is_told() {
        let Some(world) = World::new() else { return };
        world.provide("check").unwrap();
        std::fs::remove_file(world.directory.path().join("target")).unwrap();
        let refused = world.provide("check").unwrap_err();
        assert!(refused.contains("does not exist"), "{refused}");
        assert_eq!(world.provide("ignore"), Ok(vec![]));
        let notes = world.provide("update").unwrap();
        assert!(notes[0].contains("there is no such disk"), "{notes:?}");
        assert!(!world.directory.path().join("disks/a.dev").exists());
    }

    #[test]
    fn what_is_no_block_device_is_refused() {
        let Some(world) = World::new() else { return };
        std::fs::write(world.directory.path().join("disks/a.dev"), "").unwrap();
        let refused = world.provide("update").unwrap_err();
        assert!(refused.contains("is there already"), "{refused}");
        std::fs::remove_file(world.directory.path().join("disks/a.dev")).unwrap();
        std::fs::remove_file(world.directory.path().join("target")).unwrap();
        std::fs::write(world.directory.path().join("target"), "").unwrap();
        let refused = world.provide("check").unwrap_err();
        assert!(refused.ends_with("is not a block device"), "{refused}");
    }
}
