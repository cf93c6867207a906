//! A client of a console that is driven through pipes or a terminal, without a thread between it and whoever measures
//! (cargo xtask bench).

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use super::installation::PATIENCE;

/// The client, which is killed with the value.
pub(super) struct Line {
    child: Child,
    input: File,
    output: File,
}

impl Line {
    pub(super) fn with_pipes(command: &mut Command) -> anyhow::Result<Line> {
        let name = command.get_program().to_string_lossy().into_owned();
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot run {name}"))?;
        let ends = child.stdin.take().zip(child.stdout.take());
        let (input, output) = ends.context("a client has no pipes")?;
        Ok(Line {
            child,
            input: OwnedFd::from(input).into(),
            output: OwnedFd::from(output).into(),
        })
    }

    /// For a client that talks to terminals only.
    pub(super) fn with_terminal(command: &mut Command) -> anyhow::Result<Line> {
        let name = command.get_program().to_string_lossy().into_owned();
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let terminal = openpt(flags).context("there is no terminal")?;
        grantpt(&terminal)?;
        unlockpt(&terminal)?;
        let path = ptsname(&terminal, Vec::new())?;
        let other = OpenOptions::new()
            .read(true)
            .write(true)
            .open(OsStr::from_bytes(path.as_bytes()))
            .context("cannot open a terminal")?;
        let child = command
            .stdin(other.try_clone()?)
            .stdout(other)
            .spawn()
            .with_context(|| format!("cannot run {name}"))?;
        // The command would keep its side open.
        command.stdin(Stdio::null()).stdout(Stdio::null());
        Ok(Line {
            child,
            input: terminal.try_clone()?.into(),
            output: terminal.into(),
        })
    }

    pub(super) fn type_in(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        self.input.write_all(bytes).context("cannot type")
    }

    /// Waits until there is something to be read.
    pub(super) fn wait(&self) -> anyhow::Result<()> {
        let limit = Timespec::try_from(PATIENCE)?;
        let mut waiting = [PollFd::new(&self.output, PollFlags::IN)];
        let ready = poll(&mut waiting, Some(&limit))?;
        ensure!(ready > 0, "nothing came for {} s", PATIENCE.as_secs());
        Ok(())
    }

    /// Reads up to the end of `text`, and nothing that follows.
    pub(super) fn expect(&mut self, text: &str) -> anyhow::Result<()> {
        let mut heard = Vec::new();
        while !heard.ends_with(text.as_bytes()) {
            let mut byte = [0];
            self.wait()
                .and_then(|()| Ok(self.output.read_exact(&mut byte)?))
                .with_context(|| {
                    let heard = String::from_utf8_lossy(&heard);
                    format!("{text:?} was not said; said was {heard:?}")
                })?;
            heard.extend(byte);
        }
        Ok(())
    }

    /// Waits until something comes, and drops it.
    pub(super) fn skip(&mut self) -> anyhow::Result<()> {
        self.wait()?;
        let read = self.output.read(&mut [0; 65536])?;
        ensure!(read > 0, "the client has ended");
        Ok(())
    }

    /// Reads exactly these bytes.
    pub(super) fn read_all(&mut self, wanted: &[u8]) -> anyhow::Result<()> {
        let mut buffer = vec![0; 65536.min(wanted.len())];
        let mut left = wanted;
        while !left.is_empty() {
            self.wait()
                .with_context(|| format!("{} bytes are missing", left.len()))?;
            let room = buffer.len().min(left.len());
            let read = self
                .output
                .read(buffer.get_mut(..room).unwrap_or_default())?;
            let got = buffer.get(..read).unwrap_or_default();
            let at = wanted.len() - left.len();
            match left.split_at_checked(read) {
                Some((same, rest)) if read > 0 && same == got => left = rest,
                _ => bail!(
                    "after {at} bytes others came: {:?}",
                    String::from_utf8_lossy(got.get(..80.min(read)).unwrap_or_default())
                ),
            }
        }
        Ok(())
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        // Ours and not reaped, so the number is its own.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits for the file by which a program says that it listens, and removes it.
pub(super) fn await_ready(directory: &Path) -> anyhow::Result<()> {
    let ready = directory.join("ready");
    let deadline = Instant::now() + PATIENCE;
    while !ready.exists() {
        ensure!(Instant::now() < deadline, "{} is missing", ready.display());
        std::thread::sleep(Duration::from_millis(1));
    }
    fs::remove_file(&ready).context("cannot remove a file")
}
