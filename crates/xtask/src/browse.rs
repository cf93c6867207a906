//! Runs a script that drives a browser with the web interface: those in `tests/web` (the end-to-end tests, cargo xtask
//! bench).

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, ensure};

use crate::repository;

/// The browser.
pub const CHROMIUM: &str = "/usr/bin/chromium";

/// The directory of the scripts.
pub fn scripts() -> PathBuf {
    repository().join("tests/web")
}

/// A process that is ended with its value.
struct Node(Child);

impl Drop for Node {
    fn drop(&mut self) {
        // Ours and not reaped, so the number is its own; that it has ended by itself is as well.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs a script with the web interface at this address, whose master password is this. A line `@WORD...` that it
/// prints is an order, which is carried out by `obey`; the script reads a line when it is done.
///
/// # Errors
/// If the script fails, or an order.
pub fn browse(
    script: &str,
    args: &[&str],
    address: &str,
    master: &str,
    mut obey: impl FnMut(&str) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let node = Command::new("node")
        .arg(script)
        .args(args)
        .current_dir(scripts())
        .env("UMLWEB", address)
        .env("UMLWEB_MASTER", master)
        .env("UMLWEB_CHROMIUM", CHROMIUM)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot run node")?;
    let mut node = Node(node);
    let Node(child) = &mut node;
    let ends = child.stdin.take().zip(child.stdout.take());
    let (mut stdin, stdout) = ends.context("node has no pipes")?;
    for line in BufReader::new(stdout).lines() {
        let line = line?;
        match line.strip_prefix('@') {
            Some(order) => {
                obey(order)?;
                stdin.write_all(b"done\n")?;
            }
            None => println!("{script}: {line}"),
        }
    }
    let status = child.wait()?;
    ensure!(status.success(), "{script}: {status}");
    Ok(())
}
