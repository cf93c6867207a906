//! `containerd-shim-uml-v2 delete`: how a container ended whose server is gone. With the server, its VM has ended, its
//! mounts and its directory are gone; unless the process that sees to that was killed as well.

use std::io::Write as _;
use std::time::SystemTime;

use anyhow::Context as _;
use containerd_shim_protos::api::DeleteResponse;
use containerd_shim_protos::protobuf::well_known_types::timestamp::Timestamp;
use containerd_shim_protos::protobuf::{Message as _, MessageField};

use crate::address;
use crate::options::Options;
use crate::vm;

/// The status of what was killed, as a shell gives it.
pub(crate) const KILLED: u32 = 128 + 9;

/// Prints the answer.
pub(crate) fn delete(options: &Options) -> anyhow::Result<()> {
    // Members of a pod have that of the pod, which goes with the pod.
    let socket = address::of(options, &options.id);
    if std::os::unix::net::UnixStream::connect(&socket).is_err() {
        let _ = std::fs::remove_file(&socket);
    }
    if let Err(why) = vm::remove_left(&options.bundle) {
        eprintln!("{why:#}");
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

/// A time as containerd has it.
pub(crate) fn timestamp(time: SystemTime) -> MessageField<Timestamp> {
    MessageField::some(Timestamp::from(time))
}
