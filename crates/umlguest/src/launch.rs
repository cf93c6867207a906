//! The last steps before a command, in its own process: session, terminal, user, directory (umlguest).

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, exit};

use anyhow::{Context as _, bail};
use guest_line::Command as Wanted;
use nix::unistd::{Gid, Uid, setgid, setgroups, setsid, setuid};

use crate::users::User;

/// The word that tells this program that it is about to become a command.
pub(crate) const OPTION: &str = "-launch";

/// Exit status if a program cannot be executed, and if there is none, as shells have it.
const CANNOT: i32 = 126;
const NOT_FOUND: i32 = 127;

/// Where programs are found if the client does not say it.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The words after [`OPTION`] for a command.
pub(crate) fn words(command: &Wanted) -> Vec<OsString> {
    let os = |bytes: &[u8]| OsStr::from_bytes(bytes).to_owned();
    let terminal = if command.terminal.is_some() {
        "tty"
    } else {
        ""
    };
    let user = command.user.as_deref().unwrap_or(b"root");
    let directory = command.directory.as_deref().unwrap_or_default();
    let mut words = vec![terminal.into(), os(user), os(directory)];
    words.extend(command.words.iter().map(|word| os(word)));
    words
}

/// Becomes the command; returns only if it cannot be prepared.
pub(crate) fn launch(words: &[OsString]) -> anyhow::Result<()> {
    let [terminal, user, directory, program, arguments @ ..] = words else {
        bail!("nothing to execute");
    };
    setsid().context("cannot begin a session")?;
    if terminal == "tty" {
        rustix::process::ioctl_tiocsctty(rustix::stdio::stdin())
            .context("cannot take the terminal")?;
    }
    let name = user.to_string_lossy();
    let user = User::find(&name).with_context(|| format!("user {name}"))?;
    become_user(&user).with_context(|| format!("cannot become {name}"))?;
    go_to(directory, &user.home)?;
    let mut command = Command::new(program);
    command.args(arguments);
    for (name, value) in [
        ("HOME", user.home.as_os_str()),
        ("LOGNAME", user.name.as_ref()),
        ("PATH", PATH.as_ref()),
        ("SHELL", user.shell.as_os_str()),
        ("USER", user.name.as_ref()),
    ] {
        if std::env::var_os(name).is_none() {
            command.env(name, value);
        }
    }
    let error = command.exec();
    let program = Path::new(program).display();
    eprintln!("umlguest: cannot execute {program}: {error}");
    exit(match error.kind() {
        io::ErrorKind::NotFound => NOT_FOUND,
        _ => CANNOT,
    })
}

fn become_user(user: &User) -> nix::Result<()> {
    let groups: Vec<_> = user.groups.iter().copied().map(Gid::from_raw).collect();
    setgroups(&groups)?;
    setgid(Gid::from_raw(user.gid))?;
    setuid(Uid::from_raw(user.uid))
}

/// A directory that was asked for must be there; without a home directory, it is the root.
fn go_to(directory: &OsStr, home: &Path) -> anyhow::Result<()> {
    let go = |path: &Path| std::env::set_current_dir(path);
    if directory.is_empty() {
        return go(home)
            .or_else(|_| go(Path::new("/")))
            .context("cannot enter /");
    }
    let directory = Path::new(directory);
    go(directory).with_context(|| format!("cannot enter {}", directory.display()))
}
