//! Values of parameters as types: terminals, synchronous disks, start types, schedulers, devices. Used by every
//! program.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Component, Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result, did_you_mean, quoted};
use crate::form::Form;
use crate::names::{DiskName, LogName, number};

/// The highest ubd disk number, given by the UML kernel (MAX_DEV).
pub const MAX_UBD: u8 = 15;
/// The highest number of a virtual NIC.
pub const MAX_ETH: u8 = 15;

/// The value that one of these words stands for. The error says what `text` should be, and names all words.
pub(crate) fn one_of<T: Copy>(what: &str, text: &str, words: &[(&str, T)]) -> Result<T> {
    let known = words.iter().find(|(word, _)| *word == text);
    known.map(|(_, value)| *value).ok_or_else(|| {
        let words: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        let (last, others) = words.split_last().unwrap_or((&"", &[]));
        let why = format!("it must be {} or {last}", others.join(", "));
        Error::value(what, text, why)
    })
}

/// The host's end of a console or serial line: a pseudo terminal, with or without a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terminal {
    /// The log, in the VM's log directory.
    pub logfile: Option<LogName>,
}

impl FromStr for Terminal {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        match text.split_once(':') {
            None if text == "pty" => Ok(Terminal { logfile: None }),
            Some(("pty", log)) => Ok(Terminal {
                logfile: Some(log.parse()?),
            }),
            _ => Err(Error::value(
                "a terminal",
                text,
                "it must be pty or pty:LOGFILE",
            )),
        }
    }
}

impl fmt::Display for Terminal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.logfile {
            None => f.write_str("pty"),
            Some(log) => write!(f, "pty:{log}"),
        }
    }
}

/// The disks that the kernel opens in synchronous mode (flag `s` of ubd).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SyncDisks {
    /// All of them, unless the kernel carries out what the guest flushes.
    Auto,
    /// All of them.
    All,
    /// These numbers; may be empty.
    List(BTreeSet<u8>),
}

impl SyncDisks {
    /// Whether ubd disk `n` is one of them; `flushes`: whether the kernel carries out what the guest flushes.
    pub fn contains(&self, n: u8, flushes: bool) -> bool {
        match self {
            SyncDisks::Auto => !flushes,
            SyncDisks::All => true,
            SyncDisks::List(disks) => disks.contains(&n),
        }
    }
}

impl FromStr for SyncDisks {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        let disk = |word: &str| {
            let n = word
                .strip_prefix("ubd")
                .and_then(|n| number(n, 0, MAX_UBD).ok());
            n.ok_or_else(|| {
                Error::value(
                    "a disk",
                    word,
                    format!("disks are ubd0 to ubd{MAX_UBD}; or use auto, all or none"),
                )
            })
        };
        match text {
            "auto" => Ok(SyncDisks::Auto),
            "all" => Ok(SyncDisks::All),
            "none" => Ok(SyncDisks::List(BTreeSet::new())),
            _ => Ok(SyncDisks::List(
                text.split_whitespace().map(disk).collect::<Result<_>>()?,
            )),
        }
    }
}

impl fmt::Display for SyncDisks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SyncDisks::Auto => f.write_str("auto"),
            SyncDisks::All => f.write_str("all"),
            SyncDisks::List(disks) if disks.is_empty() => f.write_str("none"),
            SyncDisks::List(disks) => {
                let words: Vec<String> = disks.iter().map(|n| format!("ubd{n}")).collect();
                f.write_str(&words.join(" "))
            }
        }
    }
}

/// How the kernel runs the programs of the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Userspace {
    /// It traces them. Every kernel can do this.
    Ptrace,
    /// They trap into it by themselves, which is faster and separates less.
    Seccomp,
    /// The second if the kernel has it, else the first.
    Auto,
}

impl FromStr for Userspace {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        let words = [
            ("ptrace", Userspace::Ptrace),
            ("seccomp", Userspace::Seccomp),
            ("auto", Userspace::Auto),
        ];
        one_of("a way to run programs", text, &words)
    }
}

/// Whether the memory of the guest that it does not use stays that of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemoryUse {
    /// What the guest has ever used is memory of the host.
    Fixed,
    /// What an idle guest does not use is given back.
    Elastic,
}

impl FromStr for MemoryUse {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        let words = [("fixed", MemoryUse::Fixed), ("elastic", MemoryUse::Elastic)];
        one_of("a use of memory", text, &words)
    }
}

/// How far a VM is started when the system boots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartType {
    /// The monitor, but not the VM.
    Manual,
    /// The monitor and the VM.
    Boot,
    /// Neither.
    Off,
}

impl FromStr for StartType {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        let words = [
            ("manual", StartType::Manual),
            ("boot", StartType::Boot),
            ("off", StartType::Off),
        ];
        one_of("a start type", text, &words)
    }
}

impl fmt::Display for StartType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            StartType::Manual => "manual",
            StartType::Boot => "boot",
            StartType::Off => "off",
        })
    }
}

/// Scheduling class of the VM's processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheduler {
    /// `sched_default`: the standard scheduler.
    Default {
        /// Nice value, -20 (most favoured) to 19; see setpriority(2).
        prio: i8,
    },
    /// `sched_rr`: round robin realtime; see sched(7).
    RoundRobin {
        /// Static priority, 1 to 99 (most favoured).
        prio: u8,
    },
}

impl FromStr for Scheduler {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        let mut form = Form::parse(text)?;
        let scheduler = match form.name {
            "sched_default" => {
                let prio = form.read("prio", |n| number(n, -20, 19))?;
                Scheduler::Default {
                    prio: form.present("prio", prio)?,
                }
            }
            "sched_rr" => {
                let prio = form.read("prio", |n| number(n, 1, 99))?;
                Scheduler::RoundRobin {
                    prio: form.present("prio", prio)?,
                }
            }
            other => return Err(unknown_form(other, &["sched_default", "sched_rr"])),
        };
        form.finish()?;
        Ok(scheduler)
    }
}

impl fmt::Display for Scheduler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Scheduler::Default { prio } => write!(f, "sched_default(prio={prio})"),
            Scheduler::RoundRobin { prio } => write!(f, "sched_rr(prio={prio})"),
        }
    }
}

/// What to do if a device node no longer refers to the host's device it was made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Identity {
    /// Nothing.
    Ignore,
    /// The monitor does not start.
    Check,
    /// The node is made anew.
    Update,
}

impl FromStr for Identity {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        let words = [
            ("ignore", Identity::Ignore),
            ("check", Identity::Check),
            ("update", Identity::Update),
        ];
        one_of("an identity action", text, &words)
    }
}

/// A block device of the host that the VMs see as `/shared/disks/NAME.dev`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// As the VMs see it; shared, of kind [`crate::DiskKind::Dev`].
    pub name: DiskName,
    /// The block special file of the host.
    pub target: PathBuf,
    /// Its members may read and write the device.
    pub group: String,
    /// What to do when `target` has become another device.
    pub identity: Identity,
}

impl FromStr for Device {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        let mut form = Form::parse(text)?;
        if form.name != "device_file" {
            return Err(unknown_form(form.name, &["device_file"]));
        }
        let name = form.read("name", device_name)?;
        let target = form.read("target_file", absolute_path)?;
        let group = form.read("group", account)?;
        let device = Device {
            name: form.present("name", name)?,
            target: form.present("target_file", target)?,
            group: form.present("group", group)?,
            identity: form.optional("identity")?.unwrap_or(Identity::Check),
        };
        form.finish()?;
        Ok(device)
    }
}

fn device_name(text: &str) -> Result<DiskName> {
    if !text.ends_with(".dev") {
        return Err(Error::value("a device name", text, "it must end in .dev"));
    }
    format!("/shared/disks/{text}").parse()
}

/// Refuses a form with another name.
pub(crate) fn unknown_form(name: &str, known: &[&'static str]) -> Error {
    let hint = did_you_mean(name, known.iter().copied());
    let known = known.join("(...) or ");
    Error::Conflict(format!(
        "{}(...) is unknown here, use {known}(...){hint}",
        quoted(name)
    ))
}

/// `true` or `false`.
pub(crate) fn boolean(text: &str) -> Result<bool> {
    match text {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(Error::value("a boolean", text, "it must be true or false")),
    }
}

/// The name of a user or group. Whether it exists is checked when it is needed.
pub(crate) fn account(text: &str) -> Result<String> {
    let bad = |c: char| c.is_control() || c.is_whitespace() || ":/,".contains(c);
    if text.is_empty() || text.len() > 256 || text.starts_with('-') || text.contains(bad) {
        let why = "it must not begin with - or contain white space or any of : / ,";
        return Err(Error::value("a user or group name", text, why));
    }
    Ok(text.to_owned())
}

/// The user IDs from which VMs with `vmuser = auto` get theirs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UserRange {
    /// The first number.
    pub first: u32,
    /// The last number.
    pub last: u32,
}

impl UserRange {
    /// Beyond all numbers that systemd and Debian use, and those of subuid(5) (systemd.io/UIDS-GIDS); the numbers
    /// before are for temporary VMs.
    pub(crate) const DEFAULT: &str = "1883242496-1883308031";
    /// The numbers below are for users that the host knows, and 65535 is nobody's.
    const MIN: u32 = 65536;
    /// The highest one that does not look negative to 32-bit programs.
    const MAX: u32 = i32::MAX as u32;

    /// None; for checks of single values.
    pub(crate) fn none() -> UserRange {
        UserRange { first: 1, last: 0 }
    }

    /// Whether this number is one of them.
    pub fn contains(self, uid: u32) -> bool {
        (self.first..=self.last).contains(&uid)
    }
}

impl FromStr for UserRange {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        let end = |text| number(text, Self::MIN, Self::MAX).ok();
        let range = text.split_once('-');
        match range.map(|(first, last)| (end(first), end(last))) {
            Some((Some(first), Some(last))) if first <= last => Ok(UserRange { first, last }),
            _ => {
                let why = format!("it must be FIRST-LAST, from {} to {}", Self::MIN, Self::MAX);
                Err(Error::value("a range of user IDs", text, why))
            }
        }
    }
}

/// An absolute path other than `/`, without `..`; `//` and `/./` are removed.
pub(crate) fn absolute_path(text: &str) -> Result<PathBuf> {
    let bad = |why| Err(Error::value("an absolute path", text, why));
    let path = Path::new(text);
    if !path.is_absolute() {
        return bad("it must begin with /");
    }
    if text.contains(char::is_control) || path.components().any(|part| part == Component::ParentDir)
    {
        return bad("it must not contain .. or control characters");
    }
    if path.file_name().is_none() {
        return bad("the root directory cannot be used here");
    }
    Ok(path.components().collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::refusal;

    #[test]
    fn terminals() {
        assert_eq!(
            "pty:con0".parse::<Terminal>().unwrap().to_string(),
            "pty:con0"
        );
        assert_eq!("pty".parse::<Terminal>().unwrap().to_string(), "pty");
        for bad in [
            "", "pty:", "pty:a/b", "pty:..", "xterm", "fd:0", "pty0", "PTY",
        ] {
            refusal::<Terminal>(bad);
        }
    }

    #[test]
    fn sync_disks() {
        let some: SyncDisks = "ubd2  ubd0".parse().unwrap();
        assert_eq!(some.to_string(), "ubd0 ubd2");
        let none: SyncDisks = "none".parse().unwrap();
        for flushes in [false, true] {
            assert!(some.contains(2, flushes) && !some.contains(1, flushes));
            assert!(SyncDisks::All.contains(9, flushes) && !none.contains(0, flushes));
            assert_eq!(SyncDisks::Auto.contains(0, flushes), !flushes);
        }
        for bad in ["ubd16", "ubd0,ubd1", "0", "all ubd0", "auto ubd0", "ubd00"] {
            refusal::<SyncDisks>(bad);
        }
    }

    #[test]
    fn schedulers() {
        for text in [
            "sched_default(prio=-20)",
            "sched_default(prio=19)",
            "sched_rr(prio=1)",
        ] {
            assert_eq!(text.parse::<Scheduler>().unwrap().to_string(), text);
        }
        for bad in [
            "sched_default",
            "sched_default()",
            "sched_default(prio=20)",
            "sched_rr(prio=0)",
            "sched_rr(prio=+1)",
        ] {
            refusal::<Scheduler>(bad);
        }
        assert_eq!(
            refusal::<Scheduler>("sched_defalt(prio=1)"),
            "\"sched_defalt\"(...) is unknown here, use sched_default(...) or sched_rr(...); \
             did you mean \"sched_default\"?"
        );
    }

    #[test]
    fn devices() {
        let device: Device = "device_file(name=data1.dev,target_file=/dev/sdc5,group=uml)"
            .parse()
            .unwrap();
        assert_eq!(device.name.to_string(), "/shared/disks/data1.dev");
        assert_eq!(device.target, Path::new("/dev/sdc5"));
        assert_eq!(
            (device.group.as_str(), device.identity),
            ("uml", Identity::Check)
        );
        let tail = "target_file=/dev/sdc5,group=uml";
        assert!(
            refusal::<Device>(&format!("device_file(name=data1.dsk,{tail})"))
                .contains("must end in .dev")
        );
        assert!(
            refusal::<Device>(&format!("device_file(name=../x.dev,{tail})"))
                .contains("is not a disk")
        );
        assert!(refusal::<Device>(&format!("device_file({tail})")).contains("needs name="));
        assert!(
            refusal::<Device>(&format!("device_file(name=a.dev,{tail},identity=no)"))
                .contains("identity:")
        );
    }

    #[test]
    fn paths_and_accounts() {
        assert_eq!(absolute_path("/a//b/./c/").unwrap(), Path::new("/a/b/c"));
        for bad in ["", "a", "/", "//", "/a/../b", "/a\n"] {
            assert!(absolute_path(bad).is_err(), "{bad:?}");
        }
        for bad in ["", "-x", "a b", "a:b", "a/b", "a\0"] {
            assert!(account(bad).is_err(), "{bad:?}");
        }
        assert!(account("Anna.O'Hara@example").is_ok());
    }
}
