//! The files that a VM is given before it starts: its kernel, and an image below its disks (umladmin, and the other
//! programs that make VMs).

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use jail::Program;

/// What the kernel is called.
pub const KERNEL: &str = "linux";

/// Puts a kernel into a directory as [`KERNEL`], with those of its libraries that are not the host's.
///
/// # Errors
/// If a file cannot be read or written.
pub fn put_kernel(
    kernel: &Program,
    libraries: &[(PathBuf, PathBuf)],
    directory: &Path,
) -> Result<(), String> {
    let linux = directory.join(KERNEL);
    let copied = kernel.copy_to(&linux);
    copied.map_err(|error| cannot("write", &linux, &error))?;
    let own = kernel.beside();
    let libraries = libraries.iter().map(|(library, _)| library);
    for library in libraries.filter(|library| library.starts_with(&own)) {
        let to = directory.join(format!("{KERNEL}.lib"));
        fs::create_dir_all(&to).map_err(|error| cannot("make", &to, &error))?;
        let name = library.file_name().unwrap_or_default();
        fs::copy(library, to.join(name)).map_err(|error| cannot("copy", library, &error))?;
    }
    Ok(())
}

/// A second name of an image that everybody may read, else a copy.
pub(crate) fn put_image(image: &Path, backing: &Path) -> io::Result<()> {
    let image = image.canonicalize()?;
    let is_public = fs::metadata(&image)?.permissions().mode() & 0o004 != 0;
    if is_public && fs::hard_link(&image, backing).is_ok() {
        return Ok(());
    }
    fs::copy(&image, backing)?;
    fs::set_permissions(backing, Permissions::from_mode(0o644))
}

/// The beginning of a command that makes a file system in a new file, which has nothing but zeros. With smaller blocks,
/// kernels without our patch read a copy-on-write image wrongly.
pub const MAKE_EXT4: [&str; 11] = [
    "mke2fs",
    "-q",
    "-F",
    "-t",
    "ext4",
    "-m",
    "0",
    "-b",
    "4096",
    "-E",
    "root_owner=0:0,assume_storage_prezeroed=1",
];
/// Words that follow if it needs no journal: changes do not outlast a crash of the guest then.
pub const WITHOUT_JOURNAL: [&str; 2] = ["-O", "^has_journal"];

/// What went wrong with a file, in words.
pub fn cannot(what: &str, path: &Path, error: &io::Error) -> String {
    format!("cannot {what} {}: {error}", path.display())
}
