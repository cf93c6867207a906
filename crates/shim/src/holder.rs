//! The process that holds the network namespace of a pod: engines give it interfaces by the number of a process. It is
//! this program once more, and ends with the server.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitCode, Stdio};

use anyhow::{Context as _, bail};
use nix::sched::{CloneFlags, setns, unshare};

/// The argument by which it is recognised; the path of a namespace may follow.
const ARGUMENT: &str = "--hold";

/// The process, as the server sees it. It ends when this is dropped, or when the server is killed: then its input ends.
#[derive(Debug)]
pub(crate) struct Holder {
    child: Child,
    input: Option<ChildStdin>,
}

impl Holder {
    /// Begins one, in the namespace with this path, or in a new one.
    pub(crate) fn begin(namespace: Option<&Path>) -> anyhow::Result<Holder> {
        let mut child = Command::new("/proc/self/exe")
            .arg(ARGUMENT)
            .args(namespace)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot begin a process")?;
        let input = child.stdin.take();
        // It says something when it is where it is to be.
        let mut said = [0];
        let heard = child.stdout.take().map(|mut stdout| stdout.read(&mut said));
        let holder = Holder { child, input };
        match heard {
            Some(Ok(1)) => Ok(holder),
            _ => bail!(
                "cannot make or enter the network namespace of the pod; see the log of containerd"
            ),
        }
    }

    /// Its number.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        drop(self.input.take());
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether this process is one.
pub(crate) fn is_holder() -> bool {
    std::env::args_os()
        .nth(1)
        .is_some_and(|word| word == ARGUMENT)
}

/// The main function of that process.
pub(crate) fn main() -> ExitCode {
    match enter() {
        Ok(()) => {
            println!();
            // Until the end.
            let _ = std::io::stdin().read(&mut [0]);
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("the network namespace of the pod: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn enter() -> anyhow::Result<()> {
    match std::env::args_os().nth(2) {
        Some(path) => {
            let shown = Path::new(&path).display().to_string();
            let namespace = File::open(&path).context(shown.clone())?;
            setns(namespace, CloneFlags::CLONE_NEWNET).context(shown)
        }
        None => unshare(CloneFlags::CLONE_NEWNET).context("cannot make one"),
    }
}
