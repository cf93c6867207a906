//! The daemon from its start to its end: the steps in the order that matters (umldir).

use std::fs::{self, DirBuilder, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use config::Config;
use daemon::{CtrlSocket, Home, LogHandle, LogTo, Readiness, Signals, Told};
use files::LogDir;
use rpc_xdr::server::Limits;
use rpc_xdr::umldir::{DIR_VMS_MAX, UMLDIR_V1_LIMITS, serve_umldir_v1};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::UnixStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::LocalSet;

use crate::service::{Service, Session};
use crate::tcp::Ports;

/// The file of the log, in the directory `log` of the daemon.
const LOG: &str = "umldir";
/// Bytes of it, when it is kept under another name, and a new one is begun.
const LOG_LIMIT: u64 = 10 << 20;

/// Connections of users other than root at once. They can keep neither each other nor the monitors waiting: a further
/// one is closed.
const MAX_STRANGERS: usize = 256;

/// How long a connection that cannot register may make no call.
const STRANGER_IDLE: Duration = Duration::from_secs(30);

/// Runs the directory service. In the started program it returns when the daemon is ready; in the daemon, at its end.
///
/// # Errors
/// Whatever prevents the daemon from becoming ready, for the terminal.
pub fn run(config_path: &Path, foreground: bool) -> anyhow::Result<()> {
    if !rustix::process::geteuid().is_root() {
        bail!("must be started by root: monitors trust no other directory service");
    }
    daemon::start_up()?;
    let global = Config::load(config_path)?.global;
    let home = global.directory();
    own_directory(&home, 0o755)?;
    // The process that holds the locks may clean up after an earlier daemon. They are released last.
    let pid_files = Home::of_directory_service(&global).take()?;
    let log = open_log(&home.join("log"), foreground)?;
    let ctrl = CtrlSocket::bind(&home)?;
    let mut ports = Ports::listen(&global)?;
    ports.may_use(allow_many_connections(ports.max_descriptors())?);
    let readiness = daemon::background(foreground, &pid_files)?;
    // From here on this is the daemon: no thread or runtime may exist before.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let serving = serve(ctrl, ports, &log, &readiness);
    let result = LocalSet::new().block_on(&runtime, serving);
    match result {
        // A caller that waits at the terminal gets the error; otherwise it is returned as usual.
        Err(error) if readiness.failed(1, &format!("umldir: {}", cli::causes(&error))) => Ok(()),
        result => result,
    }
}

/// Makes a directory with this mode, or makes sure that the one that is there is root's alone. Its mode is kept then,
/// as the administrator may have restricted it.
fn own_directory(path: &Path, mode: u32) -> anyhow::Result<LogDir> {
    let shown = path.display();
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)
            .with_context(|| format!("cannot make the directory {}", parent.display()))?;
    }
    match DirBuilder::new().mode(mode).create(path) {
        // The umask may have taken something off.
        Ok(()) => fs::set_permissions(path, Permissions::from_mode(mode)),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
    .with_context(|| format!("cannot make the directory {shown}"))?;
    LogDir::open(path).with_context(|| format!("cannot use the directory {shown}"))
}

fn open_log(path: &Path, foreground: bool) -> anyhow::Result<LogHandle> {
    let to = LogTo {
        file: Some((own_directory(path, 0o750)?, LOG.parse()?)),
        limit: LOG_LIMIT,
        stderr: foreground,
    };
    Ok(LogHandle::init("umldir", to)?)
}

/// Every monitor holds a connection, and the usual limit of 1024 open files may be too low. Returns how many are left
/// for connections over TCP, of which there are to be `over_tcp`.
fn allow_many_connections(over_tcp: u64) -> anyhow::Result<u64> {
    let local = u64::from(DIR_VMS_MAX) + MAX_STRANGERS as u64 + 64;
    let wanted = local + over_tcp;
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let wanted = maximum.map_or(wanted, |maximum| wanted.min(maximum));
    if current.is_some_and(|current| current < wanted) {
        let current = Some(wanted);
        setrlimit(Resource::Nofile, Rlimit { current, maximum })
            .context("cannot raise the limit of open files")?;
    }
    Ok(wanted.saturating_sub(local))
}

/// The daemon proper, until a signal ends it.
async fn serve(
    mut ctrl: CtrlSocket,
    mut ports: Ports,
    log: &LogHandle,
    readiness: &Readiness,
) -> anyhow::Result<()> {
    let signals = Signals::receive()?;
    let acceptor = ctrl.acceptor()?;
    let strangers = Arc::new(Semaphore::new(MAX_STRANGERS));
    tracing::info!("directory service {} started", env!("CARGO_PKG_VERSION"));
    let service = ports.open()?;
    readiness.ready()?;
    loop {
        tokio::select! {
            stream = acceptor.next() => accept(stream, &service, &strangers),
            told = signals.next() => match told {
                Told::HangUp if !daemon::has_terminal() => {
                    if let Err(error) = log.reopen() {
                        tracing::error!("the old log stays in use: {error}");
                    }
                }
                Told::HangUp | Told::End => break,
                Told::Upgrade => {}
            },
        }
    }
    tracing::info!("directory service ended");
    Ok(())
}

/// Begins a conversation, if there is room for it.
fn accept(stream: UnixStream, service: &Rc<Service>, strangers: &Arc<Semaphore>) {
    let session = match stream.peer_cred() {
        Ok(peer) => Session::local(peer.uid(), peer.pid()),
        Err(error) => return tracing::warn!("cannot find out who connected: {error}"),
    };
    let mut limits = UMLDIR_V1_LIMITS;
    let mut place = None;
    if session.may_register().is_none() {
        limits.idle = Some(STRANGER_IDLE);
        match Arc::clone(strangers).try_acquire_owned() {
            Ok(free) => place = Some(free),
            Err(_) => return,
        }
    }
    tokio::task::spawn_local(converse(stream, Rc::clone(service), session, limits, place));
}

async fn converse(
    stream: UnixStream,
    service: Rc<Service>,
    session: Session,
    limits: Limits,
    _place: Option<OwnedSemaphorePermit>,
) {
    // An error of a client is not logged: the client got an answer, or is gone.
    let _ = serve_umldir_v1(stream, service, session, limits).await;
}
