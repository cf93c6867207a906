//! The control group of a container: limits, signals to all of its processes, freezing (umlguest).
//!
//! All are below `/sys/fs/cgroup/containers`, in the unified hierarchy. A limit that the kernel does not have is passed
//! over.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use guest_line::Limits;
use rustix::fs::statfs;
use rustix::mount::{MountFlags, mount};
use rustix::process::{Pid, Signal, kill_process};

use super::usage;

/// Where control groups are, and the number of their file system (linux/magic.h).
const ALL: &str = "/sys/fs/cgroup";
const MAGIC: i64 = 0x6367_7270;
/// The group of those of containers.
const OURS: &str = "containers";
/// What can be limited or counted.
const CONTROLLERS: [&str; 5] = ["cpu", "cpuset", "io", "memory", "pids"];

/// How long processes may take to stop. The helper does nothing else meanwhile.
const FREEZING: Duration = Duration::from_secs(2);
/// How long the last process may take to leave.
const LEAVING: Duration = Duration::from_secs(5);
/// How often that is looked at.
const PAUSE: Duration = Duration::from_millis(2);

/// The control group of a container.
pub(super) struct Group(PathBuf);

/// A control group that is removed when this is dropped.
pub(super) struct Made(Group);

impl std::ops::Deref for Made {
    type Target = Group;

    fn deref(&self) -> &Group {
        &self.0
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        self.0.remove();
    }
}

impl Group {
    /// Makes that of a container; one that is left of a former one is removed.
    pub(super) fn make(id: &str) -> anyhow::Result<Made> {
        prepare()?;
        let group = Group(path_of(id));
        group.remove();
        let path = group.0.display();
        fs::create_dir(&group.0).with_context(|| format!("cannot make {path}"))?;
        Ok(Made(group))
    }

    /// That of a container that runs.
    ///
    /// # Errors
    /// If there is none.
    pub(super) fn of(id: &str) -> anyhow::Result<Group> {
        let group = Group(path_of(id));
        ensure!(group.0.is_dir(), "there is no container {id}");
        Ok(group)
    }

    /// Sets those limits that are given.
    pub(super) fn limit(&self, limits: &Limits) -> anyhow::Result<()> {
        let cpu = limits.cpu.map(|(time, period)| format!("{time} {period}"));
        for (file, value) in [
            ("memory.max", limits.memory.map(|bytes| bytes.to_string())),
            ("cpu.max", cpu),
            ("cpu.weight", limits.weight.map(|it| it.to_string())),
            ("pids.max", limits.processes.map(|it| it.to_string())),
        ] {
            let Some(value) = value else { continue };
            match fs::write(self.0.join(file), &value) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(error).with_context(|| format!("cannot set {file} to {value}"));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Signals all processes.
    pub(super) fn signal(&self, number: i32) -> anyhow::Result<()> {
        if number == Signal::KILL.as_raw() {
            let killed = fs::write(self.0.join("cgroup.kill"), "1");
            return killed.context("cannot kill all processes");
        }
        let signal = Signal::from_named_raw(number).context("there is no such signal")?;
        for pid in self.processes() {
            // It may just have ended.
            let _ = kill_process(pid, signal);
        }
        Ok(())
    }

    /// The processes in it, and in groups that the container has made in it.
    fn processes(&self) -> Vec<Pid> {
        let mut all = Vec::new();
        self.walk(&mut |group| {
            let listed = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
            let pids = listed.lines().filter_map(|line| line.parse().ok());
            all.extend(pids.filter_map(Pid::from_raw));
        });
        all
    }

    /// Visits the groups below this one, and then this one.
    fn walk(&self, visit: &mut dyn FnMut(&Path)) {
        let below = fs::read_dir(&self.0).into_iter().flatten().flatten();
        for entry in below.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
            Group(entry.path()).walk(visit);
        }
        visit(&self.0);
    }

    /// Stops all processes, and waits until they have; or lets them go on.
    pub(super) fn freeze(&self, frozen: bool) -> anyhow::Result<()> {
        let write = |value| fs::write(self.0.join("cgroup.freeze"), value);
        if !frozen {
            return write("0").context("cannot let processes go on");
        }
        write("1").context("cannot stop processes")?;
        if self.becomes("frozen", 1, FREEZING) {
            return Ok(());
        }
        let _ = write("0");
        anyhow::bail!("its processes do not stop; try again later")
    }

    /// Waits until `cgroup.events` says so; false if it does not in time.
    fn becomes(&self, key: &str, value: u64, limit: Duration) -> bool {
        let until = Instant::now() + limit;
        loop {
            let events = fs::read_to_string(self.0.join("cgroup.events")).unwrap_or_default();
            if usage::value(&events, key) == Some(value) {
                return true;
            }
            if Instant::now() > until {
                return false;
            }
            sleep(PAUSE);
        }
    }

    /// What the container uses, as far as the kernel counts it.
    pub(super) fn usage(&self) -> guest_line::Usage {
        usage::read(|file| fs::read_to_string(self.0.join(file)).unwrap_or_default())
    }

    /// Opens one of its files for reading.
    pub(super) fn open(&self, file: &str) -> io::Result<File> {
        File::open(self.0.join(file))
    }

    /// Kills what is left, and removes it.
    fn remove(&self) {
        if !self.0.is_dir() {
            return;
        }
        let _ = self.signal(Signal::KILL.as_raw());
        let _ = self.becomes("populated", 0, LEAVING);
        self.walk(&mut |group| drop(fs::remove_dir(group)));
    }
}

/// Makes this process one of those of a container. With the first process of one that runs, it joins the group that
/// this is in: a container may have moved it, and then there can be no process in the upper one.
pub(super) fn join(id: &str, first: Option<Pid>) -> anyhow::Result<()> {
    let path = first.and_then(group_of).unwrap_or_else(|| path_of(id));
    let joined = fs::write(path.join("cgroup.procs"), "0");
    joined.with_context(|| format!("cannot join {}", path.display()))
}

/// Whether a process belongs to a container.
pub(super) fn is_in(pid: Pid, id: &str) -> bool {
    group_of(pid).is_some_and(|group| group.starts_with(path_of(id)))
}

fn group_of(pid: Pid) -> Option<PathBuf> {
    let path = format!("/proc/{}/cgroup", pid.as_raw_nonzero());
    let groups = fs::read_to_string(path).ok()?;
    let group = groups.lines().find_map(|line| line.strip_prefix("0::/"))?;
    Some(Path::new(ALL).join(group))
}

fn path_of(id: &str) -> PathBuf {
    Path::new(ALL).join(OURS).join(id)
}

/// Sees to it that there are control groups, with what this kernel can limit.
fn prepare() -> anyhow::Result<()> {
    let is_there = || statfs(ALL).is_ok_and(|file_system| file_system.f_type == MAGIC);
    if !is_there() {
        let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        mount("cgroup2", ALL, "cgroup2", flags, None)
            .with_context(|| format!("cannot mount cgroup2 on {ALL}"))?;
    }
    let ours = Path::new(ALL).join(OURS);
    fs::create_dir_all(&ours).with_context(|| format!("cannot make {}", ours.display()))?;
    for group in [Path::new(ALL), &ours] {
        for controller in CONTROLLERS {
            // One that this kernel does not have.
            let _ = fs::write(
                group.join("cgroup.subtree_control"),
                format!("+{controller}"),
            );
        }
    }
    Ok(())
}
