//! A small guest: busybox in an ext4 file system, made without mounting anything (cargo xtask, and the tests).
//!
//! It has a login on `tty1` to `tty3` and `ttyS0` (root, password `uml`), powers off on CTRL-ALT-DEL, prints
//! `GUEST-READY` and `GUEST-SHUTDOWN` on con0, and writes `ready` to `/proc/mconsole` when it is up. The kernel
//! arguments `gip=` and `ggw=` configure its network; a script on the disk ubd15 is run. It has the helper, umlguest,
//! if that has been built. See `crates/xtask/guest/`.

use std::fmt::Write as _;
use std::fs::{self, File, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail, ensure};
use elf::ElfBytes;
use elf::abi::PT_INTERP;
use elf::endian::AnyEndian;

use crate::target_dir;

/// Debian packages that [`build`] needs.
pub const PACKAGES: [&str; 2] = ["busybox-static", "e2fsprogs"];

/// Size of the image in megabytes if nothing else is wanted.
pub const SIZE_MB: u64 = 24;

/// The busybox to install; it must be linked statically, as the guest has no libraries.
const BUSYBOX: &str = "/bin/busybox";

const DIRECTORIES: [&str; 13] = [
    "bin", "sbin", "usr/bin", "usr/sbin", "etc", "proc", "sys", "dev", "tmp", "root", "mnt", "run",
    "var/log",
];

/// Path in the guest, mode, content.
const FILES: [(&str, u32, &str); 12] = [
    ("etc/inittab", 0o644, include_str!("../guest/inittab")),
    ("etc/rc.up", 0o755, include_str!("../guest/rc.up")),
    ("etc/rc.down", 0o755, include_str!("../guest/rc.down")),
    ("etc/login-on", 0o755, include_str!("../guest/login-on")),
    ("etc/helper-on", 0o755, include_str!("../guest/helper-on")),
    ("etc/shadow", 0o600, include_str!("../guest/shadow")),
    ("etc/passwd", 0o644, "root:x:0:0:root:/root:/bin/sh\n"),
    ("etc/group", 0o644, "root:x:0:\n"),
    ("etc/fstab", 0o644, "/dev/ubda / ext4 rw 0 0\n"),
    ("etc/issue", 0o644, "UML test guest\n"),
    (
        "etc/securetty",
        0o644,
        "console\ntty0\ntty1\ntty2\ntty3\nttyS0\n",
    ),
    ("etc/hosts", 0o644, "127.0.0.1 localhost uml\n"),
];

/// In addition, if there is to be no login.
const ROOT_SHELL: (&str, u32, &str) =
    ("etc/root-shell", 0o755, include_str!("../guest/root-shell"));

/// What a terminal line of the guest asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Login {
    /// Name and password: root, uml.
    Password,
    /// Nothing: it shows a shell of root.
    RootShell,
}

/// Writes the image of a guest with a file system of `megabytes` to `out`, which is replaced.
///
/// # Errors
/// If busybox is missing or not static, or if the tools of e2fsprogs fail; their own words are part of the error.
pub fn build(out: &Path, megabytes: u64, login: Login) -> anyhow::Result<()> {
    let scratch = tempfile::tempdir().context("cannot make a temporary directory")?;
    let root = scratch.path().join("root");
    lay_out(&root, login)?;
    let image = scratch.path().join("image");
    let file = File::create(&image).context("cannot create the image")?;
    file.set_len(megabytes << 20)
        .context("cannot size the image")?;
    run(Command::new("/sbin/mke2fs")
        .args([
            "-q",
            "-F",
            "-t",
            "ext4",
            "-m",
            "0",
            // With smaller blocks, kernels without our patch read a copy-on-write image wrongly.
            "-b",
            "4096",
            "-O",
            "^has_journal",
            "-E",
            "root_owner=0:0",
        ])
        .args(["-L", "umlroot", "-d"])
        .arg(&root)
        .arg(&image))?;
    let nodes = scratch.path().join("nodes");
    fs::write(&nodes, debugfs_script(&root)?).context("cannot write the commands for debugfs")?;
    run(Command::new("/sbin/debugfs")
        .args(["-w", "-f"])
        .arg(&nodes)
        .arg(&image))?;
    run(Command::new("/sbin/e2fsck").arg("-fn").arg(&image))?;
    install(&image, out)
}

/// The image appears under its name only when it is complete.
fn install(image: &Path, out: &Path) -> anyhow::Result<()> {
    let directory = out
        .parent()
        .filter(|path| !path.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let unfinished = tempfile::NamedTempFile::new_in(directory)
        .with_context(|| format!("cannot write in {}", directory.display()))?;
    run(Command::new("cp")
        .args(["--sparse=always", "--"])
        .arg(image)
        .arg(unfinished.path()))?;
    unfinished
        .as_file()
        .set_permissions(Permissions::from_mode(0o644))?;
    unfinished
        .persist(out)
        .with_context(|| format!("cannot replace {}", out.display()))?;
    Ok(())
}

fn lay_out(root: &Path, login: Login) -> anyhow::Result<()> {
    for directory in DIRECTORIES {
        let path = root.join(directory);
        fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
    }
    fs::set_permissions(root.join("tmp"), Permissions::from_mode(0o1777))?;
    fs::set_permissions(root.join("root"), Permissions::from_mode(0o700))?;
    let shell = (login == Login::RootShell).then_some(ROOT_SHELL);
    for (name, mode, text) in FILES.into_iter().chain(shell) {
        let path = root.join(name);
        fs::write(&path, text)
            .and_then(|()| fs::set_permissions(&path, Permissions::from_mode(mode)))
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    install_helper(root)?;
    install_busybox(root)
}

/// The target directory of the helper that is installed in guests: apart from everything else.
pub fn helper_target() -> PathBuf {
    target_dir().join("static")
}

/// Where the helper is that was built, without libraries, in this target directory.
pub fn helper_in(target: &Path) -> PathBuf {
    static_in(target, "umlguest")
}

/// Where a program is that was built, without libraries, in this target directory.
pub fn static_in(target: &Path, program: &str) -> PathBuf {
    target.join(TARGET).join("release").join(program)
}

/// The target of programs without libraries, with which cargo does not build its own tools so.
pub const TARGET: &str = "x86_64-unknown-linux-gnu";

fn install_helper(root: &Path) -> anyhow::Result<()> {
    let helper = helper_in(&helper_target());
    if !helper.exists() {
        return Ok(());
    }
    ensure!(is_static(&helper)?, "{} needs libraries", helper.display());
    let path = root.join("sbin/umlguest");
    fs::copy(&helper, &path).with_context(|| format!("cannot copy {}", helper.display()))?;
    Ok(())
}

fn install_busybox(root: &Path) -> anyhow::Result<()> {
    let listed = Command::new(BUSYBOX)
        .arg("--list-full")
        .output()
        .with_context(|| {
            format!("cannot run {BUSYBOX} (Debian: apt-get install busybox-static)")
        })?;
    ensure!(
        listed.status.success(),
        "{BUSYBOX} --list-full: {}",
        listed.status
    );
    ensure!(
        is_static(Path::new(BUSYBOX))?,
        "{BUSYBOX} needs libraries, which the guest has not (Debian: apt-get install busybox-static)"
    );
    let busybox = root.join("bin/busybox");
    fs::copy(BUSYBOX, &busybox).with_context(|| format!("cannot copy {BUSYBOX}"))?;
    fs::set_permissions(&busybox, Permissions::from_mode(0o755))?;
    for name in String::from_utf8_lossy(&listed.stdout)
        .lines()
        .chain(["sbin/init"])
    {
        let link = root.join(name);
        if !link.exists() && link.symlink_metadata().is_err() {
            fs::create_dir_all(link.parent().unwrap_or(root))?;
            symlink("/bin/busybox", &link).with_context(|| format!("cannot link {name}"))?;
        }
    }
    Ok(())
}

/// A program that asks for a loader is not.
fn is_static(program: &Path) -> anyhow::Result<bool> {
    let bytes = fs::read(program).with_context(|| format!("cannot read {}", program.display()))?;
    let elf = ElfBytes::<AnyEndian>::minimal_parse(&bytes)
        .with_context(|| format!("{} is no program", program.display()))?;
    let segments = elf.segments().context("the program has no segments")?;
    Ok(segments.iter().all(|segment| segment.p_type != PT_INTERP))
}

/// Device nodes for kernels that do not fill `/dev` themselves, and owners where the builder is not root: debugfs
/// makes both without a privilege.
fn debugfs_script(root: &Path) -> anyhow::Result<String> {
    let mut script = String::from("cd /dev\n");
    for (name, major, minor) in [
        ("console", 5, 1),
        ("tty", 5, 0),
        ("null", 1, 3),
        ("zero", 1, 5),
    ] {
        writeln!(script, "mknod {name} c {major} {minor}")?;
    }
    for n in 0..7 {
        writeln!(script, "mknod tty{n} c 4 {n}")?;
    }
    writeln!(script, "mknod ttyS0 c 4 64")?;
    for (n, letter) in ('a'..='p').enumerate() {
        writeln!(script, "mknod ubd{letter} b 98 {}", n * 16)?;
    }
    if !rustix::process::geteuid().is_root() {
        own_by_root(root, "", &mut script)?;
    }
    Ok(script)
}

fn own_by_root(directory: &Path, name: &str, script: &mut String) -> anyhow::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = format!("{name}/{}", entry.file_name().to_string_lossy());
        writeln!(script, "sif {name} uid 0\nsif {name} gid 0")?;
        if entry.file_type()?.is_dir() {
            own_by_root(&entry.path(), &name, script)?;
        }
    }
    Ok(())
}

fn run(command: &mut Command) -> anyhow::Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot run {name} (Debian: apt-get install e2fsprogs)"))?;
    if !output.status.success() {
        bail!(
            "{name}: {}: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(())
}
