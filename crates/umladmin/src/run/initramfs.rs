//! The initramfs of a temporary VM without a disk: umlguest and the programs of busybox (umladmin).

use std::path::Path;

use monitors::initramfs::Archive;

use crate::busybox::{BUSYBOX, Busybox};

/// The directories of a guest without a disk. The kernel makes `/dev` and `/root` itself.
const DIRECTORIES: [&str; 8] = ["bin", "etc", "proc", "run", "sbin", "sys", "tmp", "usr"];
const FILES: [(&str, &str); 3] = [
    ("etc/group", "root:x:0:\n"),
    ("etc/hosts", "127.0.0.1 localhost uml\n"),
    ("etc/passwd", "root:x:0:0:root:/root:/bin/sh\n"),
];

/// The initramfs that is the whole root directory, with busybox of the host.
pub(super) fn with_busybox(helper: &Path) -> Result<Vec<u8>, String> {
    let busybox = Busybox::find("a VM without an image", ", or give an image with -image")?;
    let mut archive = Archive::with(helper)?;
    for directory in DIRECTORIES {
        archive.directories(Path::new(directory));
    }
    for (name, text) in FILES {
        archive.text(name, text);
    }
    archive.copy(BUSYBOX, &busybox.program)?;
    for (library, target) in busybox.libraries {
        let target = target.strip_prefix("/").unwrap_or(&target);
        archive.directories(target.parent().unwrap_or(Path::new("")));
        archive.copy(target, &library)?;
    }
    for link in busybox.names {
        archive.directories(link.parent().unwrap_or(Path::new("")));
        if link != Path::new(BUSYBOX) {
            archive.link(&link, &format!("/{BUSYBOX}"));
        }
    }
    Ok(archive.finish())
}
