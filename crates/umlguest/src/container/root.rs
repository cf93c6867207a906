//! Makes what a container sees: its root directory, name and parameters (umlguest, inside a container that is being
//! made).

use std::fs;
use std::path::Path;

use anyhow::{Context as _, ensure};
use guest_line::Container;
use nix::unistd::sethostname;
use rustix::io::Errno;
use rustix::mount::{MountPropagationFlags, UnmountFlags, mount_change, mount_move, unmount};
use rustix::process::{chroot, fchdir, pivot_root};

use super::entry::root_of;
use super::tree::{Kind, Tree};
use super::{devices, mounts};
use crate::init::mount_any;

/// Makes it, in new namespaces of this process. The program will run in the directory.
pub(super) fn enter(container: &Container, directory: &[u8], terminal: bool) -> anyhow::Result<()> {
    let flags = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change("/", flags).context("cannot keep mounts to itself")?;
    let at = root_of(&container.id);
    let disk = disk_of(container.disk)?;
    ensure!(Path::new(&disk).exists(), "this guest has no disk {disk}");
    mount_any(&disk, &at)?;
    let tree = Tree::open(&at).context("cannot open the root directory")?;
    mounts::mount_all(&tree, &container.mounts)?;
    devices::make_all(&tree, &container.mounts, terminal)?;
    mounts::protect(&tree, &container.read_only)?;
    mounts::mask(&tree, &container.masked)?;
    if let Some(name) = &container.hostname {
        sethostname(name).with_context(|| format!("cannot set the host name to {name}"))?;
    }
    set_parameters(&container.sysctls)?;
    if container.read_only_root {
        // Nothing can be made any more. If this is not possible, it is told when the program is to run there.
        let _ = tree.make(directory, Kind::Directory);
        let top = tree.find(b"/").context("cannot open the root directory")?;
        mounts::read_only(&top).context("cannot make the root directory read-only")?;
    }
    change_root(&tree).context("cannot change the root directory")
}

fn disk_of(number: u8) -> anyhow::Result<String> {
    ensure!(number < 16, "there is no disk ubd{number}");
    Ok(format!("/dev/ubd{}", char::from(b'a' + number)))
}

/// Namespaces are those of this process, so the guest's `/proc` does.
fn set_parameters(parameters: &[(String, String)]) -> anyhow::Result<()> {
    for (name, value) in parameters {
        let path = Path::new("/proc/sys").join(name.replace('.', "/"));
        fs::write(path, value).with_context(|| format!("cannot set {name} to {value}"))?;
    }
    Ok(())
}

fn change_root(tree: &Tree) -> anyhow::Result<()> {
    fchdir(tree.top())?;
    match pivot_root(".", ".") {
        // The old one is on top of the new one now.
        Ok(()) => unmount(".", UnmountFlags::DETACH)?,
        // An initramfs cannot be unmounted; the new one is put on top of it.
        Err(Errno::INVAL) => {
            mount_move(".", "/")?;
            chroot(".")?;
        }
        Err(error) => return Err(error.into()),
    }
    std::env::set_current_dir("/")?;
    Ok(())
}
