//! One run of the kernel: everything it needs is acquired here, and released when it is dropped (umlmon, the monitor
//! process).
//!
//! [`Run::start`] first validates everything and then does everything; each thing it acquires is a guard that undoes
//! itself, so a start that fails half-way leaves nothing behind. [`Run::adopt`] makes the same of a kernel that another
//! monitor has started.

mod adopt;
mod attach;
mod hand_over;

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::time::Duration;

use config::{Vm, VmName};
use disks::{Claim, Lease};
use jail::{
    Bounds, ControlGroup, Features, Jail, Kernel, Owner, Place, Processors, Shortage, Terms,
    TmpMount,
};
use tokio::time::Instant;

use crate::channels::CON0;
use crate::disks::devices;
use crate::disks::holdings::{self, Cows, Ubd};
use crate::failure::Failure;
use crate::helper::{self, HelperLine};
use crate::life::directories::{self, Directories};
use crate::life::elastic::{Elastic, Use};
use crate::life::ending::CON0_TAIL;
use crate::life::kernel_args;
use crate::life::kernels::Seen;
use crate::life::memory::Memory;
use crate::life::networks::{self, NicLook, Wiring};
use crate::life::outliving::Outliving;
use crate::life::placement::{self, Placement};
use crate::mconsole::{Mconsole, Notice, Notices};
use crate::reading::Reading;
use crate::record::DiskChange;
use crate::second::link::Link;
use crate::second::orders::{FromChild, Launch};
use crate::setup::Setup;

/// How long a kernel may take until it reports its mconsole. It takes a few seconds on a slow host.
pub const SILENCE: Duration = Duration::from_secs(30);

/// How long a control group may be busy when all of its processes have ended, and how often it is looked at.
const GROUP_PATIENCE: Duration = Duration::from_millis(200);
const GROUP_PAUSE: Duration = Duration::from_millis(5);

/// For errors that do not say what could not be done.
fn cannot(what: &str) -> impl Fn(std::io::Error) -> Failure {
    move |error| Failure::Failed(format!("cannot {what}: {error}"))
}

/// The inputs of a start besides the configuration.
#[derive(Debug, Default)]
pub struct Start {
    /// Additional arguments of the kernel.
    pub extra: Vec<String>,
    /// The configuration; None reads it anew.
    pub reading: Option<Result<Reading, Failure>>,
    /// The kernel as it was found just before, if there is one in the configuration that can be used.
    pub kernel: Option<Result<Seen, Failure>>,
    /// The copy-on-write images as they were found just before.
    pub cows: Cows,
    /// The disks that were attached to be only read, by number, if the guest reboots.
    pub only_read: BTreeSet<u8>,
    /// The disks, if the guest reboots: they were never released.
    pub lease: Option<Lease>,
    /// The networks, likewise.
    pub wiring: Option<Box<Wiring>>,
}

/// How the kernel process ended, as the child saw it.
#[derive(Debug, Default, Clone, Copy)]
pub struct Exit {
    /// Exit status, if it exited.
    pub status: Option<i32>,
    /// The signal, if one ended it.
    pub signal: Option<i32>,
}

/// What happens to a run.
#[derive(Debug)]
pub enum RunEvent {
    /// The kernel is executing.
    Executing,
    /// The kernel could not be executed, and why.
    NotExecuted(String),
    /// The kernel has sent a notice.
    Notice(Notice),
    /// The guest is idle, and is to give memory back.
    Spare,
    /// Everything in the namespace has ended.
    Ended(Exit),
}

/// The present run, for `-info`.
#[derive(Debug)]
pub struct Look {
    /// The configuration in effect.
    pub vm: Vm,
    /// The disks as they were found at the start, or when they were attached.
    pub disks: Vec<Ubd>,
    /// Whether the kernel carries out what the guest flushes.
    pub flushes: bool,
    /// The network interfaces that are connected with the host, by number.
    pub nics: BTreeMap<u8, NicLook>,
    /// As whom the guest acts in the directories that it is given, by number.
    pub owners: BTreeMap<u8, Owner>,
    /// When this kernel was started.
    pub started: Instant,
    /// The child process.
    pub child_pid: u32,
    /// The kernel process.
    pub kernel_pid: u32,
    /// Bytes of the guest's memory that the host backs at the moment.
    pub mem_used: u64,
    /// The processor time that it has taken, if the host counts it.
    pub cpu: Option<Duration>,
    /// Bytes read from devices of the host, and written to them, if the host counts them.
    pub transferred: Option<(u64, u64)>,
    /// The processors of the host on which it may run now.
    pub processors: Processors,
    /// The controllers of its control group.
    pub bounded_by: Vec<&'static str>,
    /// What keeps it away from the host.
    pub confined_by: Vec<&'static str>,
    /// The kernel has had time to report its mconsole, and has not.
    pub silent: bool,
    /// The guest's memory.
    pub memory: Rc<Memory>,
    /// The way to ask the kernel something.
    pub mconsole: Rc<Mconsole>,
}

/// A run of the kernel. Its fields are released from top to bottom: first the processes, at last what they used.
pub struct Run {
    link: Rc<Link>,
    notices: Notices,
    helper: Option<HelperLine>,
    tmp: TmpMount,
    group: Option<ControlGroup>,
    placement: Option<Placement>,
    elastic: Option<Elastic>,
    reading: Reading,
    start: Start,
    disks: Vec<Ubd>,
    disk_change: Option<DiskChange>,
    flushes: bool,
    owners: BTreeMap<u8, Owner>,
    exit: Exit,
    kernel_pid: u32,
    killed: bool,
    panic: Option<String>,
    up: bool,
    /// The guest's memory.
    pub memory: Rc<Memory>,
    /// The kernel's mconsole.
    pub mconsole: Rc<Mconsole>,
    /// When it was started.
    pub started: Instant,
    setup: Rc<Setup>,
    /// Last, as what it records is released before.
    outliving: Option<Outliving>,
}

impl Run {
    /// Starts the kernel: returns when the child has been sent its task.
    ///
    /// # Errors
    /// [`Failure::Failed`] with the first thing that is missing or did not work; nothing is left behind.
    pub fn start(setup: &Rc<Setup>, reading: Reading, mut start: Start) -> Result<Run, Failure> {
        let vm = &reading.vm;
        // Validate everything ...
        let Seen { kernel, features } = seen(start.kernel.take())?;
        let options = kernel_args::options(vm, &features).map_err(Failure::Failed)?;
        let (disks, claims) = examine(setup, &reading, &kernel, &start)?;
        let directories = Directories::open(setup, &reading)?;

        // ... then do everything.
        start.lease = Some(holdings::claim(setup, start.lease.take(), claims)?);
        holdings::nothing_relies_on(setup, &disks, &start.cows)?;
        setup.channels.apply(vm)?;
        let wiring = wire(setup, start.wiring.take(), &reading, features)?;
        let wiring = start.wiring.insert(wiring);
        let group = bound(setup, vm);
        let place = placement::place(vm, group.as_ref())?;
        let placement = (place == Some(Place::One)).then(Placement::new);
        let tmp = setup.jail.mount_tmp(vm.mem)?;
        let (notices, root) = notices(&tmp)?;
        let (helper, helpers_end) = helper_line(setup, vm)?;
        let slaves = setup.channels.kernel_slaves()?;
        let channels: Vec<_> = slaves.iter().map(|(name, _)| *name).collect();
        let ubds = (&*disks, features.flush);
        let terms = terms(vm, wiring, group.as_ref(), place, &directories);
        let launch = Launch {
            name: setup.name().to_string(),
            confinement: setup.jail.confinement(&kernel, terms)?,
            kernel: kernel.path.display().to_string(),
            argv: kernel_args::build(vm, options, &channels, ubds, wiring, &start.extra),
            env: kernel_args::ENVIRONMENT.map(String::from).to_vec(),
        };
        let slaves = slaves.iter().map(|(_, slave)| slave.as_fd());
        let helpers = helpers_end.as_ref().map(OwnedFd::as_fd);
        let ends = slaves.chain(helpers).chain(wiring.queues());
        let ends: Vec<_> = ends.chain(directories.mounts()).collect();
        let link = Link::launch(&setup.keeper, &launch, &ends, wiring.network())
            .map_err(cannot("create the second process"))?;
        let mconsole = mconsole(setup, root, &link, wiring);
        let memory = Memory::new(vm.mem, Rc::clone(&mconsole), Rc::clone(&setup.helper));
        Ok(Run {
            link: Rc::new(link),
            notices,
            helper,
            tmp,
            group,
            placement,
            elastic: Elastic::of(&reading.vm),
            reading,
            start,
            disks,
            disk_change: None,
            flushes: features.flush,
            owners: directories.owners(),
            exit: Exit::default(),
            kernel_pid: 0,
            killed: false,
            panic: None,
            up: false,
            memory: Rc::new(memory),
            mconsole,
            started: Instant::now(),
            setup: Rc::clone(setup),
            outliving: None,
        })
    }

    /// What happens next. Cancel safe.
    pub async fn next_event(&mut self) -> RunEvent {
        loop {
            tokio::select! {
                // The kernel's last notices before its end, and the child's last message before its.
                biased;
                notice = self.notices.next() => {
                    if let Ok(notice) = notice {
                        self.note(&notice);
                        return RunEvent::Notice(notice);
                    }
                }
                () = due(self.placement.as_ref()) => self.place_anew(),
                () = look_due(self.elastic.as_ref()) => if self.has_spare() {
                    return RunEvent::Spare;
                },
                message = self.link.next_message() => match message {
                    Some(FromChild::Started { kernel_pid }) => {
                        self.kernel_pid = kernel_pid;
                        self.hand_over();
                        return RunEvent::Executing;
                    }
                    Some(FromChild::Holds { numbers }) => self.is_held(numbers),
                    Some(FromChild::Failed { step, error }) => {
                        return RunEvent::NotExecuted(format!("{step}: {error}"));
                    }
                    Some(FromChild::Exited { status, signal }) => self.exit = Exit { status, signal },
                    None => {
                        self.link.ended().await;
                        self.group_is_left().await;
                        return RunEvent::Ended(self.exit);
                    }
                }
            }
        }
    }

    /// Whether the guest is to give memory back now.
    fn has_spare(&mut self) -> bool {
        let seen = Use {
            memory: self.tmp.used().unwrap_or(0),
            cpu: self.group.as_ref().and_then(ControlGroup::processor_time),
        };
        let look = self.elastic.as_mut().map(|elastic| elastic.look(seen));
        look.unwrap_or(false)
    }

    fn place_anew(&mut self) {
        if let (Some(placement), Some(group)) = (&mut self.placement, &self.group) {
            placement.look(group, self.link.pid());
        }
    }

    /// Waits, for a short time, until the host's kernel has removed the ended processes from their control group.
    async fn group_is_left(&self) {
        let busy = || self.group.as_ref().is_some_and(|group| !group.is_empty());
        let end = Instant::now() + GROUP_PATIENCE;
        while busy() && Instant::now() < end {
            tokio::time::sleep(GROUP_PAUSE).await;
        }
    }

    fn note(&mut self, notice: &Notice) {
        match notice {
            Notice::Ready => {
                self.up = true;
                self.setup.channels.nudged().begin(&self.link);
            }
            Notice::Panic(text) => self.panic = Some(text.clone()),
            Notice::Hang | Notice::Guest(_) => {}
        }
    }

    /// Kills everything in the namespace.
    pub fn kill(&mut self) {
        self.killed = true;
        self.link.kill();
    }

    /// When it has been silent for too long; None if its mconsole is up.
    pub fn silent_from(&self) -> Option<Instant> {
        (!self.up).then(|| self.started + SILENCE)
    }

    /// [`Run::kill`] was called.
    pub fn killed(&self) -> bool {
        self.killed
    }

    /// Why the host has ended a process of it for lack of memory, if it has.
    pub fn out_of_memory(&self) -> Option<Shortage> {
        self.group.as_ref().and_then(ControlGroup::shortage)
    }

    /// The message of a panic notice.
    pub fn panic(&self) -> Option<&str> {
        self.panic.as_deref()
    }

    /// The kernel's last messages; called when it has ended.
    pub fn con0_tail(&self) -> String {
        self.setup.channels.kernel_ended();
        let Some(con0) = self.setup.channels.get(CON0) else {
            return String::new();
        };
        let end = con0.range().end;
        let start = self
            .setup
            .channels
            .run_start(CON0)
            .max(end.saturating_sub(CON0_TAIL as u64));
        String::from_utf8_lossy(&con0.peek(start, CON0_TAIL).data).into_owned()
    }

    /// What is needed to start it once more, with the disks that it has now.
    pub fn into_start(mut self) -> (Reading, Start) {
        let only_read = self.disks.iter().filter(|ubd| ubd.only_read);
        let start = Start {
            only_read: only_read.map(|ubd| ubd.number).collect(),
            ..std::mem::take(&mut self.start)
        };
        (self.reading.clone(), start)
    }

    /// A look at it.
    pub fn look(&self) -> Look {
        Look {
            vm: self.reading.vm.clone(),
            disks: self.disks.clone(),
            flushes: self.flushes,
            nics: self
                .start
                .wiring
                .as_ref()
                .map(|wiring| wiring.looks())
                .unwrap_or_default(),
            owners: self.owners.clone(),
            started: self.started,
            child_pid: self.link.pid(),
            kernel_pid: self.kernel_pid,
            processors: jail::processors_of(self.link.pid()).unwrap_or_default(),
            mem_used: self.tmp.used().unwrap_or(0),
            cpu: self.group.as_ref().and_then(|group| group.processor_time()),
            transferred: self.group.as_ref().and_then(|group| group.transferred()),
            bounded_by: self
                .group
                .as_ref()
                .map(|group| group.in_force().to_vec())
                .unwrap_or_default(),
            confined_by: self.walls(),
            silent: self
                .silent_from()
                .is_some_and(|from| Instant::now() >= from),
            memory: Rc::clone(&self.memory),
            mconsole: Rc::clone(&self.mconsole),
        }
    }

    /// A step of the confinement that fails prevents the start, so what the host has is in force.
    fn walls(&self) -> Vec<&'static str> {
        let on_host = self.start.wiring.as_ref().is_none_or(|it| it.on_host);
        let walls = [
            ("namespaces", true),
            ("network", !on_host),
            ("seccomp", true),
            ("landlock", jail::has_landlock()),
        ];
        let walls = walls.iter().filter(|(_, stands)| *stands);
        walls.map(|(name, _)| *name).collect()
    }
}

/// The kernel, if it was found usable.
fn seen(kernel: Option<Result<Seen, Failure>>) -> Result<Seen, Failure> {
    kernel.unwrap_or_else(|| {
        Err(Failure::Failed(
            "nobody has looked at the kernel; try again".into(),
        ))
    })
}

/// The socket for the kernel's notices in the jail's `/tmp`, and a descriptor of that directory.
fn notices(tmp: &TmpMount) -> Result<(Notices, OwnedFd), Failure> {
    let root = tmp.root().try_clone_to_owned();
    let root = root.map_err(cannot("hold the jail's tmp"))?;
    let notices = Notices::bind(&root);
    let notices = notices.map_err(cannot("open the mconsole's notify socket"))?;
    Ok((notices, root))
}

/// The mconsole of the kernel that this link keeps; `root` is the jail's `/tmp`.
fn mconsole(setup: &Setup, root: OwnedFd, link: &Link, wiring: &Wiring) -> Rc<Mconsole> {
    let network = (!wiring.on_host).then(|| link.network()).flatten();
    Rc::new(Mconsole::new(root, setup.name().as_str()).in_network(network))
}

/// The line of the helper and the kernel's end of it, if the VM has one.
fn helper_line(setup: &Setup, vm: &Vm) -> Result<(Option<HelperLine>, Option<OwnedFd>), Failure> {
    let line = helper::has_line(vm).then(|| setup.helper.begin());
    let line = line.transpose();
    let line = line.map_err(cannot("open the line of the guest's helper"))?;
    Ok(line.unzip())
}

/// The disks of a start, and what has to be claimed for them.
fn examine(
    setup: &Setup,
    reading: &Reading,
    kernel: &Kernel,
    start: &Start,
) -> Result<(Vec<Ubd>, Vec<Claim>), Failure> {
    for note in &kernel.notes {
        tracing::warn!("{note}");
    }
    devices::provide(&setup.storage.devices, &reading.devices).map_err(Failure::Failed)?;
    holdings::usable(setup, &reading.vm, &start.only_read, &start.cows)
}

/// Waits until the use of memory is to be looked at; without end, if it never is.
async fn look_due(elastic: Option<&Elastic>) {
    match elastic {
        Some(elastic) => elastic.due().await,
        None => std::future::pending().await,
    }
}

/// Waits until the VM may have to be moved; without end, if it never is.
async fn due(placement: Option<&Placement>) {
    match placement {
        Some(placement) => placement.due().await,
        None => std::future::pending().await,
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        // The only other reference to the link: dropping it kills the child and waits for it.
        self.setup.channels.nudged().end();
    }
}

/// A guest that reboots still has its networks, unless an interface has been removed.
fn wire(
    setup: &Rc<Setup>,
    held: Option<Box<Wiring>>,
    reading: &Reading,
    features: Features,
) -> Result<Box<Wiring>, Failure> {
    match held.filter(|wiring| wiring.is_intact()) {
        Some(wiring) => Ok(wiring),
        None => Wiring::set_up(setup, reading, networks::drivers(features)).map(Box::new),
    }
}

/// The name of the control group of a VM.
pub fn group_name(jail: &Jail, vm: &VmName) -> String {
    let directory = rustix::fs::fstat(jail.vm_dir());
    let (device, inode) = directory.map_or((0, 0), |stat| (stat.st_dev, stat.st_ino));
    ControlGroup::name(vm.as_str(), device, inode)
}

/// Bounds what the VM takes of the host, where that is possible.
fn bound(setup: &Setup, vm: &Vm) -> Option<ControlGroup> {
    let megabytes = u64::from(vm.mem) + u64::from(vm.overhead_limit);
    let bounds = Bounds {
        processes: vm.pids_limit,
        memory: megabytes << 20,
        cpu: (vm.cpu_limit > 0).then_some(vm.cpu_limit),
        realtime: matches!(vm.scheduler, Some(config::Scheduler::RoundRobin { .. })),
    };
    let name = group_name(&setup.jail, setup.name());
    match ControlGroup::new(&name, &bounds) {
        Ok(mut group) => {
            if let Err(why) = group.share_processors(&name, &bounds)
                && bounds.cpu.is_some()
            {
                tracing::warn!("cpu_limit has no effect: {why}");
            }
            Some(group)
        }
        Err(why) => {
            tracing::warn!(
                "pids_limit counts all processes of the user, and overhead_limit and cpu_limit have no effect: {why}"
            );
            None
        }
    }
}

fn terms(
    vm: &Vm,
    wiring: &Wiring,
    group: Option<&ControlGroup>,
    place: Option<Place>,
    directories: &Directories,
) -> Terms {
    let limits = jail::Limits::default();
    Terms {
        scheduler: scheduler(vm),
        place,
        tun: wiring.tun,
        limits: jail::Limits {
            processes: group.is_none().then(|| vm.pids_limit.into()),
            open_files: match vm.shares.is_empty() {
                true => limits.open_files + held_for_channels(vm),
                false => directories::OPEN_FILES,
            },
        },
        groups_to_join: group.map(ControlGroup::doors).unwrap_or_default(),
        shares: directories.numbers(),
    }
}

/// How many descriptors the second process holds for channels, con0 included.
fn held_for_channels(vm: &Vm) -> u64 {
    let channels = vm.con.len() + vm.ssl.len() + 1;
    (channels * pty::Held::NAMES.len()) as u64
}

fn scheduler(vm: &Vm) -> Option<jail::Scheduler> {
    vm.scheduler.as_ref().map(|scheduler| match scheduler {
        config::Scheduler::Default { prio } => jail::Scheduler::Default {
            nice: (*prio).into(),
        },
        config::Scheduler::RoundRobin { prio } => jail::Scheduler::RoundRobin {
            priority: (*prio).into(),
        },
    })
}
