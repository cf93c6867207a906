//! Tier real: containers in a guest, by its helper, umlguest.

#![allow(clippy::unwrap_used, clippy::panic)] // in functions beside the tests, too

use std::fs;
use std::time::Instant;

use client::guest::{Event, Running, act};
use client::{Client, Options};
use e2e::{Login, PATIENCE, Vm, World, real_kernel, run, wait_for};
use guest_line::{
    Action, Capabilities, Command, Container, Ending, Limits, Mount, Place, Rights, Size, Source,
    Usage,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use xtask::guest;

/// Flags of mounts, as mount(2) has them.
const READ_ONLY: u64 = 1;
const SECURE: u64 = 2 | 4 | 8;
const BIND: u64 = 1 << 12 | 1 << 14;
/// `CAP_CHOWN`, `CAP_KILL`, `CAP_NET_BIND_SERVICE`.
const FEW: u64 = 1 | 1 << 5 | 1 << 10;

/// The disk of the small guest, as root directory of containers.
fn root_disk(world: &World) -> Vec<u8> {
    let path = world.path().join("root.dsk");
    guest::build(&path, guest::SIZE_MB, Login::Password).unwrap();
    fs::read(path).unwrap()
}

fn bytes(texts: &[&str]) -> Vec<Vec<u8>> {
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

/// A guest that runs, and a client of its monitor.
struct Guest<'w> {
    vm: Vm<'w>,
    client: Client,
}

impl<'w> Guest<'w> {
    fn new(world: &'w World, vm: Vm<'w>) -> Guest<'w> {
        vm.umlwatch(&["-start"]).ok();
        let configuration = world.configuration();
        let client = Client::new(vm.name(), Some(&configuration), Options::default()).unwrap();
        Guest { vm, client }
    }

    fn begin(&self, command: &Command) -> Run<'_> {
        Run {
            running: Running::begin(&self.client, command.clone(), 60_000).unwrap(),
            output: String::new(),
            is_begun: false,
            out_of_memory: 0,
            ended: None,
        }
    }

    /// Its output and how it ended, or why it did not begin.
    fn run(&self, command: &Command) -> Result<(String, Ending), String> {
        self.begin(command).end()
    }

    /// Does something with a container.
    fn act(&self, id: &str, action: Action) -> Result<Option<Usage>, String> {
        let mut monitor = self.client.connect().unwrap().monitor;
        act(&mut monitor, id, action).map_err(|failure| failure.message)
    }

    /// What a command in the guest itself says.
    fn in_guest(&self, script: &str) -> String {
        let command = Command {
            words: bytes(&["sh", "-c", script]),
            ..Command::default()
        };
        self.run(&command).unwrap().0
    }

    /// Nothing is left of containers.
    fn is_clean(&self) {
        let left = "ls /sys/fs/cgroup/containers | grep -v '\\.'; ls /run/umlguest/containers; \
                    grep -c containers /proc/mounts; ps -o args | grep '[-]container\\|[-]inside'";
        assert_eq!(self.in_guest(left), "0\n");
    }
}

/// A command that runs.
struct Run<'c> {
    running: Running<'c>,
    output: String,
    is_begun: bool,
    out_of_memory: u32,
    ended: Option<Ending>,
}

impl Run<'_> {
    fn step(&mut self) -> Result<(), String> {
        self.running.send().unwrap();
        let connection = self.running.connection().unwrap();
        let mut one = [PollFd::new(connection, PollFlags::IN)];
        let limit = Timespec {
            tv_sec: PATIENCE.as_secs().cast_signed(),
            tv_nsec: 0,
        };
        assert_ne!(poll(&mut one, Some(&limit)).unwrap(), 0, "nothing happens");
        for event in self.running.heard().map_err(|failure| failure.message)? {
            match event {
                Event::Begun => self.is_begun = true,
                Event::OutOfMemory => self.out_of_memory += 1,
                Event::Output(bytes) | Event::Error(bytes) => {
                    self.running.passed_on(bytes.len());
                    self.output.push_str(&String::from_utf8_lossy(&bytes));
                }
                Event::Ended(ending) => self.ended = Some(ending),
            }
        }
        Ok(())
    }

    /// Waits until it has written this.
    #[track_caller]
    fn expect(&mut self, text: &str) {
        let until = Instant::now() + PATIENCE;
        while !self.output.contains(text) {
            self.step().unwrap();
            assert!(self.ended.is_none(), "{:?}: {}", self.ended, self.output);
            assert!(Instant::now() < until, "{}", self.output);
        }
    }

    fn end(mut self) -> Result<(String, Ending), String> {
        while self.ended.is_none() {
            self.step()?;
        }
        Ok((self.output, self.ended.unwrap()))
    }
}

fn kernel(kind: &str, target: &str, flags: u64, options: &str) -> Mount {
    Mount {
        source: Source::Kernel(kind.into()),
        target: target.into(),
        flags,
        options: options.into(),
    }
}

fn bind(from: &str, target: &str, flags: u64) -> Mount {
    Mount {
        source: Source::Bind(from.into()),
        target: target.into(),
        flags: BIND | flags,
        options: Vec::new(),
    }
}

fn rights() -> Rights {
    Rights {
        capabilities: Capabilities {
            bounding: FEW,
            effective: FEW,
            permitted: FEW,
            ..Capabilities::default()
        },
        no_new_privileges: true,
        ..Rights::default()
    }
}

/// A container as those of Kubernetes are.
fn container(id: &str) -> Container {
    Container {
        id: id.into(),
        disk: 1,
        hostname: Some("box".into()),
        mounts: vec![
            kernel("proc", "/proc", SECURE, ""),
            kernel("tmpfs", "/dev", 2, "mode=755,size=65536k"),
            kernel("devpts", "/dev/pts", 2 | 8, "ptmxmode=0666,mode=0620,gid=5"),
            kernel("mqueue", "/dev/mqueue", SECURE, ""),
            kernel("sysfs", "/sys", SECURE | READ_ONLY, ""),
            kernel("cgroup2", "/sys/fs/cgroup", SECURE | READ_ONLY, ""),
        ],
        masked: bytes(&["/proc/kcore", "/etc/issue", "/var", "/nowhere"]),
        read_only: bytes(&["/proc/sys", "/nowhere"]),
        rights: rights(),
        ..Container::default()
    }
}

fn first(container: Container, words: &[&str]) -> Command {
    Command {
        words: bytes(words),
        environment: bytes(&["PATH=/sbin:/bin:/usr/bin"]),
        directory: Some(b"/".to_vec()),
        place: Place::New(Box::new(container)),
        ..Command::default()
    }
}

fn further(id: &str, words: &[&str]) -> Command {
    Command {
        place: Place::In(id.into(), Box::new(rights())),
        ..first(container(id), words)
    }
}

#[test]
fn a_container_is_as_it_is_wanted_and_leaves_nothing() {
    let Some(world) = World::with_real_kernel() else {
        return;
    };
    let vm = world.vm("vm1").con(1).mem(96).guest(Login::Password);
    let guest = Guest::new(&world, vm.disk(1, root_disk(&world)).monitor());
    sees_what_it_is_given(&guest);
    is_bounded(&guest);
    cannot_begin(&guest);
    is_joined_signalled_and_frozen(&guest);
    has_a_terminal(&guest);
    ends_with_its_client(&guest);
    cannot_change_the_helper(&guest);
    guest.vm.kill();
}

fn sees_what_it_is_given(guest: &Guest<'_>) {
    let script = "echo pid $$; hostname; pwd; echo $X:$HOME; id -u; id -g; id -G; umask; \
        touch /x; cat /etc/issue /data/f; ls /var; echo 1 > /data/f; ls -A /dev | tr '\\n' ' '; \
        readlink /dev/ptmx; echo 1 2>&1 > /proc/sys/kernel/panic; grep -c . /proc/self/cgroup; \
        cat /proc/self/cgroup; ls /proc | grep -c '^[0-9]'; cat /proc/sys/kernel/msgmax; ulimit -n; \
        cut -d ' ' -f 2 /proc/mounts | tr '\\n' ' '; cat /proc/self/oom_score_adj; \
        grep -E 'Cap|NoNew' /proc/self/status; exit 7";
    guest.in_guest("mkdir -p /tmp/data; echo found > /tmp/data/f; ln -sf /later /tmp/data/link");
    let mut wanted = container("one");
    wanted.read_only_root = true;
    wanted.mounts.push(bind("/tmp/data", "/data", READ_ONLY));
    wanted
        .mounts
        .push(bind("/tmp/data/f", "/data/link/there", 0));
    wanted.sysctls = vec![("kernel.msgmax".into(), "4321".into())];
    wanted.rights = Rights {
        uid: 5,
        gid: 6,
        groups: vec![6, 7],
        umask: Some(0o27),
        limits: vec![(7, 64, 128)],
        oom_score_adj: Some(123),
        ..rights()
    };
    wanted.rights.capabilities.inheritable = FEW;
    wanted.rights.capabilities.ambient = 1 << 10;
    let mut command = first(wanted, &["sh", "-c", script]);
    command.environment.push(b"X=a b".to_vec());
    command.directory = Some(b"/srv/made".to_vec());
    let (said, ending) = guest.run(&command).unwrap();
    let expected = "pid 1\nbox\n/srv/made\na b:/\n5\n6\n6 7\n0027\n\
        touch: /x: Read-only file system\nfound\n\
        sh: can't create /data/f: Read-only file system\n\
        fd full mqueue null ptmx pts random stderr stdin stdout tty urandom zero pts/ptmx\n\
        sh: can't create /proc/sys/kernel/panic: Read-only file system\n1\n0::/\n3\n4321\n64\n\
        / /proc /dev /dev/pts /dev/mqueue /sys /sys/fs/cgroup /data /later/there /proc/sys \
        /proc/kcore /etc/issue /var 123\nCapInh:\t0000000000000421\nCapPrm:\t0000000000000400\n\
        CapEff:\t0000000000000400\nCapBnd:\t0000000000000421\nCapAmb:\t0000000000000400\n\
        NoNewPrivs:\t1\n";
    assert_eq!(said, expected);
    assert_eq!(ending, Ending::Exited(7));
    guest.is_clean();
}

fn is_bounded(guest: &Guest<'_>) {
    let files = "cat memory.max cpu.max cpu.weight pids.max";
    let script = format!(
        "cd /sys/fs/cgroup; {files}; tail /dev/zero; echo $?; \
         (for i in 1 2 3 4 5 6 7 8 9; do sleep 1000 & done); echo up; cat"
    );
    let mut wanted = container("bounded");
    wanted.limits = Limits {
        memory: Some(16 << 20),
        cpu: Some((80_000, 100_000)),
        weight: Some(50),
        processes: Some(8),
    };
    let mut first = guest.begin(&first(wanted, &["sh", "-c", &script]));
    first.expect("up\n");
    assert!(first.is_begun);
    let expected = "16777216\n80000 100000\n50\n8\nKilled\n137\n";
    assert!(first.output.starts_with(expected), "{}", first.output);
    first.expect("can't fork");
    assert_eq!(first.out_of_memory, 1);
    let usage = guest.act("bounded", Action::Usage).unwrap().unwrap();
    assert_eq!(usage.memory_limit, Some(16 << 20), "{usage:?}");
    assert_eq!(usage.processes_limit, Some(8), "{usage:?}");
    assert_eq!(usage.oom_kills, 1, "{usage:?}");
    assert!((5..=8).contains(&usage.processes), "{usage:?}");
    assert!(usage.memory > 0 && usage.memory < 16 << 20, "{usage:?}");
    assert!(usage.cpu_us[0] > 0, "{usage:?}");
    let limits = Limits {
        memory: Some(32 << 20),
        processes: Some(12),
        ..Limits::default()
    };
    assert_eq!(guest.act("bounded", Action::Limit(limits)), Ok(None));
    let files = format!("cd /sys/fs/cgroup; {files}");
    let seen = guest.run(&further("bounded", &["sh", "-c", &files]));
    let expected = "33554432\n80000 100000\n50\n12\n";
    assert_eq!(seen, Ok((expected.into(), Ending::Exited(0))));
    first.running.input(b"input\n");
    first.expect("input\n");
    first.running.end_of_input();
    assert_eq!(first.end().unwrap().1, Ending::Exited(0));
    dies_of_its_limit(guest);
    guest.is_clean();
}

fn dies_of_its_limit(guest: &Guest<'_>) {
    let mut wanted = container("bounded");
    wanted.limits.memory = Some(16 << 20);
    let mut run = guest.begin(&first(wanted, &["tail", "/dev/zero"]));
    while run.ended.is_none() {
        run.step().unwrap();
    }
    assert_eq!(run.ended, Some(Ending::Signalled(9)));
    assert_eq!(run.out_of_memory, 1);
}

fn cannot_begin(guest: &Guest<'_>) {
    let refused = |command: &Command| {
        let why = guest.run(command).unwrap_err();
        guest.is_clean();
        why.strip_prefix("the guest says: ").unwrap().to_owned()
    };
    let of_program = |name: &str| refused(&first(container("bad"), &[name]));
    let expected = "exec: \"nothing\": executable file not found in $PATH";
    assert_eq!(of_program("nothing"), expected);
    let expected = "exec: \"/nothing\": no such file or directory";
    assert_eq!(of_program("/nothing"), expected);
    let expected = "exec: \"/etc/passwd\": permission denied";
    assert_eq!(of_program("/etc/passwd"), expected);
    let of = |change: &dyn Fn(&mut Container)| {
        let mut wanted = container("bad");
        change(&mut wanted);
        refused(&first(wanted, &["true"]))
    };
    assert_eq!(of(&|it| it.disk = 9), "this guest has no disk /dev/ubdj");
    assert_eq!(of(&|it| it.id = "..".into()), "the identifier is none");
    let why = of(&|it| it.mounts.push(kernel("nofs", "/x", 0, "")));
    assert_eq!(why, "cannot mount nofs on /x: No such device (os error 19)");
    let why = of(&|it| it.mounts.push(bind("/nowhere", "/x", 0)));
    let expected = "cannot mount /nowhere on /x: No such file or directory (os error 2)";
    assert_eq!(why, expected);
    let why = of(&|it| it.rights.capabilities.ambient = 1 << 5);
    assert!(why.contains("cannot set the ambient capabilities"), "{why}");
    let why = of(&|it| it.limits.weight = Some(1_000_000));
    assert!(why.contains("cannot set cpu.weight to 1000000"), "{why}");
    let expected = "there is no container bad";
    assert_eq!(refused(&further("bad", &["true"])), expected);
    let why = guest.act("bad", Action::Usage).unwrap_err();
    assert_eq!(why, format!("the guest says: {expected}"));
}

fn is_joined_signalled_and_frozen(guest: &Guest<'_>) {
    let script = "trap 'exit 9' TERM; trap 'echo signalled' USR1; echo up; \
                  while :; do sleep 0.1; done";
    let mut one = guest.begin(&first(container("two"), &["sh", "-c", script]));
    one.expect("up\n");
    let again = guest.run(&first(container("two"), &["true"]));
    assert_eq!(
        again.unwrap_err(),
        "the guest says: there is a container two already"
    );
    let look = "hostname; tr '\\0' ' ' < /proc/1/cmdline | cut -c -5; cat /proc/self/cgroup; \
                grep CapEff /proc/self/status; cat /etc/issue; exit 4";
    let seen = guest.run(&further("two", &["sh", "-c", look]));
    let expected = "box\nsh -c\n0::/\nCapEff:\t0000000000000421\n";
    assert_eq!(seen, Ok((expected.into(), Ending::Exited(4))));
    let why = guest.run(&further("two", &["nothing"])).unwrap_err();
    assert!(why.contains("not found in $PATH"), "{why}");

    let mut two = guest.begin(&further("two", &["sh", "-c", script]));
    two.expect("up\n");
    assert_eq!(guest.act("two", Action::SignalAll(10)), Ok(None));
    one.expect("signalled\n");
    two.expect("signalled\n");
    let frozen = || guest.in_guest("grep frozen /sys/fs/cgroup/containers/two/cgroup.events");
    assert_eq!(guest.act("two", Action::Freeze), Ok(None));
    assert_eq!(frozen(), "frozen 1\n");
    assert_eq!(guest.act("two", Action::Thaw), Ok(None));
    // Only the command that is signalled hears of it; the others go with the first one.
    let mut three = guest.begin(&further("two", &["sh", "-c", script]));
    three.expect("up\n");
    two.running.signal(15);
    assert_eq!(two.end().unwrap().1, Ending::Exited(9));
    one.running.signal(15);
    assert_eq!(one.end().unwrap().1, Ending::Exited(9));
    assert_eq!(three.end().unwrap().1, Ending::Signalled(9));
    guest.is_clean();

    // Frozen processes can be killed, too.
    let mut one = guest.begin(&first(container("two"), &["sh", "-c", script]));
    one.expect("up\n");
    assert_eq!(guest.act("two", Action::Freeze), Ok(None));
    assert_eq!(guest.act("two", Action::SignalAll(9)), Ok(None));
    assert_eq!(one.end().unwrap().1, Ending::Signalled(9));
    guest.is_clean();
}

fn has_a_terminal(guest: &Guest<'_>) {
    let script = "trap 'echo interrupted; exit 3' INT; stty size; tty; ls -A /dev/pts; echo up; \
                  while :; do sleep 0.1; done";
    let terminal = Some(Size {
        rows: 30,
        columns: 90,
    });
    let in_new = Command {
        terminal,
        ..first(container("tty"), &["sh", "-c", script])
    };
    let mut one = guest.begin(&in_new);
    one.expect("30 90\r\n/dev/console\r\nptmx\r\nup\r\n");
    let in_old = Command {
        terminal,
        ..further("tty", &["sh", "-c", script])
    };
    let mut two = guest.begin(&in_old);
    two.expect("up\r\n");
    for mut run in [two, one] {
        run.running.input(b"\x03");
        let (said, ending) = run.end().unwrap();
        assert!(said.ends_with("^Cinterrupted\r\n"), "{said}");
        assert_eq!(ending, Ending::Exited(3));
    }
    guest.is_clean();
}

fn ends_with_its_client(guest: &Guest<'_>) {
    let script = "trap '' HUP TERM; sleep 1000 & echo up; wait";
    let mut one = guest.begin(&first(container("gone"), &["sh", "-c", script]));
    one.expect("up\n");
    let mut two = guest.begin(&further(
        "gone",
        &["sh", "-c", "trap '' HUP; echo up; sleep 1000"],
    ));
    two.expect("up\n");
    let count = || guest.in_guest("ps -o args | grep -c '[s]leep 1000'");
    assert_eq!(count(), "3\n");
    drop(two);
    wait_for("the end of the further command", || {
        (count() == "2\n").then_some(())
    });
    drop(one);
    wait_for("the end of the container", || {
        let left = guest.in_guest("ls /run/umlguest/containers");
        left.is_empty().then_some(())
    });
    guest.is_clean();
}

/// A program can be the helper itself, by a link of the kernel, and its file be opened then.
fn cannot_change_the_helper(guest: &Guest<'_>) {
    let mut one = guest.begin(&first(container("self"), &["sh", "-c", "echo up; cat"]));
    one.expect("up\n");
    let helper = &["/proc/self/exe", "-line", "/dev/ptmx"];
    let mut two = guest.begin(&further("self", helper));
    while !two.is_begun {
        two.step().unwrap();
    }
    let script = "cd /proc; p=$(grep -l ptmx [0-9]*/cmdline | head -n 1); p=${p%/*}; \
                  exec 3< $p/exe; kill -9 $p; while [ -d $p ]; do sleep 0.1; done; \
                  head -c 4 <&3 | tail -c 3; echo; echo x > /proc/self/fd/3";
    let (said, _) = guest.run(&further("self", &["sh", "-c", script])).unwrap();
    assert_eq!(
        said,
        "ELF\nsh: can't create /proc/self/fd/3: Operation not permitted\n"
    );
    drop(two);
    one.running.end_of_input();
    assert_eq!(one.end().unwrap().1, Ending::Exited(0));
}

#[test]
fn a_guest_without_a_disk_of_its_own_has_containers() {
    let Some(world) = World::with_real_kernel() else {
        return;
    };
    let tree = world.path().join("initramfs");
    fs::create_dir(&tree).unwrap();
    fs::copy(guest::helper_in(&guest::helper_target()), tree.join("init")).unwrap();
    let archive = "echo init | busybox cpio -o -H newc > ../initrd";
    run(std::process::Command::new("sh")
        .args(["-c", archive])
        .current_dir(tree))
    .ok();
    let vm = world.vm("vm1").mem(96).kernel(real_kernel());
    let vm = vm.line("kernelarg = initrd=/shared/initrd");
    let vm = vm.disk(1, root_disk(&world)).monitor();
    fs::copy(world.path().join("initrd"), vm.file("jail/shared/initrd")).unwrap();
    let guest = Guest::new(&world, vm);
    // Both outputs in one pipe, which keeps their order.
    let script = "cd /; ls -d /init /sbin/init ../../sbin 2>&1; grep -c . /proc/mounts; \
                  ls /proc/1/root | grep -c init";
    let mut wanted = container("one");
    wanted.rights.capabilities.bounding = u64::MAX;
    wanted.rights.capabilities.permitted = (1 << 40) - 1;
    wanted.rights.capabilities.effective = (1 << 40) - 1;
    let (said, ending) = guest.run(&first(wanted, &["sh", "-c", script])).unwrap();
    let expected = "ls: /init: No such file or directory\n../../sbin\n/sbin/init\n11\n0\n";
    assert_eq!(said, expected, "{ending:?}");
    assert_eq!(
        guest.run(&first(container("one"), &["true"])).unwrap().1,
        Ending::Exited(0)
    );
    guest.vm.kill();
}
