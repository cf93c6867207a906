//! Containers in a guest: a command with a root directory, namespaces and a control group of its own, and later
//! commands in it. What is told here is what the runtime specification of the Open Container Initiative tells, resolved
//! by the client: paths are those of the guest, numbers are those of Linux.

use serde::{Deserialize, Serialize};

/// What a command runs in.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Place {
    /// The guest itself.
    #[default]
    Guest,
    /// A new container, which ends with the command, its first process.
    New(Box<Container>),
    /// The container of this identifier, which runs.
    In(String, Box<Rights>),
}

/// A container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Container {
    /// Its identifier: 1 to 128 letters, digits, `-`, `_` and `.`, of which the first is a letter or a digit.
    pub id: String,
    /// The N of `ubdN`, the disk that is its root directory.
    pub disk: u8,
    /// The root directory cannot be written.
    pub read_only_root: bool,
    /// Its name, in a namespace of its own; else that of the guest.
    pub hostname: Option<String>,
    /// What is mounted in it, in this order.
    pub mounts: Vec<Mount>,
    /// Paths of which it sees nothing: an empty directory or file is there instead.
    pub masked: Vec<Vec<u8>>,
    /// Paths that it cannot write.
    pub read_only: Vec<Vec<u8>>,
    /// Parameters below `/proc/sys`, with dots, and their values.
    pub sysctls: Vec<(String, String)>,
    /// What it may use.
    pub limits: Limits,
    /// What its first process may do.
    pub rights: Rights,
}

/// A mount in a container, as mount(2) has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// What is mounted.
    pub source: Source,
    /// Where, seen from the container. It is made if it is missing. Links in it lead nowhere out of the container.
    pub target: Vec<u8>,
    /// Flags (`MS_RDONLY` and others).
    pub flags: u64,
    /// Options of the file system, with commas.
    pub options: Vec<u8>,
}

/// What is mounted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Source {
    /// A file system of the kernel, by its type: `proc`, `sysfs`, `tmpfs`, `devpts`, `mqueue`, `cgroup2`.
    Kernel(String),
    /// A file or directory of the guest, outside the container.
    Bind(Vec<u8>),
}

/// What a process may do.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rights {
    /// Its user.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// Its further groups.
    pub groups: Vec<u32>,
    /// Its umask, if not the usual one.
    pub umask: Option<u32>,
    /// Its capabilities.
    pub capabilities: Capabilities,
    /// Programs that it executes give it no further privileges.
    pub no_new_privileges: bool,
    /// Limits by the number of their resource (`RLIMIT_NOFILE` and others): the soft and the hard one. `u64::MAX` is
    /// none.
    pub limits: Vec<(u32, u64, u64)>,
    /// How early it is killed when memory is short, -1000 to 1000.
    pub oom_score_adj: Option<i32>,
}

/// Sets of capabilities: bit N is the capability with the number N.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capabilities {
    /// Those that can be gained.
    pub bounding: u64,
    /// Those that are in force.
    pub effective: u64,
    /// Those that a program with such capabilities in its file keeps.
    pub inheritable: u64,
    /// Those that the process may put in force.
    pub permitted: u64,
    /// Those that any program keeps.
    pub ambient: u64,
}

/// What the processes of a container may use together. None is no limit; in an update, no change.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Bytes of memory.
    pub memory: Option<u64>,
    /// Microseconds of processor time in each period, and the microseconds of a period.
    pub cpu: Option<(u64, u64)>,
    /// The share of the processors if they are short, 1 to 10000 (`cpu.weight`).
    pub weight: Option<u64>,
    /// Processes and threads.
    pub processes: Option<u64>,
}

/// What is done with a container that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Action {
    /// Sends a signal to all of its processes.
    SignalAll(i32),
    /// Its processes stop where they are.
    Freeze,
    /// They go on.
    Thaw,
    /// Gives it other limits.
    Limit(Limits),
    /// Asks what it uses; answered with [`super::ToHost::Usage`].
    Usage,
}

/// What a container uses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Microseconds of processor time: all, of programs, and of the kernel.
    pub cpu_us: [u64; 3],
    /// Periods, those in which it had to wait for its time, and for how many microseconds it did.
    pub throttled: [u64; 3],
    /// Bytes of memory, and the limit if there is one.
    pub memory: u64,
    /// See above.
    pub memory_limit: Option<u64>,
    /// Bytes of the page cache that can be freed.
    pub inactive_file: u64,
    /// Processes and threads, and the limit if there is one.
    pub processes: u64,
    /// See above.
    pub processes_limit: Option<u64>,
    /// Bytes read from and written to disks.
    pub io: [u64; 2],
    /// How often one of its processes was killed as memory was short.
    pub oom_kills: u64,
}

/// Whether this can be the identifier of a container. It is a name of a directory, too.
#[must_use]
pub fn is_container_id(id: &str) -> bool {
    let first = id.bytes().next();
    first.is_some_and(|byte| byte.is_ascii_alphanumeric())
        && id.len() <= 128
        && id
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identifier_is_a_name_of_a_directory() {
        for good in ["a", "0f3c", "web-1_2.x"] {
            assert!(is_container_id(good), "{good}");
        }
        for bad in ["", ".", "..", "-a", "a/b", "a b", "é", &"a".repeat(129)] {
            assert!(!is_container_id(bad), "{bad}");
        }
    }
}
