//! `containerd-shim-uml-v2 delete`: how a container ended whose server is gone. With the server, its VM has ended, its
//! mounts and its directory are gone; unless the process that sees to that was killed as well.

use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::SystemTime;

use anyhow::Context as _;
use containerd_shim_protos::api::DeleteResponse;
use containerd_shim_protos::protobuf::well_known_types::timestamp::Timestamp;
use containerd_shim_protos::protobuf::{Message as _, MessageField};
use monitors::keeper;

use crate::address;
use crate::options::Options;
use crate::vm;

/// The status of what was killed, as a shell gives it.
pub(crate) const KILLED: u32 = 128 + 9;

/// Prints the answer.
pub(crate) fn delete(options: &Options) -> anyhow::Result<()> {
    // Members of a pod have that of the pod, which goes with the pod.
    let socket = address::of(options, &options.id);
    remove_socket(&socket);
    if let Some(directory) = vm::directory_of(&options.bundle) {
        clear(&directory, &socket);
    }
    let answer = DeleteResponse {
        exit_status: KILLED,
        exited_at: timestamp(SystemTime::now()),
        ..DeleteResponse::default()
    };
    let bytes = answer
        .write_to_bytes()
        .context("cannot encode the answer")?;
    std::io::stdout()
        .write_all(&bytes)
        .context("cannot tell the answer")
}

/// Removes a socket at which nobody listens.
fn remove_socket(socket: &Path) {
    if UnixStream::connect(socket).is_err() {
        let _ = std::fs::remove_file(socket);
    }
}

/// The argument of the process that removes what the other processes of a pod have left when they were killed; its
/// directory and its socket follow.
const ARGUMENT: &str = "--clear";

/// Begins that process. containerd does not wait for it, and does not end it when it takes long.
fn clear(directory: &Path, socket: &Path) {
    let begun = Command::new("/proc/self/exe")
        .arg(ARGUMENT)
        .args([directory, socket])
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    if let Err(error) = begun {
        eprintln!("cannot remove {}: {error}", directory.display());
    }
}

/// Whether this process is that one.
pub(crate) fn is_clearer() -> bool {
    std::env::args_os()
        .nth(1)
        .is_some_and(|word| word == ARGUMENT)
}

/// The main function of that process.
pub(crate) fn main() -> ExitCode {
    let mut paths = std::env::args_os().skip(2).map(PathBuf::from);
    let (directory, socket) = (paths.next(), paths.next());
    let cleared = keeper::clear(&directory.unwrap_or_default());
    // By now nobody listens at it, if it was not gone at once.
    remove_socket(&socket.unwrap_or_default());
    match cleared {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// A time as containerd has it.
pub(crate) fn timestamp(time: SystemTime) -> MessageField<Timestamp> {
    MessageField::some(Timestamp::from(time))
}
