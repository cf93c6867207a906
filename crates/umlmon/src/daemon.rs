//! The monitor daemon from its start to its end: the steps, whose order matters (umlmon, the monitor process).

use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use config::{Config, Global, StartType, Vm, VmName};
use daemon::{Acceptor, CtrlSocket, Home, LogHandle, LogTo, PidFile, Readiness, Signals, Told};
use disks::{Devices, Disks, Locks};
use files::LogDir;
use jail::{Account, ControlGroup, Jail, UserPool};
use net::Records;
use rpc_xdr::server;
use rpc_xdr::umlmonctrl::UMLMONCTRL_V1_MAX_ARGS;
use tokio::net::UnixStream;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::task::{JoinHandle, LocalSet};
use tokio::time::Instant;

use crate::announce::announce;
use crate::calls;
use crate::channels::Channels;
use crate::disks::holdings::{self, Cows};
use crate::disks::process;
use crate::disks::storage::Storage;
use crate::events::Happening;
use crate::kept::Kept;
use crate::last_look::LastLook;
use crate::life::connector_record;
use crate::life::monitor::{Ask, Handle, Monitor};
use crate::life::run::{Run, group_name};
use crate::privilege;
use crate::remote::Sockets;
use crate::second::keeper::Keeper;
use crate::service::Service;
use crate::service::access::Guarded;
use crate::service::session::Session;
use crate::service::site;
use crate::setup::{Configured, Setup};
use crate::shares::{Caller, Shares, Turns};
use crate::status::Phase;
use crate::survivor::{self, Survivor};
use crate::upgrade;

/// Connections to the control socket at once; a further one waits in the socket's queue.
const MAX_CONNECTIONS: usize = 256;
/// Connections of local users other than root, in all and for one user, so that root can always connect.
const MAX_OF_USERS: (usize, usize) = (224, 96);

/// Events that are taken from the kernel at once. There are more descriptors only if many clients are connected.
const EVENTS: usize = 64;
/// How long after a change of the state, or a call, memory is given back.
const QUIET: Duration = Duration::from_millis(400);

/// How long those who listen to the events may take to learn of the last ones.
const LAST_EVENTS: Duration = Duration::from_secs(1);

/// How the monitor of a VM is to run.
#[derive(Clone, Copy, Debug)]
pub struct Manner {
    /// It stays in the foreground, and logs to stderr as well.
    pub foreground: bool,
    /// It goes on in the process of a monitor that has executed it.
    pub in_place: bool,
    /// It boots the VM as soon as it is ready, if the configuration says `start = boot`.
    pub boot: bool,
}

/// Runs the monitor of a VM. In the started program it returns when the daemon is ready; in the daemon, at its end.
///
/// # Errors
/// Whatever prevents the daemon from becoming ready, for the terminal.
pub fn run(name: &VmName, config_path: &Path, manner: Manner) -> anyhow::Result<()> {
    if !rustix::process::geteuid().is_root() {
        bail!("must be started by root: it mounts file systems and starts the VM as another user");
    }
    daemon::start_up()?;
    privilege::check()?;
    calls::check()?;
    let config_path = std::path::absolute(config_path)?;
    let (parts, pid_files) = begin(name, config_path, manner)?;
    let readiness = daemon::background(manner.foreground || manner.in_place, &pid_files)?;
    // From here on this is the daemon: no thread or runtime may exist before.
    daemon::spare_when_memory_is_short();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .max_io_events_per_tick(EVENTS)
        .enable_all()
        .build()?;
    let told = Rc::new(readiness);
    // A task of its own, allocated on the heap, uses none of the stack while other tasks run.
    let served: Pin<Box<dyn Future<Output = anyhow::Result<()>>>> =
        Box::pin(serve(parts, Rc::clone(&told), manner));
    let served = async { tokio::task::spawn_local(served).await? };
    match LocalSet::new().block_on(&runtime, served) {
        // A caller that waits at the terminal gets the error; otherwise it is returned as usual.
        Err(error) if told.failed(1, &format!("umlmon: {name}: {}", cli::causes(&error))) => Ok(()),
        result => result,
    }
}

/// Becomes the only monitor of the VM, and prepares its parts. The configuration of other VMs is freed: a host may have
/// a thousand VMs, and as many monitors. That of a VM which runs without a monitor is what it was started with.
fn begin(
    name: &VmName,
    config_path: PathBuf,
    manner: Manner,
) -> anyhow::Result<(Box<Parts>, [PidFile; 2])> {
    let config = Config::load(&config_path)?;
    let vm = config.vm(name);
    let global = config.global;
    let vm_dir = global.vm_dir(name);
    if !vm_dir.join("run").exists() {
        // Nothing is made for a VM that is not configured.
        vm.as_ref().map_err(|error| anyhow::anyhow!("{error}"))?;
    }
    let opened = jail::open_vm_dir(&global.vardir, &vm_dir)?;
    // The lock comes first: the process that holds it may clean up after an earlier monitor. It is released last.
    let pid_files = Home::of_monitor(&global, name).take()?;
    let survivor = survivor::find(opened.as_fd(), name)?;
    let vm = match &survivor {
        Some(survivor) => {
            // Whoever ends this process now means the VM, too.
            Signals::hold()?;
            survivor.reading.vm.clone()
        }
        None => vm?,
    };
    let parts = Parts::prepare(vm, global, config_path, manner, survivor)?;
    Ok((parts, pid_files))
}

fn prepare_jail(global: &Global, vm: &Vm, runs: bool) -> anyhow::Result<Jail> {
    let places = jail::Places {
        vardir: global.vardir.clone(),
        vm_dir: global.vm_dir(&vm.name),
        jail: vm.jaildir.clone(),
        logdir: vm.logdir.clone(),
        shared: global.shared.clone(),
    };
    let account = account(global, vm)?;
    Ok(match runs {
        true => Jail::adopt(&places, account)?,
        false => Jail::prepare(&places, account)?,
    })
}

/// Asks the user database in a separate process: its modules and their libraries would stay loaded.
fn account(global: &Global, vm: &Vm) -> anyhow::Result<Account> {
    let pool = UserPool {
        vardir: global.vardir.clone(),
        first: global.user_pool.first,
        last: global.user_pool.last,
    };
    let resolve = || {
        let account = pool.account(vm.name.as_str(), vm.named_user(), vm.vmgroup.as_deref());
        serde_json::to_vec(&account.map_err(|error| error.to_string())).unwrap_or_default()
    };
    let answer = daemon::aside(resolve).context("cannot ask the user database")?;
    let account: Result<Account, String> = serde_json::from_slice(&answer)?;
    account.map_err(anyhow::Error::msg)
}

fn provide_devices(global: &Global) -> anyhow::Result<Devices> {
    let devices =
        Devices::open(&global.shared).context("cannot open the shared directory of disks")?;
    crate::disks::devices::provide(&devices, &global.devices).map_err(anyhow::Error::msg)?;
    Ok(devices)
}

/// Whether a name in `/disks` is, or may be, of work that was not completed.
fn is_unfinished(name: &[u8]) -> bool {
    disks::work::is_partial(name) || disks::work::is_of_snapshot(name)
}

/// Removes the half-made files of a monitor that was killed while it worked on disks, and does the steps that it may
/// not have completed. Returns the copy-on-write images.
async fn tidy(setup: &Setup) -> Cows {
    let tidied = match setup.storage.disks.any(is_unfinished) {
        Ok(false) => Ok(()),
        Ok(true) => process::tidy(setup).await,
        Err(error) => Err(error.into()),
    };
    if let Err(failure) = tidied {
        tracing::warn!("cannot remove incomplete disks of a former monitor: {failure}");
    }
    // It may not have recorded its last image; others may have been put there by hand.
    holdings::look(setup).await.unwrap_or_else(|failure| {
        tracing::warn!("cannot find out which images use which backing files: {failure}");
        Cows::default()
    })
}

fn open_log(vm: &Vm, foreground: bool) -> anyhow::Result<LogHandle> {
    let file = match &vm.logfile {
        Some(file) => Some((log_dir(vm)?, file.clone())),
        None => None,
    };
    Ok(LogHandle::init(
        vm.name.as_str(),
        LogTo {
            file,
            limit: vm.log_bytes(),
            stderr: foreground,
        },
    )?)
}

fn log_dir(vm: &Vm) -> anyhow::Result<LogDir> {
    LogDir::open(&vm.logdir)
        .with_context(|| format!("cannot use the log directory {}", vm.logdir.display()))
}

/// What was prepared while errors could still go to the terminal.
struct Parts {
    configured: Configured,
    /// Where the directory service listens.
    directory: PathBuf,
    jail: Jail,
    keeper: Keeper,
    storage: Storage,
    records: Rc<Records>,
    log: LogHandle,
    ctrl: CtrlSocket,
    remote: Sockets,
    survivor: Option<Survivor>,
}

impl Parts {
    /// The steps of the preparation; each can fail. A separate function, so that the caller's stack stays small.
    #[inline(never)]
    fn prepare(
        vm: Vm,
        global: Global,
        config_path: PathBuf,
        manner: Manner,
        survivor: Option<Survivor>,
    ) -> anyhow::Result<Box<Parts>> {
        let name = &vm.name;
        let keeper = Keeper::find()?;
        let jail = prepare_jail(&global, &vm, survivor.is_some())?;
        if survivor.is_none() {
            ControlGroup::remove_left(&group_name(&jail, name));
            if let Err(error) = connector_record::end_left(jail.vm_dir()) {
                tracing::warn!("cannot end what has made connections of a former run: {error}");
            }
        }
        let disks = Disks::open(&vm.jaildir, &global.shared)?;
        let locks = Locks::open(&global.shared, name)?;
        let records = Records::open(&global.shared, name)?;
        let log = open_log(&vm, manner.foreground)?;
        if survivor.is_none()
            && let Err(error) = net::networks::clean_up(&records)
        {
            tracing::warn!("cannot undo the networks of a former run: {error}");
        }
        if let Err(error) = locks.remove_left() {
            tracing::warn!("{error}");
        }
        let devices = provide_devices(&global)?;
        let ctrl = CtrlSocket::bind(&global.vm_dir(name))?;
        let remote = Sockets::listen(&global, name)?;
        Ok(Box::new(Parts {
            directory: global.directory(),
            configured: Configured {
                file: config_path,
                vm,
                shared: global.shared,
            },
            jail,
            keeper,
            storage: Storage::new(disks, locks, devices),
            records,
            log,
            ctrl,
            remote,
            survivor,
        }))
    }

    /// What every run of the kernel uses. Channels need the event loop.
    fn into_setup(mut self) -> anyhow::Result<(Setup, CtrlSocket, Sockets, Option<Survivor>)> {
        let setup = Setup {
            channels: open_channels(&self.configured.vm, self.survivor.as_mut())?,
            helper: Rc::default(),
            configured: self.configured,
            jail: self.jail,
            keeper: self.keeper,
            last_look: LastLook::default(),
            storage: self.storage,
            records: self.records,
            events: Rc::default(),
        };
        Ok((setup, self.ctrl, self.remote, self.survivor))
    }
}

/// The daemon's main part, until a signal ends it.
async fn serve(parts: Box<Parts>, readiness: Rc<Readiness>, manner: Manner) -> anyhow::Result<()> {
    let boots = manner.boot && parts.configured.vm.start == StartType::Boot;
    let signals = Signals::receive()?;
    let announcement = announce(
        parts.configured.vm.name.clone(),
        parts.directory.clone(),
        parts.remote.port(),
    );
    let log = parts.log.clone();
    let (setup, mut ctrl, mut remote, survivor) = parts.into_setup()?;
    let acceptor = ctrl.acceptor()?;
    let setup = Rc::new(setup);
    let cows = tidy(&setup).await;
    let (mut monitor, handle) = Monitor::new(Rc::clone(&setup));
    let service = service(setup, handle.clone(), log, remote.port());
    tokio::task::spawn_local(wake_channels(handle.clone(), Rc::clone(&service)));
    let connections = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    tracing::info!("monitor {} started", env!("CARGO_PKG_VERSION"));
    remote.open(&service)?;
    let boots = boots && survivor.is_none();
    let adopts = survivor.is_some();
    if let Some(survivor) = survivor {
        let was = survivor.record.state.clone();
        let run = Run::adopt(&service.setup, survivor, cows);
        monitor.resume(run.context("cannot take the running VM over")?, &was);
    }
    if let Err(error) = readiness.ready() {
        if adopts {
            // The VM goes on without a monitor.
            std::mem::forget(monitor);
        }
        return Err(error.into());
    }
    let monitor = tokio::task::spawn_local(monitor.run());
    tokio::task::spawn_local(economize(Rc::clone(&service)));
    if boots {
        tokio::task::spawn_local(boot(Rc::clone(&service)));
    }
    let announcement = tokio::task::spawn_local(announcement);
    loop {
        tokio::select! {
            (stream, place) = next_connection(&acceptor, &connections) => {
                tokio::task::spawn_local(converse(stream, Rc::clone(&service), place));
            }
            told = signals.next() => match told {
                Told::HangUp if !daemon::has_terminal() => service.reopen_logs(),
                Told::HangUp | Told::End => break,
                Told::Upgrade => if let Err(why) = upgrade(&service, manner).await {
                    tracing::warn!("this monitor goes on: {why}");
                },
            },
        }
    }
    announcement.abort();
    end(&service, monitor).await;
    Ok(())
}

/// What the clients may use.
fn service(setup: Rc<Setup>, monitor: Handle, log: LogHandle, port: Option<u16>) -> Rc<Service> {
    Rc::new(Service {
        setup,
        monitor,
        jobs: Rc::default(),
        users: Shares::new(MAX_OF_USERS.0, MAX_OF_USERS.1),
        sites: Shares::new(site::MAX_RUNNING.0, site::MAX_RUNNING.1),
        screens: Turns::default(),
        log,
        since: Instant::now(),
        next: Kept::default(),
        economy: Notify::new(),
        port,
        passwords: Rc::default(),
    })
}

/// Goes on with the program that is on the disk now. Returns only if that is not possible.
async fn upgrade(service: &Service, manner: Manner) -> Result<(), String> {
    let program = upgrade::program()?;
    upgrade::ask(&program).await?;
    // From here on nothing waits, so that nothing happens between the answer and the execution.
    if service.jobs.are_under_way() {
        return Err("it works on disks; try again when that is done".to_owned());
    }
    let configured = &service.setup.configured;
    let name = &configured.vm.name;
    // The program reads it first, and cannot go on without it. What the VM was started with is in the record.
    let config = Config::load(&configured.file).map_err(|error| error.to_string())?;
    if service.monitor.status().borrow().phase == Phase::Inactive {
        config.vm(name).map_err(|error| error.to_string())?;
    }
    if !service.monitor.may_leave().await {
        return Err("the VM would not outlive it, or is starting or stopping".to_owned());
    }
    tracing::info!("going on with {}", program.display());
    Err(upgrade::execute(
        &program,
        &configured.file,
        manner.foreground,
        name.as_str(),
    ))
}

/// From the request to end until the VM has ended, and all who listen know it.
async fn end(service: &Service, monitor: JoinHandle<()>) {
    let events = &service.setup.events;
    events.tell(Happening::Shutdown);
    service.jobs.close().await;
    // Denied only if the monitor is ending already.
    let _ = service.monitor.ask(Ask::Quit).await;
    let _ = monitor.await;
    events.all_known(LAST_EVENTS).await;
    tracing::info!("monitor ended");
}

fn open_channels(vm: &Vm, survivor: Option<&mut Survivor>) -> anyhow::Result<Rc<Channels>> {
    let channels = match survivor {
        Some(survivor) => {
            let held = survivor.take_channels().map_err(anyhow::Error::msg)?;
            Channels::adopt(vm, log_dir(vm)?, held)?
        }
        None => Channels::open(vm, log_dir(vm)?)?,
    };
    Ok(Rc::new(channels))
}

/// Starts the kernel. If that fails, the monitor runs on: the VM can be started when the cause is removed.
async fn boot(service: Rc<Service>) {
    if let Err(failure) = service.boot().await {
        tracing::error!("the VM is not booted: {failure}");
    }
}

/// Lets the attached clients see each change of the VM's state.
async fn wake_channels(handle: Handle, service: Rc<Service>) {
    let mut status = handle.status();
    while status.changed().await.is_ok() {
        service.setup.channels.wake();
    }
}

/// Gives memory back when nothing happens any more after the start of the monitor, after a start or an end of the
/// kernel, and after a call that needed much.
async fn economize(service: Rc<Service>) {
    let mut status = service.monitor.status();
    loop {
        tokio::time::sleep(QUIET).await;
        sys::release_free_memory();
        tokio::select! {
            changed = status.changed() => if changed.is_err() {
                return;
            },
            () = service.economy.notified() => {}
        }
    }
}

/// The next connection, and its place among the connections allowed at once. While there is no place, connections wait
/// in the socket's queue, but the signals of the daemon are handled.
async fn next_connection(
    acceptor: &Acceptor,
    places: &Arc<Semaphore>,
) -> (UnixStream, OwnedSemaphorePermit) {
    match Arc::clone(places).acquire_owned().await {
        Ok(place) => (acceptor.next().await, place),
        // The semaphore is never closed.
        Err(_) => std::future::pending().await,
    }
}

async fn converse(stream: UnixStream, service: Rc<Service>, _place: OwnedSemaphorePermit) {
    let events = Rc::clone(&service.setup.events);
    let peer = match stream.peer_cred() {
        Ok(peer) => peer,
        Err(error) => return tracing::warn!("cannot find out who connected: {error}"),
    };
    let caller = Caller::User(peer.uid());
    let root = peer.uid() == 0;
    let share = (!root).then(|| service.users.take(caller)).flatten();
    if share.is_none() && !root {
        if events.may_log(caller) {
            tracing::warn!("connection of {caller} closed: it has too many others");
        }
        return;
    }
    let session = Session::local(peer.uid(), peer.pid(), Rc::clone(&events));
    let peer = session.peer().to_owned();
    let limits = server::Limits::new(UMLMONCTRL_V1_MAX_ARGS);
    let served = server::serve::<Guarded, _, _>(stream, service, session, limits).await;
    if let Err(error) = served
        && events.may_log(caller)
    {
        tracing::info!("connection of {peer}: {error}");
    }
}
