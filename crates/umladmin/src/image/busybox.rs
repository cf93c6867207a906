//! The small image: busybox of the host, and the helper (umladmin). It needs no network to be built.

use std::fs;
use std::path::{Path, PathBuf};

use monitors::cannot;

use super::files::Files;
use crate::busybox::{BUSYBOX, Busybox};

const DIRECTORIES: [(&str, u32); 13] = [
    ("dev", 0o755),
    ("etc", 0o755),
    ("home", 0o755),
    ("mnt", 0o755),
    ("proc", 0o755),
    ("root", 0o700),
    ("run", 0o755),
    ("sys", 0o755),
    ("tmp", 0o1777),
    ("usr/share/udhcpc", 0o755),
    ("var/lib", 0o755),
    ("var/log", 0o755),
    ("var/tmp", 0o1777),
];

/// Path in the guest, mode, content.
const FILES: [(&str, u32, &str); 12] = [
    (
        "etc/inittab",
        0o644,
        include_str!("../../guest/busybox/inittab"),
    ),
    (
        "etc/rc.up",
        0o755,
        include_str!("../../guest/busybox/rc.up"),
    ),
    (
        "etc/rc.down",
        0o755,
        include_str!("../../guest/busybox/rc.down"),
    ),
    (
        "etc/login-on",
        0o755,
        include_str!("../../guest/busybox/login-on"),
    ),
    (
        "etc/root-shell",
        0o755,
        include_str!("../../guest/busybox/root-shell"),
    ),
    (
        "usr/share/udhcpc/default.script",
        0o755,
        include_str!("../../guest/busybox/default.script"),
    ),
    ("etc/shadow", 0o640, "root:*:19000:0:99999:7:::\n"),
    (
        "etc/passwd",
        0o644,
        "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n",
    ),
    (
        "etc/group",
        0o644,
        "root:x:0:\ntty:x:5:\nnogroup:x:65534:\n",
    ),
    ("etc/fstab", 0o644, "/dev/ubda / ext4 rw 0 0\n"),
    ("etc/hostname", 0o644, "uml\n"),
    (
        "etc/hosts",
        0o644,
        "127.0.0.1 localhost uml\n::1 localhost\n",
    ),
];

/// An archive of everything in the image.
pub(super) fn archive(helper: &Path) -> Result<Vec<u8>, String> {
    let busybox = Busybox::find("this image", "")?;
    let failed = |error: std::io::Error| format!("cannot make an archive: {error}");
    let mut files = Files::default();
    for (name, mode) in DIRECTORIES {
        files.directory(Path::new(name), mode).map_err(failed)?;
    }
    for (name, mode, text) in FILES {
        files
            .file(Path::new(name), mode, text.as_bytes())
            .map_err(failed)?;
    }
    let mut programs: Vec<(&Path, &Path)> = vec![
        (helper, Path::new("sbin/umlguest")),
        (&busybox.program, Path::new(BUSYBOX)),
    ];
    for (library, target) in &busybox.libraries {
        programs.push((library, target.strip_prefix("/").unwrap_or(target)));
    }
    for (from, to) in programs {
        let bytes = fs::read(from).map_err(|error| cannot("read", from, &error))?;
        files.file(to, 0o755, &bytes).map_err(failed)?;
    }
    let names = busybox
        .names
        .into_iter()
        .chain([PathBuf::from("sbin/init")]);
    let target = Path::new("/").join(BUSYBOX);
    for name in names.filter(|name| name != Path::new(BUSYBOX)) {
        files.link(&name, &target).map_err(failed)?;
    }
    files.finish().map_err(failed)
}
