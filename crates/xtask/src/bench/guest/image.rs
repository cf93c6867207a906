//! The guest that is measured: Debian with systemd, a compiler and Python, made by mmdebstrap, and a disk of it
//! (cargo xtask bench guest).
//!
//! ```text
//! DIR/NAME/made-of      what it was made of; if that changes, all is made anew
//! DIR/NAME/root         the tree of files
//! DIR/NAME/root.dsk     the same as a disk
//! DIR/NAME/times        of the runs with it
//! ```

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;

use crate::apt;
use crate::steps::{self, heading, output};

/// What every guest has beside the smallest Debian.
const INCLUDED: &str = "systemd-sysv,udev,dbus,gcc,libc6-dev,make,python3-minimal";

/// Of the disk; most of it stays empty.
const MEGABYTES: u64 = 1024;

/// In `/bench` of the guest: name, mode, content.
const FILES: [(&str, u32, &str); 7] = [
    ("init", 0o755, include_str!("../../../bench-guest/init")),
    ("work", 0o755, include_str!("../../../bench-guest/work")),
    (
        "bench.service",
        0o644,
        include_str!("../../../bench-guest/bench.service"),
    ),
    (
        "Makefile",
        0o644,
        include_str!("../../../bench-guest/Makefile"),
    ),
    (
        "calls.c",
        0o644,
        include_str!("../../../bench-guest/calls.c"),
    ),
    (
        "small.c",
        0o644,
        include_str!("../../../bench-guest/small.c"),
    ),
    ("unit.c", 0o644, include_str!("../../../bench-guest/unit.c")),
];

/// The init of the guest, for the kernel's command line.
pub(in super::super) const INIT: &str = "init=/bench/init";

pub(in super::super) struct Image {
    directory: PathBuf,
    contents: Contents,
}

/// What differs between guests.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct Contents {
    /// Of the directory.
    pub(in super::super) name: &'static str,
    /// The release of Debian.
    pub(in super::super) suite: &'static str,
    /// A further package.
    pub(in super::super) package: Option<&'static str>,
}

impl Image {
    /// Makes the one with these contents in this directory, unless it is there.
    pub(in super::super) fn in_directory(
        directory: &Path,
        contents: Contents,
    ) -> anyhow::Result<Image> {
        let directory = directory.join(contents.name);
        let (made_of, note) = (made_of(contents), directory.join("made-of"));
        let image = Image {
            directory,
            contents,
        };
        if fs::read_to_string(&note).is_ok_and(|text| text == made_of) {
            return Ok(image);
        }
        let directory = &image.directory;
        heading(&format!("A guest with {}", contents.suite));
        if directory.exists() {
            fs::remove_dir_all(directory)
                .with_context(|| format!("cannot remove {}", directory.display()))?;
        }
        fs::create_dir_all(directory)
            .with_context(|| format!("cannot make {}", directory.display()))?;
        image.install()?;
        image.add_work()?;
        image.make_disk()?;
        fs::write(note, made_of)?;
        Ok(image)
    }

    /// Of the runs with it; they go when it is made anew.
    pub(super) fn times(&self) -> PathBuf {
        self.directory.join("times")
    }

    pub(super) fn root(&self) -> PathBuf {
        self.directory.join("root")
    }

    pub(in super::super) fn disk(&self) -> PathBuf {
        self.directory.join("root.dsk")
    }

    fn install(&self) -> anyhow::Result<()> {
        let Contents { suite, package, .. } = self.contents;
        let included: Vec<&str> = std::iter::once(INCLUDED).chain(package).collect();
        let mut make = Command::new("mmdebstrap");
        make.args(["--quiet", "--variant=minbase"])
            .arg(format!("--include={}", included.join(",")))
            .arg(suite)
            .arg(self.root())
            .arg(apt::source(suite)?);
        steps::run(&mut make)
    }

    fn add_work(&self) -> anyhow::Result<()> {
        let (bench, etc) = (self.root().join("bench"), self.root().join("etc"));
        fs::create_dir(&bench)?;
        for (name, mode, text) in FILES {
            let path = bench.join(name);
            fs::write(&path, text)?;
            fs::set_permissions(&path, Permissions::from_mode(mode))?;
        }
        fs::write(etc.join("hostname"), "bench\n")?;
        // Otherwise each boot would be the first one, which is longer.
        fs::write(etc.join("machine-id"), "0123456789abcdef0123456789abcdef\n")?;
        let units = etc.join("systemd/system");
        let wanted = units.join("multi-user.target.wants");
        fs::create_dir_all(&wanted)?;
        symlink("/bench/bench.service", units.join("bench.service"))?;
        symlink("/bench/bench.service", wanted.join("bench.service"))?;
        // Debian would reboot.
        let keys = units.join("ctrl-alt-del.target");
        symlink("/lib/systemd/system/poweroff.target", keys)?;
        // The machines have different terminals.
        symlink("/dev/null", units.join("getty.target"))?;
        let mut gcc = Command::new("chroot");
        gcc.arg(self.root());
        output(gcc.args(["gcc", "-O2", "-o", "/bench/calls", "/bench/calls.c"])).map(drop)
    }

    fn make_disk(&self) -> anyhow::Result<()> {
        let mut make = Command::new("/sbin/mke2fs");
        make.args(["-q", "-t", "ext4", "-d"])
            .arg(self.root())
            .arg(self.disk())
            .arg(format!("{MEGABYTES}M"));
        steps::run(&mut make)
    }
}

/// All that the image depends on, this file included, but for the state of Debian's archive.
fn made_of(contents: Contents) -> String {
    let mut text = format!("{contents:?}\n{}", include_str!("image.rs"));
    for (_, _, content) in FILES {
        text += content;
    }
    text
}
