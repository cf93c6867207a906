//! The helper in a guest (umlguest): runs commands for users of the host, who reach it over a serial line.
//!
//! It is one static program, and needs nothing of the guest but its device of the line. It executes itself again for
//! each command, to prepare what the command runs in: the guest itself or a container.

mod container;
mod copy;
mod init;
mod kept;
mod launch;
mod line;
mod netlink;
mod network;
mod process;
mod seed;
mod serve;
mod shares;
mod stream;
mod users;

use std::ffi::OsString;
use std::io::Write as _;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use guest_line::{RECEIVE, SEND};

/// The device of the line: the last of the 64 serial lines that a User Mode Linux kernel has (`ssl63`).
const LINE: &str = "/dev/ttyS63";

fn main() -> ExitCode {
    if init::is_init() {
        init::main();
    }
    let words: Vec<OsString> = std::env::args_os().skip(1).collect();
    match run(&words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nobody may listen any more.
            let _ = writeln!(std::io::stderr(), "umlguest: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(words: &[OsString]) -> anyhow::Result<()> {
    let (first, rest) = match words.split_first() {
        None => {
            let line = line::open(LINE.as_ref())?;
            if let Err(error) = shares::mount_all() {
                eprintln!("umlguest: {error:#}");
            }
            return serve::serve(line);
        }
        Some(first) => first,
    };
    match (first.to_str(), rest) {
        (Some(launch::OPTION), rest) => launch::launch(rest),
        (Some(container::PARENT), []) => container::attend(),
        (Some(container::INSIDE), []) => container::enter(),
        (Some(SEND), [source]) => copy::send(source),
        (Some(RECEIVE), [to]) => copy::receive(to, None),
        (Some(RECEIVE), [to, name]) => copy::receive(to, Some(name)),
        (Some("-line"), [device]) => {
            let device = std::path::Path::new(device);
            let line = line::open(device).with_context(|| format!("{}", device.display()))?;
            serve::serve(line)
        }
        (Some("-seed"), []) => seed::run(),
        _ => bail!("usage: umlguest [-line DEVICE | -seed]"),
    }
}
