//! How much of the host a virtual machine can take: a control group for all of its processes, which the monitor makes
//! and the second process joins, before it stops being root. cgroups(7), both versions.

use std::fs;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{Mode, OFlags, fstatfs, open, openat};
use rustix::io::Errno;

use crate::processors::{Processors, put_thread};

/// The group of all virtual machines, below the root of a hierarchy.
const PARENT: &str = "umlmon";
/// All controllers that are used.
const CONTROLLERS: [&str; 5] = ["memory", "pids", "io", "cpu", ACCOUNTING];
/// Only counts the processor time of a group; in version 2, every group does that.
const ACCOUNTING: &str = "cpuacct";
/// How often the threads of a group are moved until all of them are at the new place: those that are started meanwhile
/// begin where their parent was.
const MOVES: u32 = 8;
/// Of linux/magic.h.
const CGROUP2_SUPER_MAGIC: i64 = 0x6367_7270;
/// The most that is read of a list of controllers, in bytes.
const MAX_CONTROLLERS: u64 = 4096;
/// How often a group is made whose parent is removed meanwhile.
const TRIES: u32 = 40;
/// How often removing a group is tried while the host's kernel still has something in it, and how long to wait in
/// between: the monitor does nothing else meanwhile, so a caller that can wait for [`ControlGroup::is_empty`] does that
/// first.
const REMOVALS: u32 = 20;
const PAUSE: Duration = Duration::from_millis(1);

/// Why there is no group with a controller.
const NOWHERE: &str = "no hierarchy of control groups has it";
const OCCUPIED: &str = "processes are in this group itself, so those below it cannot be limited";

/// The limits of one virtual machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Processes and threads.
    pub processes: u32,
    /// Memory in bytes, that of the guest included; the group may have as much again on swap space.
    pub memory: u64,
    /// Processor time, in percent of one processor; None: no limit but a fair share.
    pub cpu: Option<u32>,
    /// It runs with a real-time priority, and therefore without a share.
    pub realtime: bool,
}

/// The period of [`Bounds::cpu`], in microseconds.
const PERIOD: u64 = 100_000;

/// Which memory was exhausted when the host ended a process of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shortage {
    /// That of the group, limited by [`Bounds::memory`].
    Group,
    /// That of the host.
    Host,
}

/// A control group, in one or two hierarchies. Dropping it removes it; its processes must have ended.
#[derive(Debug, Default)]
pub struct ControlGroup {
    directories: Vec<PathBuf>,
    in_force: Vec<&'static str>,
}

impl ControlGroup {
    /// Makes a group of this name, which must be a file name of one virtual machine only. A group that exists was left
    /// by an earlier monitor: it is removed, or used if it is busy.
    ///
    /// # Errors
    /// A sentence that says why the group cannot be made.
    pub fn new(name: &str, bounds: &Bounds) -> Result<ControlGroup, String> {
        let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        // Memory first: if that fails, nothing has been changed.
        let wanted = [
            (
                "memory",
                ("memory.max", "memory.limit_in_bytes"),
                bounds.memory.to_string(),
            ),
            (
                "pids",
                ("pids.max", "pids.max"),
                bounds.processes.to_string(),
            ),
        ];
        let mut group = ControlGroup::default();
        for (controller, (second, first), value) in wanted {
            let (version, directory) = group.add(&table, name, controller)?;
            match version {
                2 => write(&directory, second, &value)?,
                _ => write(&directory, first, &value)?,
            }
            if controller == "memory" {
                // The file is missing on a host without swap space, or without accounting of it.
                let _ = write(&directory, "memory.swap.max", &value);
                let both = bounds.memory.saturating_mul(2).to_string();
                let _ = write(&directory, "memory.memsw.limit_in_bytes", &both);
                // The host must end all processes of a virtual machine or none. Hosts before Linux 4.19 cannot do that.
                let _ = write(&directory, "memory.oom.group", "1");
            }
        }
        // A virtual machine in a group of its own has the same share as each of the others, however many processes it
        // has.
        let _ = group.add(&table, name, "io");
        if group.processor_time().is_none() {
            let _ = group.join(&table, name, ACCOUNTING);
        }
        Ok(group)
    }

    /// Gives the group its share of the processors, and its limit. A virtual machine runs without, too.
    ///
    /// # Errors
    /// A sentence that says why the share or limit cannot be set.
    pub fn share_processors(&mut self, name: &str, bounds: &Bounds) -> Result<(), String> {
        if bounds.realtime {
            // A group has no time for real-time priorities unless it is assigned some.
            return Err("the VM has a real-time priority".into());
        }
        let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let (version, directory) = self.add(&table, name, "cpu")?;
        let Some(percent) = bounds.cpu else {
            return Ok(());
        };
        let quota = u64::from(percent) * PERIOD / 100;
        match version {
            2 => write(&directory, "cpu.max", &format!("{quota} {PERIOD}")),
            _ => write(&directory, "cpu.cfs_period_us", &PERIOD.to_string())
                .and_then(|()| write(&directory, "cpu.cfs_quota_us", &quota.to_string())),
        }
    }

    /// The group of a virtual machine that another monitor has started: with these directories and controllers, as
    /// [`ControlGroup::parts`] gave them there.
    #[must_use]
    pub fn adopt(directories: Vec<PathBuf>, controllers: &[String]) -> ControlGroup {
        let known = CONTROLLERS.into_iter();
        let in_force = known.filter(|name| controllers.iter().any(|it| it == name));
        ControlGroup {
            directories,
            in_force: in_force.collect(),
        }
    }

    /// Its directories and the controllers in force, for [`ControlGroup::adopt`].
    #[must_use]
    pub fn parts(&self) -> (Vec<PathBuf>, Vec<String>) {
        let names = self.in_force.iter().map(|name| (*name).to_owned());
        (self.directories.clone(), names.collect())
    }

    /// The controllers that limit it, as version 2 calls them.
    #[must_use]
    pub fn in_force(&self) -> &[&'static str] {
        &self.in_force
    }

    /// The processor time that its processes have taken, if the host counts it.
    #[must_use]
    pub fn processor_time(&self) -> Option<Duration> {
        let counted = |directory: &PathBuf| {
            let read = |file| fs::read_to_string(directory.join(file)).ok();
            let microseconds = || {
                let text = read("cpu.stat")?;
                let count = text
                    .lines()
                    .find_map(|line| line.strip_prefix("usage_usec "));
                count?.parse().map(Duration::from_micros).ok()
            };
            let nanoseconds = || {
                let text = read("cpuacct.usage")?;
                text.trim().parse().map(Duration::from_nanos).ok()
            };
            nanoseconds().or_else(microseconds)
        };
        self.directories.iter().rev().find_map(counted)
    }

    /// How many bytes its processes have read from devices of the host, and written to them, if the host counts it.
    /// What the host only keeps in memory does not count.
    #[must_use]
    pub fn transferred(&self) -> Option<(u64, u64)> {
        let read = |directory: &PathBuf| {
            let read = |file| fs::read_to_string(directory.join(file)).ok();
            read("io.stat").or_else(|| read("blkio.throttle.io_service_bytes"))
        };
        self.directories
            .iter()
            .find_map(read)
            .map(|text| transfers(&text))
    }

    /// Makes all of its threads run on these processors, and those that they start.
    ///
    /// # Errors
    /// As sched_setaffinity(2): none of the processors can be used any more.
    pub fn move_to(&self, processors: &Processors) -> io::Result<()> {
        for _ in 0..MOVES {
            let mut moved = false;
            // The host gives the number of a thread that has just ended to another one only after all other numbers.
            for thread in self.threads() {
                moved |= put_thread(thread, processors)?;
            }
            if !moved {
                break;
            }
        }
        Ok(())
    }

    /// All of its threads, as the host numbers them.
    #[must_use]
    fn threads(&self) -> Vec<u32> {
        let read = |directory: &PathBuf| {
            let read = |file| fs::read_to_string(directory.join(file)).ok();
            read("tasks").or_else(|| read("cgroup.threads"))
        };
        let text = self.directories.iter().find_map(read).unwrap_or_default();
        text.lines().filter_map(|line| line.parse().ok()).collect()
    }

    /// Makes a controller limit the group; gives the version of its hierarchy, and the group's directory there.
    fn add(
        &mut self,
        table: &str,
        name: &str,
        controller: &'static str,
    ) -> Result<(u8, PathBuf), String> {
        let added = self.join(table, name, controller)?;
        self.in_force.push(controller);
        Ok(added)
    }

    /// Makes the group in the hierarchy of a controller.
    fn join(&mut self, table: &str, name: &str, controller: &str) -> Result<(u8, PathBuf), String> {
        let hierarchy = hierarchy(table, controller)
            .ok_or_else(|| format!("no hierarchy of control groups has {controller}"))?;
        let directory = hierarchy.group(name);
        let known = self.directories.contains(&directory);
        if !known {
            // The counts of a former run must not apply to this one.
            let _ = fs::remove_dir(&directory);
        }
        hierarchy
            .make(&directory, controller)
            .map_err(|error| format!("{}: {error}", hierarchy.root.display()))?;
        if !known {
            self.directories.push(directory.clone());
        }
        Ok((hierarchy.version, directory))
    }

    /// The name of the group of a VM, whose directory has this device and inode: of the VMs of a name, only one has it,
    /// and inode numbers alone are those of many file systems.
    #[must_use]
    pub fn name(vm: &str, device: u64, inode: u64) -> String {
        format!("{vm}-{device}-{inode}")
    }

    /// Removes the group of this name that was left by a killed monitor. To be called while no other process can be the
    /// monitor; the processes of the group have ended with the killed one.
    /// Returns whether it is gone: it is not yet, if they are just about to end.
    pub fn remove_left(name: &str) -> bool {
        let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let found = CONTROLLERS.into_iter().filter_map(|controller| {
            let directory = hierarchy(&table, controller)?.group(name);
            directory.is_dir().then_some(directory)
        });
        let directories: Vec<_> = found.collect();
        drop(ControlGroup {
            directories: directories.clone(),
            in_force: Vec::new(),
        });
        !directories.iter().any(|directory| directory.is_dir())
    }

    /// The files to which a process with one thread writes to join.
    #[must_use]
    pub fn doors(&self) -> Vec<PathBuf> {
        let door = |directory: &PathBuf| {
            // Version 1 lets a thread join alone. Then the host's kernel does not wait, for up to 20 ms, until no
            // process of the host is creating a thread; and a process that joins has only one.
            let thread = directory.join("tasks");
            match thread.exists() {
                true => thread,
                false => directory.join("cgroup.procs"),
            }
        };
        self.directories.iter().map(door).collect()
    }

    /// Whether no process is in it, so that dropping it takes no time. A group that cannot be read counts as empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let empty = |door: PathBuf| fs::read(door).map_or(true, |processes| processes.is_empty());
        self.doors().into_iter().all(empty)
    }

    /// Why the host has ended a process of the group for lack of memory; None if it has not.
    #[must_use]
    pub fn shortage(&self) -> Option<Shortage> {
        let texts = |name: &'static str| {
            let files = self
                .directories
                .iter()
                .map(move |directory| directory.join(name));
            files.filter_map(|file| fs::read_to_string(file).ok())
        };
        let counts = |file, what: &'static str| {
            texts(file).any(|text| text.lines().any(|line| is_counted(line, what)))
        };
        if !counts("memory.events", "oom_kill ") && !counts("memory.oom_control", "oom_kill ") {
            return None;
        }
        // Both say how often the group was at its limit.
        match counts("memory.events", "oom ") || counts("memory.failcnt", "") {
            true => Some(Shortage::Group),
            false => Some(Shortage::Host),
        }
    }
}

fn write(directory: &Path, file: &str, value: &str) -> Result<(), String> {
    let file = directory.join(file);
    // A file that is not there must not be made.
    let open = fs::OpenOptions::new().write(true).open(&file);
    let written = open.and_then(|mut open| open.write_all(value.as_bytes()));
    written.map_err(|error| format!("{}: {error}", file.display()))
}

/// The sums of what was read and written, over all devices: `8:0 rbytes=N wbytes=N ...` in version 2, `8:0 Read N` and
/// `8:0 Write N` in version 1.
fn transfers(text: &str) -> (u64, u64) {
    let sum = |new: &str, old: &str| {
        let of_line = |line: &str| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let number = words.iter().find_map(|word| word.strip_prefix(new));
            let number = number.or_else(|| match words.as_slice() {
                [_, what, number] if *what == old => Some(number),
                _ => None,
            });
            number.and_then(|number| number.parse::<u64>().ok())
        };
        text.lines()
            .filter_map(of_line)
            .fold(0, u64::saturating_add)
    };
    (sum("rbytes=", "Read"), sum("wbytes=", "Write"))
}

/// Whether a line is a number with this before it, and not 0.
fn is_counted(line: &str, what: &str) -> bool {
    let count = line
        .strip_prefix(what)
        .and_then(|count| count.trim().parse::<u64>().ok());
    count.is_some_and(|count| count > 0)
}

impl Drop for ControlGroup {
    fn drop(&mut self) {
        for directory in &self.directories {
            for _ in 0..REMOVALS {
                match fs::remove_dir(directory) {
                    Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
                        std::thread::sleep(PAUSE);
                    }
                    // A group that cannot be removed is empty, and the next start uses it.
                    _ => break,
                }
            }
            // The last group on the host also removes the parent.
            let _ = directory.parent().map(fs::remove_dir);
        }
    }
}

/// Where a controller is.
struct Hierarchy {
    root: PathBuf,
    version: u8,
}

impl Hierarchy {
    /// Where the group of a virtual machine is, or would be.
    fn group(&self, name: &str) -> PathBuf {
        self.root.join(PARENT).join(name)
    }

    /// Whether the groups below cannot have the controller, because this one has processes: in version 2 only the real
    /// root, which alone has no type, may have both.
    fn is_closed_to(&self, controller: &str) -> bool {
        let read = |file| fs::read_to_string(self.root.join(file));
        let given = read("cgroup.subtree_control").is_ok_and(|text| has_word(&text, controller));
        let is_root = read("cgroup.type").is_err();
        let is_empty = read("cgroup.procs").is_ok_and(|processes| processes.is_empty());
        self.version == 2 && !given && !is_root && !is_empty
    }

    /// Makes a group, and its parent if it is missing, and enables the controller for it.
    fn make(&self, directory: &Path, controller: &str) -> io::Result<()> {
        let parent = self.root.join(PARENT);
        for _ in 0..TRIES {
            if self.version == 2 {
                delegate(&self.root, controller)?;
            }
            let made = exists(fs::create_dir(&parent))
                .and_then(|()| match self.version {
                    2 => delegate(&parent, controller),
                    _ => Ok(()),
                })
                .and_then(|()| exists(fs::create_dir(directory)));
            match made {
                // Another monitor has just removed the parent.
                Err(error) if is_gone(&error) => {}
                made => return made,
            }
        }
        Err(io::ErrorKind::ResourceBusy.into())
    }
}

/// Enables a controller for the groups below.
fn delegate(directory: &Path, controller: &str) -> io::Result<()> {
    let file = directory.join("cgroup.subtree_control");
    if has_word(&fs::read_to_string(&file)?, controller) {
        return Ok(());
    }
    match fs::write(file, format!("+{controller}")) {
        // cgroups(7), "no internal processes"; this happens in many containers.
        Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
            Err(io::Error::other(OCCUPIED))
        }
        result => result,
    }
}

/// Files in a group that is being removed can still be open, so two errors mean that it is gone.
fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
        || error.raw_os_error() == Some(Errno::NODEV.raw_os_error())
}

fn exists(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        result => result,
    }
}

fn has_word(text: &str, word: &str) -> bool {
    text.split([' ', ',', '\n']).any(|part| part == word)
}

/// The controllers that do not limit virtual machines on this host, as version 2 calls them, each with the reason.
/// Nothing is made or changed.
#[must_use]
pub fn missing_controllers() -> Vec<(&'static str, String)> {
    missing(&fs::read_to_string("/proc/self/mountinfo").unwrap_or_default())
}

fn missing(table: &str) -> Vec<(&'static str, String)> {
    let why = |controller| match hierarchy(table, controller) {
        None => Some(NOWHERE.to_owned()),
        Some(hierarchy) if hierarchy.is_closed_to(controller) => {
            Some(format!("{}: {OCCUPIED}", hierarchy.root.display()))
        }
        Some(_) => None,
    };
    let all = CONTROLLERS.into_iter().filter(|it| *it != ACCOUNTING);
    all.filter_map(|controller| Some((controller, why(controller)?)))
        .collect()
}

/// Finds a controller in a table of mounts (proc_pid_mountinfo(5)); version 2 first.
fn hierarchy(table: &str, controller: &str) -> Option<Hierarchy> {
    let mounts: Vec<(&str, &str, &str)> = table
        .lines()
        .filter_map(|line| {
            let (left, right) = line.split_once(" - ")?;
            let mut right = right.split(' ');
            let kind = right.next()?;
            Some((kind, left.split(' ').nth(4)?, right.nth(1)?))
        })
        .collect();
    let second = mounts.iter().find(|(kind, root, _)| {
        *kind == "cgroup2" && controllers(root).is_ok_and(|text| has_word(&text, controller))
    });
    let first = || {
        let former = match controller {
            "io" => "blkio",
            controller => controller,
        };
        let found = |(kind, _, options): &&(&str, &str, &str)| {
            *kind == "cgroup" && has_word(options, former)
        };
        mounts.iter().find(found)
    };
    let of = |root: &str, version| Hierarchy {
        root: PathBuf::from(root),
        version,
    };
    match second {
        Some((_, root, _)) => Some(of(root, 2)),
        None => first().map(|(_, root, _)| of(root, 1)),
    }
}

/// The controllers of a hierarchy of version 2. Anybody may have mounted something else over it: what is no control
/// group is not read, and of what is, not without end.
fn controllers(root: &str) -> io::Result<String> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = open(
        root,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    if fstatfs(&directory)?.f_type != CGROUP2_SUPER_MAGIC {
        return Err(Errno::NOTDIR.into());
    }
    let mut text = String::new();
    File::from(openat(
        &directory,
        "cgroup.controllers",
        flags,
        Mode::empty(),
    )?)
    .take(MAX_CONTROLLERS)
    .read_to_string(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
24 30 0:22 / /sys rw,relatime - sysfs sysfs rw
31 24 0:27 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
32 24 0:28 / /sys/fs/cgroup/cpu,pids rw,relatime - cgroup cgroup rw,cpu,pids
33 24 0:29 / /nowhere rw,relatime - cgroup2 cgroup2 rw
";

    #[test]
    fn transfers_of_all_devices_are_summed() {
        let second =
            "8:0 rbytes=10 wbytes=2 rios=1 wios=1 dbytes=0 dios=0\n7:1 rbytes=5 wbytes=0\n";
        assert_eq!(transfers(second), (15, 2));
        let first = "8:0 Read 4096\n8:0 Write 1\n8:0 Total 4097\n9:0 Read 4\nTotal 4101\n";
        assert_eq!(transfers(first), (4100, 1));
        assert_eq!(transfers(""), (0, 0));
    }

    #[test]
    fn a_controller_is_found_where_it_is() {
        let found =
            |controller| hierarchy(TABLE, controller).map(|found| (found.root, found.version));
        assert_eq!(found("pids"), Some(("/sys/fs/cgroup/cpu,pids".into(), 1)));
        assert_eq!(found("memory"), Some(("/sys/fs/cgroup/memory".into(), 1)));
        assert!(found("pid").is_none() && found("io").is_none());
    }

    #[test]
    fn what_limits_nobody_is_named() {
        let found = missing(TABLE);
        let names: Vec<&str> = found.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, ["io"], "{found:?}");
        assert_eq!(missing("").len(), CONTROLLERS.len() - 1);
    }

    #[test]
    fn no_file_of_another_file_system_is_read() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().to_str().unwrap();
        // A read of this file blocks without end.
        let fifo = directory.path().join("cgroup.controllers");
        let mode = nix::sys::stat::Mode::S_IRUSR;
        nix::unistd::mkfifo(&fifo, mode).unwrap();
        for kind in ["fuse.cgroup2", "tmpfs", "cgroup2"] {
            let table = format!("33 24 0:29 / {root} rw,relatime - {kind} {kind} rw\n");
            assert!(hierarchy(&table, "memory").is_none(), "{kind}");
        }
    }
}
