//! One run of the guest: on the host itself, or by a User Mode Linux kernel under the monitor (cargo xtask bench
//! guest).

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::Context as _;
use xtask::dialogue::Dialogue;

use super::super::installation::{self, PATIENCE};
use super::super::subject::Ending;
use super::image::{INIT, Image};
use super::work::{self, Times};
use crate::steps::output;

/// Memory of a guest, in megabytes; QEMU has as much.
const MEMORY: u32 = 512;

/// Natively, in a chroot: only its work.
pub(super) fn native(image: &Image) -> anyhow::Result<Times> {
    let script = "mount -t proc proc \"$0/proc\" && exec chroot \"$0\" /bench/work";
    let mut child = Command::new("unshare")
        .args([
            "--mount",
            "--pid",
            "--fork",
            "--kill-child",
            "sh",
            "-c",
            script,
        ])
        .arg(image.root())
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map(Ending)
        .context("cannot run unshare")?;
    let stdout = child.0.stdout.take().context("unshare has no pipe")?;
    let mut console = Dialogue::new(stdout, std::io::sink());
    work::of_work(&mut |text| console.expect(text, PATIENCE).map(drop))
}

/// Under the monitor, with these lines in its configuration.
pub(super) fn uml(kernel: &Path, lines: &str, image: &Image) -> anyhow::Result<Times> {
    let lines = format!(
        "ubd0 = /disks/root.dsk\nkernelarg = quiet\nkernelarg = rw\nkernelarg = {INIT}\n{lines}"
    );
    installation::with_memory(kernel, MEMORY, &lines, |installation| {
        installation.put_disk(&image.disk(), "root.dsk")?;
        let mut console = installation.console()?;
        let begun = Instant::now();
        output(&mut installation.umlwatch(&["-start"]))?;
        let mut expect = |text: &str| console.expect(text).map(drop);
        let mut times = work::of_boot(begun, &mut expect)?;
        times.extend(work::of_work(&mut expect)?);
        installation.kill()?;
        Ok(times)
    })
}
