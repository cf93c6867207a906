//! The server of a pod: from the socket that it is given until containerd needs it no more.

use std::os::unix::net::UnixListener;

use anyhow::Context as _;
use containerd_shim_protos::shim_async::create_task;
use containerd_shim_protos::ttrpc::r#async::Server;
use containerd_shim_protos::ttrpc::r#async::transport::Listener;
use nix::sched::{CloneFlags, unshare};
use rustix::mount::{MountPropagationFlags, mount_change};

use crate::address;
use crate::events::Events;
use crate::options::Options;
use crate::pod::Pod;
use crate::service::Service;

/// Serves until the end.
pub(crate) fn serve(options: Options) -> anyhow::Result<()> {
    rustix::process::setsid().context("cannot begin a session")?;
    own_mounts().context("cannot have mounts of its own")?;
    let socket = rustix::stdio::stdin()
        .try_clone_to_owned()
        .context("there is no socket")?;
    let socket = UnixListener::from(socket);
    socket
        .set_nonblocking(true)
        .context("cannot prepare the socket")?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = runtime.context("cannot begin an event loop")?;
    let tasks = tokio::task::LocalSet::new();
    let served = tasks.block_on(&runtime, until_over(&options, socket));
    let _ = std::fs::remove_file(address::of(&options, &options.id));
    served
}

async fn until_over(options: &Options, socket: UnixListener) -> anyhow::Result<()> {
    let pod = Pod::new(Events::begin(&options.namespace));
    let listener = Listener::try_from(socket).context("cannot listen")?;
    let service = create_task(std::sync::Arc::new(Service::of(pod.clone())));
    let mut server = Server::new()
        .add_listener(listener)
        .register_service(service);
    server.start().await.context("cannot serve")?;
    pod.over.notified().await;
    // The answer to who has asked for the end is under way.
    server.shutdown().await.context("cannot end")?;
    Ok(())
}

/// What is mounted here from now on, nobody else sees, and it is gone with this process. What the host mounts is seen.
fn own_mounts() -> anyhow::Result<()> {
    unshare(CloneFlags::CLONE_NEWNS)?;
    let shared = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
    Ok(mount_change("/", shared)?)
}
