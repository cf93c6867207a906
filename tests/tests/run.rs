//! Tier real: umladmin run.

#![allow(clippy::unwrap_used, clippy::expect_used)] // in functions beside the tests, too

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt as _, chown};
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use e2e::host::install_below;
use e2e::network::{enter, join_lan};
use e2e::{
    Chance, Login, Outcome, SmallDisk, Terminal, World, pass_through, real_kernel, run, wait_for,
};
use rustix::process::{Pid, Signal, kill_process};
use xtask::guest;

/// The programs as they are installed, a directory for temporary files, and a configuration with nothing in it.
struct Site {
    world: World,
    umladmin: PathBuf,
    temporary: PathBuf,
}

impl Site {
    fn new() -> Option<Site> {
        let world = World::with_real_kernel()?;
        let umladmin = install_below(&world.path().join("prefix"));
        let temporary = world.path().join("tmp");
        fs::create_dir(&temporary).unwrap();
        fs::write(world.path().join("empty"), "").unwrap();
        Some(Site {
            umladmin,
            temporary,
            world,
        })
    }

    fn command(&self, args: &[&str]) -> Command {
        // So that a terminal can have the variable, too.
        let mut command = Command::new("env");
        let directory = format!("TMPDIR={}", self.temporary.display());
        command.arg(directory).arg(&self.umladmin);
        command.arg("-config").arg(self.world.path().join("empty"));
        command.arg("-kernel").arg(real_kernel());
        command.arg("run").args(args);
        command
    }

    /// Runs it; nothing is left.
    fn run(&self, args: &[&str]) -> Outcome {
        let outcome = run(&mut self.command(args));
        assert_eq!(self.left(), [""; 0], "{outcome:#?}");
        outcome
    }

    /// What is in the directory for temporary files.
    fn left(&self) -> Vec<String> {
        let left = fs::read_dir(&self.temporary).unwrap().flatten();
        left.map(|entry| entry.file_name().into_string().unwrap())
            .collect()
    }
}

#[test]
fn a_command_has_its_outputs_its_status_and_its_words() {
    let Some(site) = Site::new() else { return };
    let script = "echo $0 $1 $X; echo e >&2; exit 7";
    let outcome = site.run(&["-env", "X=y z", "--", "sh", "-c", script, "a b", "-info"]);
    assert_eq!(outcome.status, Some(7), "{outcome:#?}");
    assert_eq!(outcome.stdout, "a b -info y z\n");
    assert_eq!(outcome.stderr, "e\n");
    let looks = "id -u; hostname; ls /dev/ttyS63 /proc/self/exe; ip -o link show up | cut -c 4-6; touch /tmp/x";
    let outcome = site.run(&["--", "sh", "-c", looks]);
    assert_eq!(outcome.ok(), "0\numl\n/dev/ttyS63\n/proc/self/exe\nlo:\n");
    assert_eq!(site.run(&["nonexistent"]).status, Some(127));
    // Ours.
    let failed = site.run(&["-image", "nonexistent.dsk", "true"]).fails(125);
    assert!(failed.contains("nonexistent.dsk: neither in "), "{failed}");
    assert!(site.run(&[]).fails(125).contains("no command is given"));
    let failed = site.run(&["-mem", "0", "true"]).fails(125);
    assert_eq!(failed, "umladmin: -mem: it must not be 0\n");
}

#[test]
fn orphans_are_waited_for_and_a_missing_configuration_is_none() {
    let Some(site) = Site::new() else { return };
    let script = "(sh -c 'sleep 0.2 &'); sleep 0.5; ps -o stat,comm | grep -c '^Z'; true";
    let mut command = Command::new(&site.umladmin);
    command.env("TMPDIR", &site.temporary).arg("-kernel");
    command
        .arg(real_kernel())
        .args(["run", "--", "sh", "-c", script]);
    assert_eq!(run(&mut command).ok(), "0\n");
    assert_eq!(site.left(), [""; 0]);
    // One that is asked for must be there.
    let mut command = Command::new(&site.umladmin);
    command.args(["-config", "/nonexistent", "run", "true"]);
    assert!(run(&mut command).fails(125).contains("/nonexistent"));
}

#[test]
fn a_command_works_in_directories_of_the_host() {
    let Some(site) = Site::new() else { return };
    let job = site.world.path().join("job");
    fs::create_dir(&job).unwrap();
    fs::write(job.join("build"), "echo artefact > made; pwd; exit 3").unwrap();
    for path in [&job, &job.join("build")] {
        chown(path, Some(4711), Some(4711)).unwrap();
    }
    let (here, there) = (job.to_str().unwrap(), format!("{}:/src/x", job.display()));
    let outcome = site.run(&["-share", &there, "--", "sh", "-c", "cd /src/x; sh build"]);
    assert_eq!(outcome.status, Some(3), "{outcome:#?}");
    assert_eq!(outcome.stdout, "/src/x\n");
    let made = job.join("made");
    assert_eq!(fs::read_to_string(&made).unwrap(), "artefact\n");
    assert_eq!(fs::metadata(&made).unwrap().uid(), 4711);
    let read_only = format!("{here}:ro");
    let outcome = site.run(&[
        "-share",
        &read_only,
        "-share",
        &there,
        "--",
        "rm",
        made.to_str().unwrap(),
    ]);
    assert!(outcome.fails(1).contains("Read-only file system"));
    // What cannot be is told before anything is made.
    let refused = site.run(&["-share", "nonexistent", "true"]).fails(125);
    assert_eq!(
        refused,
        "umladmin: -share: nonexistent: No such file or directory (os error 2)\n"
    );
    let refused = site
        .run(&["-share", site.temporary.to_str().unwrap(), "true"])
        .fails(125);
    assert!(
        refused.contains("cannot be shared: it contains "),
        "{refused}"
    );
}

#[test]
fn what_is_piped_through_a_command_comes_back() {
    let Some(site) = Site::new() else { return };
    let sent = e2e::flood(2_000_000);
    let mut command = site.command(&["cat"]);
    let came = pass_through(&mut command, &sent);
    assert!(came == sent, "{} of {} bytes", came.len(), sent.len());
}

#[test]
fn a_terminal_is_like_that_of_the_user() {
    let Some(site) = Site::new() else { return };
    let script = "trap 'echo interrupted; exit 3' INT; stty size; tty; while :; do sleep 0.1; done";
    let mut terminal = Terminal::run(&site.command(&["--", "sh", "-c", script]), 30, 90);
    terminal.expect("30 90\r\n/dev/pts/0\r\n");
    terminal.send("\x03");
    terminal.expect("interrupted");
    assert_eq!(terminal.wait(), Some(3));
    assert_eq!(site.left(), [""; 0]);
}

/// Begins a command, and returns when it has said "up".
fn begin(site: &Site, script: &str) -> std::process::Child {
    let mut command = site.command(&["--", "sh", "-c", script]);
    let pipes = command.stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = pipes.stderr(Stdio::piped()).spawn().unwrap();
    let mut up = [0; 3];
    child.stdout.as_mut().unwrap().read_exact(&mut up).unwrap();
    assert_eq!(&up, b"up\n");
    child
}

#[test]
fn signals_are_passed_on_and_the_third_one_ends_everything() {
    let Some(site) = Site::new() else { return };
    let mut child = begin(
        &site,
        "trap 'exit 9' INT; echo up; while :; do sleep 0.1; done",
    );
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(9));
    let mut child = begin(
        &site,
        "trap 'echo heard' TERM; echo up; while :; do sleep 0.1; done",
    );
    let mut stdout = child.stdout.take().unwrap();
    for _ in 0..2 {
        kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
        let mut heard = [0; 6];
        stdout.read_exact(&mut heard).unwrap();
        assert_eq!(&heard, b"heard\n");
    }
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    assert_eq!(child.wait().unwrap().signal(), Some(15));
    assert_eq!(site.left(), [""; 0]);
}

#[test]
fn nothing_is_left_of_one_that_is_killed() {
    let Some(site) = Site::new() else { return };
    let mut child = begin(&site, "echo up; sleep 1000");
    child.kill().unwrap();
    child.wait().unwrap();
    wait_for("the end of its directory", || {
        site.left().is_empty().then_some(())
    });
    // While it boots.
    let mut child = site.command(&["true"]).spawn().unwrap();
    wait_for("its directory", || (!site.left().is_empty()).then_some(()));
    child.kill().unwrap();
    child.wait().unwrap();
    wait_for("the end of its directory", || {
        site.left().is_empty().then_some(())
    });
}

#[test]
fn a_vm_that_ends_before_its_command_is_told() {
    let Some(site) = Site::new() else { return };
    let panic = ["--", "sh", "-c", "echo c > /proc/sysrq-trigger; sleep 1000"];
    let why = site.run(&panic).fails(137);
    let begins = "umladmin: the VM has ended before the command: ";
    assert!(why.starts_with(begins) && why.contains("anic"), "{why}");
    assert_eq!(why.lines().count(), 1);
    let why = site.run(&["--", "poweroff", "-f"]).fails(137);
    assert!(why.starts_with(begins), "{why}");
}

#[test]
fn a_command_goes_on_when_its_monitor_is_killed() {
    let Some(site) = Site::new() else { return };
    let child = begin(&site, "echo up; sleep 3; echo done; exit 6");
    let directory = site.temporary.join(&site.left()[0]);
    let monitor = || {
        let pid = fs::read_to_string(directory.join("run/run.pid")).ok()?;
        Pid::from_raw(pid.trim().parse().ok()?)
    };
    let group = xtask::leftovers::groups(&directory.join("var"));
    let first = monitor().unwrap();
    kill_process(first, Signal::KILL).unwrap();
    let other = || monitor().filter(|pid| *pid != first);
    wait_for("another monitor", other);
    let ended = child.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(6), "{ended:?}");
    assert_eq!(ended.stdout, b"done\n");
    let told = String::from_utf8_lossy(&ended.stderr);
    assert!(told.contains("was restarted; connected again"), "{told}");
    assert_eq!(site.left(), [""; 0], "{told}");
    let places = group
        .iter()
        .filter_map(|line| line.strip_prefix("control group "));
    for place in places {
        assert!(!PathBuf::from(place).exists(), "{place}");
    }
}

#[test]
fn nothing_is_left_whenever_a_monitor_is_killed() {
    let Some(site) = Site::new() else { return };
    let mut chance = Chance::new();
    for _ in 0..5 {
        let mut command = site.command(&["--", "sh", "-c", "sleep 1"]);
        let mut child = command.stderr(Stdio::null()).spawn().unwrap();
        let pid = wait_for("its monitor", || {
            let directory = site.temporary.join(site.left().first()?);
            let pid = fs::read_to_string(directory.join("run/run.pid")).ok()?;
            Pid::from_raw(pid.trim().parse().ok()?)
        });
        std::thread::sleep(Duration::from_millis(chance.below(3000)));
        // It can have ended with its command.
        let killed = kill_process(pid, Signal::KILL).is_ok();
        let status = child.wait().unwrap();
        assert!(killed || status.success(), "{status}");
        assert_eq!(site.left(), [""; 0]);
        assert_eq!(xtask::leftovers::processes(&site.temporary), [""; 0]);
    }
}

#[test]
fn a_command_that_takes_too_long_is_ended() {
    let Some(site) = Site::new() else { return };
    let outcome = site.run(&["-timeout", "8", "--", "sh", "-c", "echo up; sleep 1000"]);
    assert_eq!(outcome.status, Some(124), "{outcome:#?}");
    assert_eq!(outcome.stdout, "up\n");
    assert_eq!(outcome.stderr, "umladmin: the time is over\n");
    // While it boots.
    let outcome = site.run(&["-timeout", "1", "-mem", "64", "--", "sleep", "1000"]);
    assert_eq!(outcome.status, Some(124), "{outcome:#?}");
}

#[test]
fn a_network_is_set_up_if_it_is_asked_for() {
    let Some(site) = Site::new() else { return };
    enter();
    join_lan();
    let server = TcpListener::bind("10.8.0.1:5001").unwrap();
    let answering = std::thread::spawn(move || {
        let (mut client, _) = server.accept().unwrap();
        client.write_all(b"a page\n").unwrap();
    });
    let script = "nc 10.8.0.1 5001 < /dev/null; cat /etc/resolv.conf";
    let said = site.run(&["-net", "user", "--", "sh", "-c", script]).ok();
    assert_eq!(said, "a page\nnameserver 10.0.2.3\n");
    answering.join().unwrap();
    assert_eq!(site.run(&["ls", "/sys/class/net"]).ok(), "lo\n");
    let failed = site.run(&["-net", "some", "true"]).fails(125);
    assert!(
        failed.contains("none, user, user(...) or netns(...)"),
        "{failed}"
    );
    let failed = site.run(&["-net", "nat", "true"]).fails(125);
    assert!(failed.contains("made by create"), "{failed}");
}

#[test]
fn an_image_is_not_changed_and_what_is_kept_has_the_changes() {
    let Some(site) = Site::new() else { return };
    let image = site.world.path().join("image.dsk");
    guest::build(&image, guest::SIZE_MB, Login::Password).unwrap();
    let before = fs::read(&image).unwrap();
    let name = image.display().to_string();
    let script = "cat /etc/issue; echo changed > /etc/issue; cat /etc/issue; mount | grep -c ' / '";
    let outcome = site.run(&["-image", &name, "--", "sh", "-c", script]);
    assert_eq!(outcome.ok(), "UML test guest\nchanged\n1\n");
    let args = [
        "-keep",
        "-image",
        &name,
        "--",
        "sh",
        "-c",
        "echo kept-it > /root/x",
    ];
    let outcome = run(&mut site.command(&args));
    assert_eq!(outcome.status, Some(0), "{outcome:#?}");
    let [left] = &site.left()[..] else {
        panic!("{outcome:#?}")
    };
    let directory = site.temporary.join(left);
    let told = format!(
        "umladmin: what is left of the VM is in {}\n",
        directory.display()
    );
    assert_eq!(outcome.stderr, told);
    let cow = fs::read(directory.join("var/run/jail/disks/root.cow")).unwrap();
    assert!(cow.windows(7).any(|bytes| bytes == b"kept-it"));
    assert!(directory.join("var/run/log/monitor").exists());
    assert!(fs::read(&image).unwrap() == before, "the image was changed");
    fs::remove_dir_all(directory).unwrap();
}

#[test]
fn a_full_disk_leaves_nothing_and_is_told() {
    let Some(site) = Site::new() else { return };
    let disk = SmallDisk::over(&site.temporary);
    let outcome = run(&mut site.command(&["true"]));
    assert!(outcome.fails(125).contains("No space left on device"));
    assert_eq!(site.left(), [""; 0]);
    disk.fill();
    let outcome = run(&mut site.command(&["true"]));
    assert!(outcome.fails(125).contains("No space left on device"));
    assert_eq!(site.left(), ["filler"]);
}

#[test]
fn a_container_without_the_capability_is_told_what_it_needs() {
    let Some(site) = Site::new() else { return };
    let mut command = Command::new("setpriv");
    command.args(["--bounding-set=-sys_admin", "--inh-caps=-sys_admin", "env"]);
    command.args(site.command(&["true"]).get_args());
    let why = run(&mut command).fails(125);
    assert!(why.contains("CAP_SYS_ADMIN"), "{why}");
    assert_eq!(site.left(), [""; 0]);
}
