//! `cargo xtask kernels DIR`: User Mode Linux kernels of newer Debian releases, each with the libraries it was built
//! for. They run in a jail that has these libraries; the host needs neither.
//!
//! ```text
//! DIR/linux-6.12        the kernel          DIR/linux-6.12.lib/   ld-linux-x86-64.so.2 libc.so.6 libgcc_s.so.1
//! DIR/linux-7.2                             DIR/linux-7.2.lib/
//! ```

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

use crate::apt::Apt;

/// Releases that have a kernel of interest.
const SUITES: [&str; 2] = ["trixie", "sid"];

/// The release whose libraries serve all of them: symbols of glibc stay.
const LIBRARY_SUITE: &str = "sid";

/// What a kernel needs: by its header, by its dynamic section, and (thread cancellation at the end) by name at run
/// time.
const LIBRARIES: [&str; 3] = ["ld-linux-x86-64.so.2", "libc.so.6", "libgcc_s.so.1"];

/// Fetches the kernels into `directory`, unless they are there; returns their paths.
pub(crate) fn fetch(directory: &Path) -> anyhow::Result<Vec<PathBuf>> {
    fs::create_dir_all(directory)
        .with_context(|| format!("cannot make {}", directory.display()))?;
    let directory = directory.canonicalize()?;
    let present = kernels_in(&directory)?;
    if present.len() == SUITES.len() {
        return Ok(present);
    }
    let apt = Apt::new(directory.join("apt"), &SUITES)?;
    let libraries = directory.join("apt/libraries");
    for package in ["libc6", "libgcc-s1"] {
        apt.unpack(package, LIBRARY_SUITE, &libraries)?;
    }
    for suite in SUITES {
        let tree = directory.join("apt").join(suite);
        let version = apt.unpack("user-mode-linux", suite, &tree)?;
        // 6.12um1+b21 is a build of Linux 6.12.
        let release = version.split("um").next().unwrap_or(&version);
        let kernel = directory.join(format!("linux-{release}"));
        place_libraries(&libraries, &directory.join(format!("linux-{release}.lib")))?;
        place(&find(&tree, "linux.uml")?, &kernel)?;
        println!("{}", kernel.display());
    }
    kernels_in(&directory)
}

/// The kernels in the directory: those whose libraries are beside them.
fn kernels_in(directory: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut kernels = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let mut libraries = path.clone().into_os_string();
        libraries.push(".lib");
        if path.is_file() && Path::new(&libraries).is_dir() {
            kernels.push(path);
        }
    }
    kernels.sort();
    Ok(kernels)
}

fn place_libraries(tree: &Path, directory: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(directory)
        .with_context(|| format!("cannot make {}", directory.display()))?;
    LIBRARIES
        .iter()
        .try_for_each(|name| place(&find(tree, name)?, &directory.join(name)))
}

/// Copies what a file name stands for, with its mode.
fn place(from: &Path, to: &Path) -> anyhow::Result<()> {
    fs::copy(from, to)
        .with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))?;
    Ok(())
}

/// The file of this name somewhere in the tree; of links, only those that lead to a file of the tree.
fn find(tree: &Path, name: &str) -> anyhow::Result<PathBuf> {
    let mut directories = vec![tree.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory)
            .with_context(|| format!("cannot list {}", directory.display()))?
        {
            let entry = entry?;
            let path = entry.path();
            if entry.file_type()?.is_dir() {
                directories.push(path);
            } else if entry.file_name() == name
                && path.canonicalize().is_ok_and(|real| real.starts_with(tree))
            {
                return Ok(path);
            }
        }
    }
    bail!(
        "there is no {name} in the packages unpacked in {}",
        tree.display()
    )
}
