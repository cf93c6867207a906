//! The process of a command inside its container, until it is the program (umlguest).

use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::process::exit;

use anyhow::{Context as _, bail};
use guest_line::Place;
use nix::sched::{CloneFlags, setns, unshare};
use nix::unistd::setsid;
use rustix::fs::Mode;
use rustix::process::{
    DumpableBehavior, Signal, set_dumpable_behavior, set_parent_process_death_signal, umask,
};
use rustix::stdio::{dup2_stderr, dup2_stdin, dup2_stdout};

use super::hand::{self, Hand};
use super::{entry, group, program, rights, root};

/// The word that tells this program that it is this process.
pub(crate) const OPTION: &str = "-inside";

/// Becomes the program. The parent is at the other end of the standard input; it is told if that cannot be.
pub(crate) fn enter() -> anyhow::Result<()> {
    // Closed when the program executes.
    let parent = hand::socket()?;
    if let Err(error) = enter_for(&parent) {
        let _ = (&parent).write_all(format!("{error:#}").as_bytes());
    }
    exit(1)
}

fn enter_for(parent: &UnixStream) -> anyhow::Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    // Others in the container are not to look into it.
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    let mut hand = Hand::receive(parent)?;
    let command = hand.command()?;
    let first = hand.first.take();
    let [stdin, stdout, stderr] = hand.streams;
    dup2_stdin(&stdin)?;
    dup2_stdout(&stdout)?;
    dup2_stderr(&stderr)?;
    drop((stdin, stdout, stderr));
    setsid().context("cannot begin a session")?;
    let terminal = command.terminal.is_some();
    if terminal {
        rustix::process::ioctl_tiocsctty(rustix::stdio::stdin())
            .context("cannot take the terminal")?;
    }
    // Files that are made have the modes that are asked for.
    umask(Mode::empty());
    let own = CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWCGROUP;
    match (&command.place, first) {
        (Place::New(container), _) => {
            group::join(&container.id, None)?;
            rights::begin(&container.rights)?;
            unshare(own).context("this kernel lacks namespaces (mnt, uts, ipc, cgroup)")?;
            root::enter(container, program::directory_of(&command), terminal)?;
            program::execute(&command, &container.rights)
        }
        (Place::In(id, rights), Some(first)) => {
            group::join(id, Some(entry::first_pid(id)?))?;
            rights::begin(rights)?;
            setns(&first, own).context("cannot join the container")?;
            drop(first);
            program::execute(&command, rights)
        }
        _ => bail!("no container is given"),
    }
}
