//! `umladmin image build debian`: Debian with systemd and ssh, by mmdebstrap (umladmin).
//!
//! Its packages are signed, but their scripts run as root: that is root of the process apart.

use std::ffi::OsString;
use std::fs;
use std::path::Path;

use monitors::cannot;

use super::apart::{self, Stopped, Work};
use super::builder::Builder;
use super::files::Files;
use super::unpack::TREE;

/// The release if nobody says which.
pub(super) const RELEASE: &str = "trixie";

/// What a guest is used with, in addition to what Debian needs to run at all.
const PACKAGES: &str = "systemd-sysv,systemd-resolved,dbus,udev,iproute2,iputils-ping,login,passwd,openssh-server,\
                        ca-certificates,e2fsprogs,nano,less,procps";

/// What is done last by mmdebstrap, whose argument is the directory.
const CUSTOMIZE: &str = include_str!("../../guest/debian/customize");

/// Path in the guest, content.
const FILES: [(&str, &str); 9] = [
    (
        "etc/systemd/system/umlguest.service",
        include_str!("../../../../etc/guest/umlguest.service"),
    ),
    (
        "etc/systemd/system/umlguest-seed.service",
        include_str!("../../guest/debian/umlguest-seed.service"),
    ),
    (
        "etc/systemd/system/umlmon-ready.service",
        include_str!("../../guest/debian/umlmon-ready.service"),
    ),
    (
        "etc/systemd/system/getty@.service.d/umlmon.conf",
        include_str!("../../guest/debian/getty.conf"),
    ),
    (
        "etc/systemd/system/serial-getty@.service.d/umlmon.conf",
        include_str!("../../guest/debian/getty.conf"),
    ),
    (
        "etc/systemd/system/ssh.service.d/umlmon.conf",
        include_str!("../../guest/debian/ssh.conf"),
    ),
    (
        "etc/systemd/network/80-umlmon.network",
        include_str!("../../guest/debian/umlmon.network"),
    ),
    // The file system becomes as large as its disk.
    (
        "etc/fstab",
        "/dev/ubda / ext4 defaults,x-systemd.growfs 0 0\n",
    ),
    (
        "etc/hosts",
        "127.0.0.1 localhost\n127.0.1.1 debian\n::1 localhost ip6-localhost\n",
    ),
];

/// Units of ours that are enabled: the target, and the unit.
const WANTED: [(&str, &str); 3] = [
    ("basic.target", "umlguest.service"),
    ("sysinit.target", "umlguest-seed.service"),
    ("multi-user.target", "umlmon-ready.service"),
];

/// Whether this can be the name of a release.
pub(super) fn is_release(name: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    name.starts_with(|c: char| c.is_ascii_lowercase()) && name.chars().all(is_plain)
}

/// Installs the release into the directory of the files.
pub(super) fn install(builder: &Builder<'_>, release: &str) -> Result<(), Stopped> {
    let hooks = builder.place.path().join("customize");
    fs::write(&hooks, CUSTOMIZE).map_err(|error| cannot("write", &hooks, &error))?;
    let words: Vec<OsString> = [
        "mmdebstrap",
        // Root of the namespace.
        "--mode=root",
        "--variant=minbase",
        "--include",
        PACKAGES,
        "--customize-hook=sh ./customize \"$1\"",
        release,
        TREE,
    ]
    .map(OsString::from)
    .into();
    let work = Work::Execute {
        words: &words,
        network: true,
    };
    let title = format!("Installing Debian {release}");
    builder.bar.step(title.clone());
    let mut step = |line: &str| {
        // Its mark of a line that is no warning.
        let line = line.strip_prefix("I: ").unwrap_or(line);
        let line: String = cli::printable(line.as_bytes()).chars().take(60).collect();
        builder.bar.step(format!("{title}: {line}"));
        builder.bar.tick();
    };
    let directory = builder.place.path();
    let done = apart::run(
        directory,
        &work,
        &mut std::io::empty(),
        &builder.signals,
        &mut step,
    );
    done.map(drop).map_err(|stopped| match stopped {
        Stopped::Failed(why) if why.contains("cannot run mmdebstrap") => Stopped::Failed(format!(
            "{why}; it installs Debian (Debian: apt install mmdebstrap)"
        )),
        Stopped::Failed(why) => Stopped::Failed(format!("mmdebstrap: {why}")),
        stopped => stopped,
    })
}

/// An archive of what makes it a guest.
pub(super) fn archive(helper: &Path) -> Result<Vec<u8>, String> {
    let bytes = fs::read(helper).map_err(|error| cannot("read", helper, &error))?;
    let failed = |error: std::io::Error| format!("cannot make an archive: {error}");
    let mut files = Files::default();
    let mut fill = || -> std::io::Result<()> {
        files.file("usr/local/sbin/umlguest".as_ref(), 0o755, &bytes)?;
        for (name, text) in FILES {
            files.file(name.as_ref(), 0o644, text.as_bytes())?;
        }
        files.file("etc/hostname".as_ref(), 0o644, b"debian\n")?;
        // Each machine makes its own.
        files.file("etc/machine-id".as_ref(), 0o444, b"")?;
        for (target, unit) in WANTED {
            let link = format!("etc/systemd/system/{target}.wants/{unit}");
            let to = format!("/etc/systemd/system/{unit}");
            files.link(link.as_ref(), to.as_ref())?;
        }
        Ok(())
    };
    fill().map_err(failed)?;
    files.finish().map_err(failed)
}
