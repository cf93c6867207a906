//! dtach as a peer: keeps the terminal of a program for those who attach to it (cargo xtask bench).

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::Context as _;

use super::line::{Line, await_ready};

/// The process that keeps the terminal; it is killed with the value, and the program loses its terminal and ends.
pub(super) struct Dtach {
    child: Child,
    directory: PathBuf,
}

impl Dtach {
    /// Lets a shell run `program`, in `directory`, and waits until it listens.
    pub(super) fn start(directory: &Path, program: &str) -> anyhow::Result<Dtach> {
        let child = Command::new("dtach")
            .args(["-N", "socket", "sh", "-c", program])
            .current_dir(directory)
            .stdin(Stdio::null())
            .spawn()
            .context("cannot run dtach")?;
        let directory = directory.to_owned();
        let dtach = Dtach { child, directory };
        await_ready(&dtach.directory).context("the program that dtach runs")?;
        Ok(dtach)
    }

    /// A client, without keys of its own.
    pub(super) fn attach(&self) -> anyhow::Result<Line> {
        let mut attach = Command::new("dtach");
        attach.args(["-a", "socket", "-E", "-z", "-r", "none"]);
        let mut line = Line::with_terminal(attach.current_dir(&self.directory))?;
        // It clears the screen when it is attached.
        line.expect("\x1b[H\x1b[J")?;
        Ok(line)
    }
}

impl Drop for Dtach {
    fn drop(&mut self) {
        // Ours and not reaped, so the number is its own.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
