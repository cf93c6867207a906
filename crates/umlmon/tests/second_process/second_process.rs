//! The second process against /proc: how it and the kernel are confined, how they end, and that nothing is left.
//!
//! A test needs a monitor that can be killed, which is this program executed anew; hence there is a `main` here and no
//! test harness. Busybox plays the kernel. Everything happens in a mount namespace of the test's own.
#![allow(
    missing_docs,
    dead_code,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic
)]

#[path = "../../src/second"]
mod second {
    pub(crate) mod confined;
    pub(crate) mod connector;
    mod disk_worker;
    pub(crate) mod keeper;
    mod kernel_worker;
    pub(crate) mod link;
    pub(crate) mod listening;
    pub(crate) mod orders;
    pub(crate) mod worker;
}

mod confinement;
mod landlock;

use std::future::Future;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;
use std::{env, fs};

use jail::{Account, Jail, Kernel, Places, Scheduler, TmpMount};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::mount::{MountPropagationFlags, mount_change};
use rustix::process::{PidfdFlags, pidfd_open};
use second::keeper::Keeper;
use second::link::Link;
use second::orders::{FromChild, Launch};
use sys::Network;

const UID: u32 = 64017;
const GID: u32 = 64018;
const DEADLINE: Duration = Duration::from_secs(20);
const KERNEL: &str = "/shared/kernels/busybox";
const MONITOR: &str = "--monitor";

type Test = (&'static str, fn(&World));

const TESTS: &[Test] = &[
    (
        "the_kernel_is_confined",
        confinement::the_kernel_is_confined,
    ),
    (
        "the_jail_shows_what_it_should",
        confinement::the_jail_shows_what_it_should,
    ),
    (
        "landlock_closes_what_permissions_leave_open",
        landlock::landlock_closes_what_permissions_leave_open,
    ),
    (
        "a_host_without_landlock_does_without",
        landlock::a_host_without_landlock_does_without,
    ),
    (
        "the_end_of_the_kernel_is_told",
        the_end_of_the_kernel_is_told,
    ),
    (
        "a_killed_kernel_leaves_nothing",
        a_killed_kernel_leaves_nothing,
    ),
    (
        "a_killed_child_leaves_nothing",
        a_killed_child_leaves_nothing,
    ),
    (
        "a_dropped_link_leaves_nothing",
        a_dropped_link_leaves_nothing,
    ),
    (
        "a_killed_monitor_leaves_nothing",
        a_killed_monitor_leaves_nothing,
    ),
    ("a_nudge_is_a_signal", a_nudge_is_a_signal),
    (
        "what_cannot_be_executed_is_named",
        what_cannot_be_executed_is_named,
    ),
    ("a_step_that_fails_is_named", a_step_that_fails_is_named),
    (
        "no_library_that_a_user_can_exchange_is_bound",
        confinement::no_library_that_a_user_can_exchange_is_bound,
    ),
    ("the_scheduler_is_set", the_scheduler_is_set),
    (
        "many_starts_leave_no_descriptors",
        many_starts_leave_no_descriptors,
    ),
];

/// The program under test.
fn keeper() -> Keeper {
    Keeper::open(Path::new(env!("CARGO_BIN_EXE_umlkeep"))).unwrap()
}

fn main() -> ExitCode {
    let args: Vec<String> = env::args().collect();
    if let [_, mode, directory] = &args[..]
        && mode == MONITOR
    {
        return monitor(Path::new(directory));
    }
    if !nix::unistd::geteuid().is_root() {
        assert!(env::var_os("CI").is_none(), "CI must run as root");
        eprintln!("skipped: needs root");
        return ExitCode::SUCCESS;
    }
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
    mount_change(
        "/",
        MountPropagationFlags::PRIVATE | MountPropagationFlags::REC,
    )
    .unwrap();
    let chosen = |name: &str| {
        args.len() < 2
            || args[1..]
                .iter()
                .any(|arg| arg.starts_with('-') || name.contains(arg))
    };
    for (name, test) in TESTS.iter().filter(|(name, _)| chosen(name)) {
        print!("test {name} ... ");
        std::io::stdout().flush().unwrap();
        let directory = tempfile::tempdir().unwrap();
        test(&World::new(directory.path()));
        println!("ok");
    }
    ExitCode::SUCCESS
}

/// The other role of this program: a monitor to be killed. Prints the process ID of its second process.
fn monitor(directory: &Path) -> ExitCode {
    let world = World::new(directory);
    in_time(async {
        let vm = world.start(WITH_ORPHANS).await;
        println!("{}", vm.link.pid());
        std::future::pending::<()>().await;
    });
    ExitCode::SUCCESS
}

struct World {
    jail: Jail,
    places: Places,
}

/// A running VM; the link goes first.
struct Vm {
    link: Link,
    con0: UnixStream,
    kernel: u32,
    namespace: PathBuf,
    _tmp: TmpMount,
}

fn in_time<T>(task: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async { tokio::time::timeout(DEADLINE, task).await.unwrap() })
}

impl World {
    fn new(directory: &Path) -> Self {
        fs::set_permissions(directory, fs::Permissions::from_mode(0o755)).unwrap();
        let vardir = directory.join("var");
        let places = Places {
            vm_dir: vardir.join("vm1"),
            jail: vardir.join("vm1/jail"),
            logdir: vardir.join("vm1/log"),
            shared: vardir.join("shared"),
            vardir,
        };
        let account = Account {
            name: "vmtest".to_owned(),
            uid: UID,
            gid: GID,
            groups: vec![GID, 64019],
        };
        let jail = Jail::prepare(&places, account).unwrap();
        fs::copy("/bin/busybox", places.shared.join("kernels/busybox")).unwrap();
        // The shell gives its background jobs this for input; an empty file will do.
        fs::create_dir(places.jail.join("dev")).unwrap();
        fs::write(places.jail.join("dev/null"), "").unwrap();
        Self { jail, places }
    }

    fn launch(&self, script: &str) -> Launch {
        let kernel = Kernel {
            path: KERNEL.into(),
            binds: Vec::new(),
            notes: Vec::new(),
        };
        Launch {
            name: "vm1".to_owned(),
            confinement: self
                .jail
                .confinement(&kernel, jail::Terms::default())
                .unwrap(),
            kernel: KERNEL.to_owned(),
            argv: ["sh", "-c", script].map(str::to_owned).to_vec(),
            env: vec!["PATH=/".to_owned(), format!("B={KERNEL}")],
        }
    }

    /// Starts `script` as kernel, with two channels, and waits until it has said "ready".
    async fn start(&self, script: &str) -> Vm {
        self.start_launch(&self.launch(script)).await
    }

    async fn start_launch(&self, launch: &Launch) -> Vm {
        let tmp = self.jail.mount_tmp(8).unwrap();
        let (con0, kernel_con0) = UnixStream::pair().unwrap();
        let (_con1, kernel_con1) = UnixStream::pair().unwrap();
        con0.set_read_timeout(Some(DEADLINE)).unwrap();
        let link = Link::launch(
            &keeper(),
            launch,
            &[kernel_con0.as_fd(), kernel_con1.as_fd()],
            Network::Host,
        )
        .unwrap();
        let message = link.next_message().await;
        let Some(FromChild::Started { kernel_pid }) = message else {
            panic!("{message:?}")
        };
        let namespace = fs::read_link(format!("/proc/{}/ns/pid", link.pid()));
        let mut vm = Vm {
            link,
            con0,
            kernel: kernel_pid,
            namespace: namespace.unwrap(),
            _tmp: tmp,
        };
        assert!(vm.read_until("ready").contains("ready"));
        vm
    }
}

impl Vm {
    fn read_until(&mut self, mark: &str) -> String {
        let mut text = Vec::new();
        let mut byte = [0];
        while !String::from_utf8_lossy(&text).contains(mark) {
            assert_eq!(
                self.con0.read(&mut byte).unwrap(),
                1,
                "{}",
                String::from_utf8_lossy(&text)
            );
            text.push(byte[0]);
        }
        String::from_utf8(text).unwrap()
    }

    fn processes(&self) -> Vec<u32> {
        processes(&self.namespace)
    }
}

/// The processes in a PID namespace.
fn processes(namespace: &Path) -> Vec<u32> {
    fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok())
        .filter(|pid: &u32| {
            fs::read_link(format!("/proc/{pid}/ns/pid")).is_ok_and(|ns| ns == namespace)
        })
        .collect()
}

/// Waits until besides the second process and its kernel there are others: they come a moment after the kernel.
fn wait_for_orphans(namespace: &Path) {
    let patience = std::time::Instant::now() + DEADLINE;
    while processes(namespace).len() < 3 {
        assert!(std::time::Instant::now() < patience, "no orphans");
        std::thread::yield_now();
    }
}

/// A line of /proc/PID/status.
fn status(pid: u32, key: &str) -> String {
    let all = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = all
        .lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
    line.unwrap()
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
}

fn descriptors(pid: u32) -> Vec<String> {
    let mut all: Vec<_> = fs::read_dir(format!("/proc/{pid}/fd"))
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| {
            let target = fs::read_link(entry.path())
                .unwrap()
                .to_str()
                .unwrap()
                .to_owned();
            let kind = target.split('[').next().unwrap().to_owned();
            format!("{} {kind}", entry.file_name().to_str().unwrap())
        })
        .collect();
    all.sort();
    all
}

fn the_end_of_the_kernel_is_told(world: &World) {
    for (script, status, signal) in [("exit 3", Some(3), None), ("kill -ABRT $$", None, Some(6))] {
        in_time(async {
            // An orphan first, which is collected and not taken for the kernel.
            let mut vm = world
                .start(&format!("($B sleep 0 &); echo ready; read x; {script}"))
                .await;
            assert_eq!(vm.processes().first(), Some(&vm.link.pid()));
            vm.con0.write_all(b"\n").unwrap();
            assert_eq!(
                vm.link.next_message().await,
                Some(FromChild::Exited { status, signal })
            );
            assert_eq!(vm.link.next_message().await, None);
            vm.link.ended().await;
            assert!(vm.processes().is_empty());
        });
    }
}

const WITH_ORPHANS: &str = "($B sleep 1000 &); $B sleep 1000 & echo ready; read x";

fn a_killed_kernel_leaves_nothing(world: &World) {
    in_time(async {
        let vm = world.start(WITH_ORPHANS).await;
        wait_for_orphans(&vm.namespace);
        kill(
            Pid::from_raw(vm.kernel.try_into().unwrap()),
            Signal::SIGKILL,
        )
        .unwrap();
        let end = FromChild::Exited {
            status: None,
            signal: Some(9),
        };
        assert_eq!(vm.link.next_message().await, Some(end));
        vm.link.ended().await;
        assert!(vm.processes().is_empty());
    });
}

fn a_killed_child_leaves_nothing(world: &World) {
    in_time(async {
        let vm = world.start(WITH_ORPHANS).await;
        vm.link.kill();
        assert_eq!(vm.link.next_message().await, None);
        vm.link.ended().await;
        assert!(vm.processes().is_empty());
        assert!(
            !Path::new(&format!("/proc/{}", vm.link.pid())).exists(),
            "not collected"
        );
    });
}

fn a_dropped_link_leaves_nothing(world: &World) {
    in_time(async {
        let vm = world.start(WITH_ORPHANS).await;
        let (namespace, pid) = (vm.namespace.clone(), vm.link.pid());
        drop(vm);
        assert!(processes(&namespace).is_empty());
        assert!(
            !Path::new(&format!("/proc/{pid}")).exists(),
            "not collected"
        );
    });
}

fn a_killed_monitor_leaves_nothing(world: &World) {
    let directory = world.places.vardir.join("other");
    fs::create_dir(&directory).unwrap();
    let mut monitor = Command::new("/proc/self/exe");
    let mut monitor = monitor
        .arg(MONITOR)
        .arg(&directory)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let out = monitor.stdout.take().unwrap();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(out), &mut line).unwrap();
    let pid: u32 = line.trim().parse().unwrap();
    let namespace = fs::read_link(format!("/proc/{pid}/ns/pid")).unwrap();
    wait_for_orphans(&namespace);
    let pidfd = pidfd_open(
        rustix::process::Pid::from_raw(pid.try_into().unwrap()).unwrap(),
        PidfdFlags::empty(),
    );
    let pidfd = pidfd.unwrap();
    monitor.kill().unwrap();
    monitor.wait().unwrap();
    let mut ended = [PollFd::new(&pidfd, PollFlags::IN)];
    let second = Timespec::try_from(Duration::from_secs(1)).unwrap();
    assert_eq!(
        poll(&mut ended, Some(&second)).unwrap(),
        1,
        "still there after a second"
    );
    assert!(
        processes(&namespace).len() <= 1,
        "only what nobody collected"
    );
    // What it mounted; the directory goes with the test.
    for name in ["shared", "tmp"] {
        nix::mount::umount(&directory.join("var/vm1/jail").join(name)).unwrap();
    }
}

fn a_nudge_is_a_signal(world: &World) {
    in_time(async {
        let mut vm = world
            .start("trap 'echo nudged' IO; echo ready; while :; do read x; done")
            .await;
        for _ in 0..3 {
            vm.link.nudge();
            vm.read_until("nudged");
        }
    });
}

fn what_cannot_be_executed_is_named(world: &World) {
    in_time(async {
        let mut launch = world.launch("");
        launch.kernel = "/shared/kernels/none".to_owned();
        let (_con0, theirs) = UnixStream::pair().unwrap();
        let link = Link::launch(&keeper(), &launch, &[theirs.as_fd()], Network::Host).unwrap();
        let message = link.next_message().await;
        let Some(FromChild::Failed { step, error }) = message else {
            panic!("{message:?}")
        };
        assert_eq!(step, "execute /shared/kernels/none");
        assert!(
            error.starts_with("execve: No such file or directory"),
            "{error}"
        );
        assert_eq!(link.next_message().await, None);
        link.ended().await;
    });
}

fn a_step_that_fails_is_named(world: &World) {
    in_time(async {
        let mut launch = world.launch("");
        launch.confinement.uid = 0;
        let link =
            Link::launch(&keeper(), &launch, &[] as &[BorrowedFd<'_>], Network::Host).unwrap();
        let message = link.next_message().await;
        assert!(
            matches!(&message, Some(FromChild::Failed { error, .. }) if error.contains("user ID")),
            "{message:?}"
        );
        launch.confinement.uid = UID;
        fs::create_dir(world.places.jail.join("lib")).unwrap();
        launch.confinement.binds.push(jail::Bind {
            source: jail::Source::Host("/nonexistent/libc.so.6".into()),
            target: "/lib/libc.so.6".into(),
        });
        let link =
            Link::launch(&keeper(), &launch, &[] as &[BorrowedFd<'_>], Network::Host).unwrap();
        let Some(FromChild::Failed { error, .. }) = link.next_message().await else {
            panic!()
        };
        assert!(error.contains("/nonexistent: No such file"), "{error}");
        launch.argv = vec!["x".repeat(100_000)];
        assert!(
            Link::launch(&keeper(), &launch, &[], Network::Host)
                .unwrap_err()
                .to_string()
                .contains("too long")
        );
    });
}

fn the_scheduler_is_set(world: &World) {
    // proc_pid_stat(5): field 19 is the nice value, 40 the realtime priority, 41 the policy.
    for (scheduler, policy, field, priority) in [
        (Scheduler::Default { nice: 7 }, "0", 19, "7"),
        (Scheduler::RoundRobin { priority: 3 }, "2", 40, "3"),
    ] {
        in_time(async {
            let mut launch = world.launch("echo ready; read x");
            launch.confinement.scheduler = Some(scheduler);
            let vm = world.start_launch(&launch).await;
            let stat = fs::read_to_string(format!("/proc/{}/stat", vm.kernel)).unwrap();
            // The name, which is the second one, may have blanks.
            let fields: Vec<_> = stat
                .rsplit(')')
                .next()
                .unwrap()
                .split_whitespace()
                .collect();
            assert_eq!((fields[41 - 3], fields[field - 3]), (policy, priority));
        });
    }
}

fn many_starts_leave_no_descriptors(world: &World) {
    in_time(async {
        let mut counts = Vec::new();
        for _ in 0..50 {
            drop(world.start("echo ready; read x").await);
            counts.push(fs::read_dir("/proc/self/fd").unwrap().count());
        }
        assert!(counts.iter().all(|count| *count == counts[0]), "{counts:?}");
    });
}
