//! The root directory of a container on the host, while an image is made of it (the server of a pod, which has mounts
//! of its own: nothing of them is left when it ends, however that comes).

use std::ffi::CString;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use containerd_shim_protos::api::Mount;
use rustix::mount::{MountFlags, UnmountFlags, mount, mount_bind, unmount};

/// The mounted directory.
#[derive(Debug)]
pub(crate) struct RootFs {
    path: PathBuf,
    mounted: usize,
}

/// What a container has as its root.
pub(crate) enum Root {
    /// A tree of files.
    Tree(RootFs),
    /// A file with a file system, as the snapshotter `blockfile` makes them.
    Image(PathBuf),
}

/// Finds or mounts it at `path`.
pub(crate) fn mount_all(mounts: &[Mount], path: &Path) -> anyhow::Result<Root> {
    if let [one] = mounts
        && one.type_ == "ext4"
        && Path::new(&one.source).is_file()
    {
        return Ok(Root::Image(one.source.clone().into()));
    }
    let mut root = RootFs {
        path: path.to_owned(),
        mounted: 0,
    };
    for one in mounts {
        mount_one(one, path)
            .with_context(|| format!("cannot mount the root directory {}", path.display()))?;
        root.mounted += 1;
    }
    if !path.is_dir() {
        bail!("the root directory {} is missing", path.display());
    }
    Ok(Root::Tree(root))
}

fn mount_one(one: &Mount, path: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(path)?;
    if one.type_ == "bind"
        || one
            .options
            .iter()
            .any(|option| option == "bind" || option == "rbind")
    {
        return Ok(mount_bind(&one.source, path)?);
    }
    let data = one
        .options
        .iter()
        .filter(|option| !["ro", "rw"].contains(&option.as_str()));
    let data: Vec<&str> = data.map(String::as_str).collect();
    let data = CString::new(data.join(","))?;
    // Nothing is written to it here.
    mount(
        &one.source,
        path,
        &one.type_,
        MountFlags::RDONLY,
        data.as_c_str(),
    )?;
    Ok(())
}

impl RootFs {
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for RootFs {
    fn drop(&mut self) {
        for _ in 0..self.mounted {
            // It is gone at the end of the process otherwise.
            let _ = unmount(&self.path, UnmountFlags::DETACH);
        }
    }
}
