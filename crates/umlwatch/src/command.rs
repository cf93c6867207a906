//! The commands of umlwatch: one table, which is the argument list, the interactive mode, the help and the completion.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use cli::{Arg, Failure, Given, Kind, Program, Section, Word};
use client::REMOTE;
use config::ChannelName;
use rpc_xdr::umlmonctrl::ConMode;

use crate::disk_command::{
    COW_AND_BACKING, COW_AND_NEW, DISK, DISK_AND_NEW, DiskCommand, NEW_COW, NEW_SIZED, SIZED,
};
use crate::ready::Sign;

/// The command line of umlwatch.
pub const PROGRAM: Program = Program {
    name: "umlwatch",
    about: "Commands the monitor of a virtual machine",
    synopsis: &["[COMMAND | OPTION]... VM[@HOST]"],
    sections: &[
        Section {
            heading: "Commands, carried out in the order given (without one: the interactive mode)",
            words: COMMANDS,
        },
        Section {
            heading: "Options",
            words: OPTIONS,
        },
        Section {
            heading: "For VMs on other hosts (VM@HOST)",
            words: REMOTE,
        },
    ],
    modes: &[],
    operand: Some(Arg::VM),
    notes: "A command that fails is the last one, and its exit status counts: 1 failed or\n\
            refused, 2 usage, 3 not running, 4 not authorised, 5 time over.",
};

/// What an argument is called; completion goes by it.
pub(crate) const LOG: Arg = Arg::new("FILE[,N]", Kind::Log);
pub(crate) const CHANNEL: Arg = Arg::new("CHANNEL", Kind::Channel);
pub(crate) const RECORDING: Arg = Arg::new("CHANNEL:FILE", Kind::Pair(&Kind::Channel, &Kind::File));
pub(crate) const READY: Arg = Arg::new("N[,CHANNEL:TEXT]", Kind::Value);
pub(crate) const ANY: Arg = Arg::new("ARG", Kind::Text);

/// Every command; the interactive mode knows the same ones.
pub const COMMANDS: &[Word] = &[
    Word::new(
        "info",
        None,
        "Shows state, consoles, disks, networks, configuration",
    ),
    Word::new(
        "tail",
        Some(LOG),
        "Shows the last N (20) lines of 'monitor' or a channel",
    ),
    Word::new(
        "connect",
        Some(CHANNEL),
        "Connects the terminal with conN or sslN; CTRL-] leaves",
    ),
    Word::new(
        "force-connect",
        Some(CHANNEL),
        "The same, taking it over from whoever is connected",
    ),
    Word::new(
        "watch",
        Some(CHANNEL),
        "Shows a channel, without typing into it",
    ),
    Word::new(
        "screen",
        Some(CHANNEL),
        "Shows what is on the screen of a channel, as text",
    ),
    Word::new(
        "record",
        Some(RECORDING),
        "Records a channel for asciinema, until CTRL-C",
    ),
    Word::new("start", None, "Starts the kernel"),
    Word::new(
        "start-with",
        Some(ANY),
        "Starts the kernel with one more argument",
    ),
    Word::new("suspend", None, "Suspends the kernel"),
    Word::new("continue", None, "Lets the suspended kernel go on"),
    Word::new(
        "halt",
        None,
        "Halts the kernel at once; the guest does not shut down",
    ),
    Word::new(
        "ctrlaltdel",
        None,
        "Sends CTRL-ALT-DEL: the proper shutdown of the guest",
    ),
    Word::new("kill", None, "Ends the kernel's processes by force"),
    Word::new(
        "sysrq",
        Some(Arg::new("LETTER", Kind::Value)),
        "Sends a system request; its output appears on con0",
    ),
    Word::new("rotate", None, "Opens all log files anew"),
    Word::new(
        "wait",
        Some(Arg::new("N", Kind::Value)),
        "Waits until the kernel has ended, at most N seconds",
    ),
    Word::new(
        "wait-ready",
        Some(READY),
        "Waits until the guest is ready, at most N seconds",
    ),
    Word::new("events", None, "Shows what happens to the VM, until CTRL-C"),
    Word::new("port", None, "Shows the TCP port of the monitor"),
    Word::new(
        "set",
        Some(Arg::SETTING),
        "Sets a parameter, from the next start on",
    ),
    Word::new("del", Some(Arg::PARAM), "Takes a set parameter back"),
    Word::new(
        "disk-list",
        None,
        "Shows the disks: type, size, backing file, users",
    ),
    Word::new(
        "disk-create",
        Some(NEW_SIZED),
        "Makes a flat image of MB megabytes",
    ),
    Word::new(
        "disk-create-cow",
        Some(NEW_COW),
        "Makes a copy-on-write image on a backing file",
    ),
    Word::new("disk-delete", Some(DISK), "Deletes a disk"),
    Word::new(
        "disk-copy",
        Some(DISK_AND_NEW),
        "Copies a disk to one of the same type",
    ),
    Word::new(
        "disk-resize",
        Some(SIZED),
        "Makes a flat image longer or shorter",
    ),
    Word::new(
        "disk-import",
        Some(COW_AND_BACKING),
        "Sets the backing file of an imported image",
    ),
    Word::new(
        "disk-commit",
        Some(COW_AND_NEW),
        "Makes a flat image of a copy-on-write image",
    ),
    Word::new(
        "change-password",
        None,
        "Asks for the old and the new password, and changes it",
    ),
    Word::new("site", Some(ANY), "Runs the site command with one argument"),
];

/// What counts for all commands of a command line, or for one of the interactive mode.
pub(crate) const OPTIONS: &[Word] = &[
    Word::new(
        "json",
        None,
        "-info, -disk-list, -screen and -events print JSON",
    ),
    Word::new(
        "follow",
        None,
        "-tail goes on with what comes, until CTRL-C",
    ),
    Word::new(
        "escape",
        Some(Arg::new("KEY", Kind::Value)),
        "The key that leaves a connection: ^], ^A .., or none",
    ),
    Word::new(
        "raw",
        None,
        "-tail and -site leave control characters as they are",
    ),
];

/// How many lines `-tail` shows if nothing is said.
const TAIL_LINES: u32 = 20;

/// A command that makes sense.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// `VM_INFO`
    Info,
    /// `LOG_TAIL`, `LOG_READ`
    Tail {
        /// "monitor" or the name of a channel
        file: String,
        /// how many lines
        lines: u32,
    },
    /// `CON_OPEN` and what follows
    Connect {
        /// what to connect to
        channel: ChannelName,
        /// what for
        mode: ConMode,
    },
    /// `CON_SCREEN`
    Screen(ChannelName),
    /// `CON_OPEN` and `CON_READ`
    Record {
        /// what to record
        channel: ChannelName,
        /// where to
        file: PathBuf,
    },
    /// `VM_START` with additional arguments of the kernel
    Start(Vec<Vec<u8>>),
    /// `VM_SUSPEND`
    Suspend,
    /// `VM_CONTINUE`
    Continue,
    /// `VM_HALT`
    Halt,
    /// `VM_CTRLALTDEL`
    CtrlAltDel,
    /// `VM_KILL`
    Kill,
    /// `VM_SYSRQ`
    Sysrq(char),
    /// `LOG_ROTATE`
    Rotate,
    /// `VM_WAIT`, in seconds
    Wait(u32),
    /// `VM_READY`, or `CON_READ` until a text comes
    WaitReady {
        /// how long
        seconds: u32,
        /// for what
        sign: Sign,
    },
    /// `EVENT_READ`
    Events,
    /// `PORT_GET`
    Port,
    /// `CONFIG_SET`
    Set {
        /// the parameter
        param: String,
        /// may be any bytes
        value: Vec<u8>,
    },
    /// `CONFIG_DEL`
    Del(String),
    /// `PASSWORD_SET`
    ChangePassword,
    /// `SITE_RUN`
    Site(Vec<u8>),
    /// Work on a disk
    Disk(DiskCommand),
    /// `DISK_LIST`
    DiskList,
}

impl Command {
    /// The command of a given word; None if the word is an option.
    pub fn of(given: &Given) -> Result<Option<Command>, Failure> {
        let bytes = || given.value.as_bytes().to_vec();
        Ok(Some(match given.name {
            "info" => Command::Info,
            "tail" => tail(given.text()?)?,
            "connect" => connect(given.text()?, ConMode::Write)?,
            "force-connect" => connect(given.text()?, ConMode::Force)?,
            "watch" => connect(given.text()?, ConMode::Watch)?,
            "screen" => Command::Screen(channel(given.text()?)?),
            "record" => record(given.text()?)?,
            "start" => Command::Start(Vec::new()),
            "start-with" => Command::Start(vec![bytes()]),
            "suspend" => Command::Suspend,
            "continue" => Command::Continue,
            "halt" => Command::Halt,
            "ctrlaltdel" => Command::CtrlAltDel,
            "kill" => Command::Kill,
            "sysrq" => Command::Sysrq(letter(given.text()?)?),
            "rotate" => Command::Rotate,
            "wait" => Command::Wait(number(given.text()?, "wait")?),
            "wait-ready" => wait_ready(given.text()?)?,
            "events" => Command::Events,
            "port" => Command::Port,
            "set" => setting(&given.value)?,
            "del" => Command::Del(given.text()?.to_owned()),
            "change-password" => Command::ChangePassword,
            "site" => Command::Site(bytes()),
            "disk-list" => Command::DiskList,
            _ => return Ok(DiskCommand::of(given)?.map(Command::Disk)),
        }))
    }

    /// What could not be done, for a sentence that begins with "cannot".
    pub(crate) fn verb(&self) -> String {
        match self {
            Command::Info => "show its state".into(),
            Command::Tail { file, .. } => format!("show the log {file}"),
            Command::Connect {
                channel,
                mode: ConMode::Watch,
            } => format!("watch {channel}"),
            Command::Connect { channel, .. } => format!("connect to {channel}"),
            Command::Screen(channel) => format!("show the screen of {channel}"),
            Command::Record { channel, .. } => format!("record {channel}"),
            Command::Start(_) => "start".into(),
            Command::Suspend => "suspend".into(),
            Command::Continue => "continue".into(),
            Command::Halt => "halt".into(),
            Command::CtrlAltDel => "send CTRL-ALT-DEL".into(),
            Command::Kill => "kill".into(),
            Command::Sysrq(letter) => format!("send the system request {letter}"),
            Command::Rotate => "open the log files anew".into(),
            Command::Wait(_) => "wait".into(),
            Command::WaitReady { .. } => "wait for the guest".into(),
            Command::Events => "show its events".into(),
            Command::Port => "tell the port".into(),
            Command::Set { .. } => "set a parameter".into(),
            Command::Del(param) => format!("take {param} back"),
            Command::ChangePassword => "change the password".into(),
            Command::Site(_) => "run the site command".into(),
            Command::Disk(command) => command.verb().into(),
            Command::DiskList => "list the disks".into(),
        }
    }
}

fn tail(text: &str) -> Result<Command, Failure> {
    let (file, lines) = match text.split_once(',') {
        Some((file, lines)) => (file, number(lines, "tail")?),
        None => (text, TAIL_LINES),
    };
    if file != "monitor" {
        channel(file).map_err(|_| {
            Failure::usage(format_args!(
                "there is no log '{file}': 'monitor', or a channel such as con0 or ssl1, is meant"
            ))
        })?;
    }
    Ok(Command::Tail {
        file: file.to_owned(),
        lines,
    })
}

fn connect(text: &str, mode: ConMode) -> Result<Command, Failure> {
    let channel = channel(text)?;
    Ok(Command::Connect { channel, mode })
}

fn record(text: &str) -> Result<Command, Failure> {
    match text.split_once([':', ' ']) {
        Some((name, file)) if !file.is_empty() => Ok(Command::Record {
            channel: channel(name)?,
            file: file.into(),
        }),
        _ => Err(Failure::usage(format_args!(
            "-record: '{text}' is not {}",
            RECORDING.label
        ))),
    }
}

fn wait_ready(text: &str) -> Result<Command, Failure> {
    let (seconds, sign) = match text.split_once(',') {
        None => (text, Sign::Word),
        Some((seconds, shown)) => match shown.split_once(':') {
            Some((name, text)) if !text.is_empty() => {
                let (channel, text) = (channel(name)?, text.to_owned());
                (seconds, Sign::Shown { channel, text })
            }
            _ => {
                return Err(Failure::usage(format_args!(
                    "-wait-ready: '{text}' is not {}",
                    READY.label
                )));
            }
        },
    };
    let seconds = number(seconds, "wait-ready")?;
    Ok(Command::WaitReady { seconds, sign })
}

fn channel(text: &str) -> Result<ChannelName, Failure> {
    text.parse().map_err(|_| {
        Failure::usage(format_args!(
            "'{text}' is not a channel: con0 to con15, ssl0 to ssl63"
        ))
    })
}

fn letter(text: &str) -> Result<char, Failure> {
    let mut letters = text.chars();
    match (letters.next(), letters.next()) {
        (Some(letter), None) => Ok(letter),
        _ => Err(Failure::usage(format_args!(
            "-sysrq: '{text}' is not one letter"
        ))),
    }
}

fn number(text: &str, word: &str) -> Result<u32, Failure> {
    text.parse()
        .map_err(|_| Failure::usage(format_args!("-{word}: '{text}' is not a number")))
}

fn setting(text: &OsStr) -> Result<Command, Failure> {
    let mut halves = text.as_bytes().splitn(2, |byte| *byte == b'=');
    let param = halves
        .next()
        .and_then(|param| std::str::from_utf8(param).ok());
    match (param, halves.next()) {
        (Some(param), Some(value)) if !param.is_empty() => Ok(Command::Set {
            param: param.to_owned(),
            value: value.to_vec(),
        }),
        _ => Err(Failure::usage(format_args!(
            "-set: {text:?} is not PARAM=VALUE"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cli::{Exit, Request};

    fn commands(args: &[&str]) -> Result<Vec<Command>, Failure> {
        let Request::Run(line) = PROGRAM.parse(args.iter().map(Into::into))? else {
            panic!("not a run")
        };
        let given = line.words.iter();
        given.filter_map(|w| Command::of(w).transpose()).collect()
    }

    #[test]
    fn every_word_of_the_table_is_a_command() {
        for word in COMMANDS {
            let value = match word.name {
                "tail" => "con0,5",
                "connect" | "force-connect" | "watch" | "screen" => "con1",
                "record" => "con1:/tmp/x",
                "wait" | "wait-ready" => "9",
                "sysrq" => "h",
                "set" => "mem=32",
                "disk-create" | "disk-resize" => "/disks/a.dsk:1",
                name if name.starts_with("disk-") => "/disks/a.dsk:/disks/b.dsk",
                _ => "x",
            };
            let given = Given {
                name: word.name,
                value: value.into(),
            };
            assert!(Command::of(&given).unwrap().is_some(), "{}", word.name);
        }
        for word in OPTIONS.iter().chain(REMOTE) {
            let given = Given {
                name: word.name,
                value: "".into(),
            };
            assert_eq!(Command::of(&given).unwrap(), None);
        }
    }

    #[test]
    fn commands_come_in_their_order() {
        let given = [
            "-start-with",
            "-s",
            "vm1",
            "-tail",
            "con0,5",
            "-json",
            "-set",
            "con0=pty:a=b",
            "-wait=5",
        ];
        let expected = [
            Command::Start(vec![b"-s".to_vec()]),
            Command::Tail {
                file: "con0".into(),
                lines: 5,
            },
            Command::Set {
                param: "con0".into(),
                value: b"pty:a=b".to_vec(),
            },
            Command::Wait(5),
        ];
        assert_eq!(commands(&given).unwrap(), expected);
    }

    #[test]
    fn nonsense_is_refused_before_anything_is_done() {
        for args in [
            &["-tail", "../../etc/shadow,100"][..],
            &["-tail", "con0,many"],
            &["-connect", "tty1"],
            &["-sysrq", "help"],
            &["-sysrq", ""],
            &["-wait", "-1"],
            &["-set", "mem"],
            &["-set", "=3"],
        ] {
            assert_eq!(commands(args).unwrap_err().exit, Exit::Usage, "{args:?}");
        }
    }
}
