//! The modes of umladmin: the table of what the first operand can be, each with its function (umladmin).

use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use cli::{Arg, Exit, Failure, Kind, Line, Word, similar};
use config::Config;

use crate::{
    certificate, check, clone, create, delete, edit, effective, elsewhere, events, image,
    kernelcheck, list, machines, metrics, network, password, rename, selection, snapshot, start,
    stop, top, update, upgrade,
};

/// A mode of operation: what the first operand of umladmin can be.
pub struct Mode {
    /// The keyword, the operands that follow it, and what it does in one line.
    pub word: Word,
    /// The options that belong to it. Any other is a mistake: `umladmin -active stop` must not stop everything.
    pub options: &'static [&'static str],
    run: fn(&Order<'_>) -> Result<Exit, Failure>,
}

/// The inputs of a mode.
struct Order<'a> {
    line: &'a Line,
    /// The operands after the keyword: as text, unless they are a command, and as they are.
    names: &'a [&'a str],
    operands: &'a [OsString],
    /// How long a guest may take to shut down.
    timeout: Duration,
}

/// The mode whose operands are a command.
const RUN: &str = "run";

/// The modes, in the order of the help.
pub const MODES: &[Mode] = &[
    Mode {
        word: Word::new("list", Some(Arg::VM), "Shows the VMs and their states"),
        options: &["active", "inactive", "off", "columns", "csv", "json"],
        run: run_list,
    },
    Mode {
        word: Word::new(
            "start",
            Some(Arg::VM),
            "Starts monitors, and boots the VMs with start = boot",
        ),
        // Without effect, so that one list of options can serve start and stop.
        options: &["timeout"],
        run: |order| start::run(&order.config()?, order.names),
    },
    Mode {
        word: Word::new(
            "stop",
            Some(Arg::VM),
            "Shuts VMs down and ends their monitors",
        ),
        options: &["timeout"],
        run: |order| stop::run(&order.config()?, order.names, order.timeout),
    },
    Mode {
        word: Word::new(
            "update",
            Some(Arg::VM),
            "Starts VMs new in the configuration, stops removed ones",
        ),
        options: &["timeout"],
        run: |order| update::run(&order.config()?, order.names, order.timeout),
    },
    Mode {
        word: Word::new(
            "upgrade",
            Some(Arg::VM),
            "Has monitors go on with a new program, while VMs run",
        ),
        // Without effect, as with start.
        options: &["timeout"],
        run: |order| upgrade::run(&order.config()?, order.names),
    },
    Mode {
        word: Word::new(
            RUN,
            Some(Arg::new("COMMAND", Kind::Text)),
            "Runs a command in a temporary VM, and ends as it ends",
        ),
        options: &[
            "image", "kernel", "mem", "cpus", "share", "env", "net", "timeout", "keep",
        ],
        run: |order| crate::run::run(order.path(), order.line, order.operands),
    },
    Mode {
        word: Word::new(
            "image",
            Some(Arg::new("WORD", Kind::Text)),
            "Builds, lists and deletes images: the disks of new VMs",
        ),
        options: &["json"],
        run: |order| image::run(order.path(), order.line, order.names),
    },
    Mode {
        word: Word::new(
            "network",
            Some(Arg::new("WORD", Kind::Text)),
            "Lists and deletes the networks of VMs with nat(...)",
        ),
        options: &["json"],
        run: |order| network::run(&order.config()?, order.line, order.names),
    },
    Mode {
        word: Word::new(
            "boot",
            Some(Arg::VM),
            "Starts the kernels of VMs that do not run",
        ),
        options: &[],
        run: |order| order.command(machines::Command::Boot),
    },
    Mode {
        word: Word::new(
            "restart",
            Some(Arg::VM),
            "Shuts guests down, and starts their kernels again",
        ),
        options: &["timeout"],
        run: |order| order.command(machines::Command::Restart),
    },
    Mode {
        word: Word::new("ctrlaltdel", Some(Arg::VM), "Sends CTRL-ALT-DEL to guests"),
        options: &[],
        run: |order| order.command(machines::Command::CtrlAltDel),
    },
    Mode {
        word: Word::new("kill", Some(Arg::VM), "Ends the kernels of VMs by force"),
        options: &[],
        run: |order| order.command(machines::Command::Kill),
    },
    Mode {
        word: Word::new(
            "create",
            Some(Arg::new("NAME", Kind::Value)),
            "Makes a VM: its section, its directory and its disk",
        ),
        options: &[
            "image", "kernel", "mem", "cpus", "disk", "user", "net", "ssh-key", "password",
            "start", "dry-run",
        ],
        run: |order| create::run(order.path(), order.line, order.names),
    },
    Mode {
        word: Word::new(
            "clone",
            Some(Arg::VM),
            "Makes another VM with copies of the disks of one",
        ),
        options: &["user", "dry-run"],
        run: |order| clone::run(order.path(), order.line, order.names),
    },
    Mode {
        word: Word::new("rename", Some(Arg::VM), "Gives a VM another name"),
        options: &["dry-run"],
        run: |order| rename::run(order.path(), order.line, order.names),
    },
    Mode {
        word: Word::new(
            "delete",
            Some(Arg::VM),
            "Removes a VM with everything that belongs to it",
        ),
        options: &["stop", "yes", "timeout", "dry-run"],
        run: |order| delete::run(order.path(), order.line, order.names, order.timeout),
    },
    Mode {
        word: Word::new(
            "edit",
            None,
            "Edits the configuration, which is checked before it is in force",
        ),
        options: &["dry-run"],
        run: |order| edit::run(order.path(), order.line, order.names),
    },
    Mode {
        word: Word::new(
            "events",
            Some(Arg::VM),
            "Shows what happens to VMs as it happens, until CTRL-C",
        ),
        options: &["json"],
        run: |order| events::run(&order.config()?, order.names, order.line.has("json")),
    },
    Mode {
        word: Word::new(
            "top",
            Some(Arg::VM),
            "Shows what running VMs use, again and again",
        ),
        options: &["interval", "count", "json"],
        run: |order| top::run(order.path(), order.names, order.line),
    },
    Mode {
        word: Word::new(
            "metrics",
            Some(Arg::VM),
            "Prints figures about the VMs for Prometheus",
        ),
        options: &["o"],
        run: |order| {
            let to = order.line.value("o").map(Path::new);
            metrics::run(&order.config()?, order.names, to)
        },
    },
    Mode {
        word: Word::new(
            "certificate",
            Some(Arg::new("NAME", Kind::Text)),
            "Makes a certificate of this host, for umlweb or umlmon",
        ),
        options: &[],
        run: |order| certificate::run(&order.config()?, order.names),
    },
    Mode {
        word: Word::new(
            "check",
            Some(Arg::FILE),
            "Reports what is wrong with a configuration and the host",
        ),
        options: &["json"],
        run: run_check,
    },
    Mode {
        word: Word::new(
            "kernelcheck",
            Some(Arg::FILE),
            "Boots a tiny guest under a kernel, and reports what works",
        ),
        options: &["json"],
        run: run_kernelcheck,
    },
    Mode {
        word: Word::new(
            "password",
            None,
            "Reads a password, prints what can stand for it",
        ),
        options: &["verifier"],
        run: run_password,
    },
    Mode {
        word: Word::new(
            "snapshot",
            Some(Arg::VM),
            "Keeps the disks of a VM as they are now, under a label",
        ),
        options: &["delete"],
        run: |order| snapshot::make(&order.config()?, order.names, order.line),
    },
    Mode {
        word: Word::new("snapshots", Some(Arg::VM), "Lists the snapshots of a VM"),
        options: &[],
        run: |order| snapshot::list(&order.config()?, order.names),
    },
    Mode {
        word: Word::new(
            "rollback",
            Some(Arg::VM),
            "Gives the disks of a VM the content of a snapshot",
        ),
        options: &["yes"],
        run: |order| snapshot::roll_back(&order.config()?, order.names, order.line),
    },
    Mode {
        word: Word::new(
            "config",
            Some(Arg::VM),
            "Prints the configuration of one VM with the user's changes",
        ),
        options: &["clear", "set", "rename"],
        run: |order| effective::run(&order.config()?, order.names, order.line),
    },
];

/// Executes the command line.
pub fn run(line: Line) -> Result<Exit, Failure> {
    let Some((keyword, operands)) = line.operands.split_first() else {
        let keywords: Vec<&str> = keywords().collect();
        return Err(Failure::usage(format_args!(
            "no mode is given; use one of {}",
            keywords.join(", ")
        )));
    };
    let mode = mode(&keyword.to_string_lossy())?;
    check_options(&line, mode)?;
    // Words of a command may be anything.
    let names = match mode.word.name {
        RUN => Vec::new(),
        _ => line.text_operands()?,
    };
    (mode.run)(&Order {
        line: &line,
        names: names.get(1..).unwrap_or_default(),
        operands,
        timeout: timeout(&line)?,
    })
}

fn run_list(order: &Order<'_>) -> Result<Exit, Failure> {
    let config = order.config()?;
    match elsewhere::targets(order.names)? {
        Some(targets) => elsewhere::run(&config, &targets, order.line),
        None => list::run(&config, order.names, order.line),
    }
}

fn run_check(order: &Order<'_>) -> Result<Exit, Failure> {
    let file = match order.names {
        [] => order.path(),
        [file] => Path::new(file),
        _ => return Err(Failure::usage("check takes the name of one file")),
    };
    check::run(file, order.line.has("json"))
}

fn run_kernelcheck(order: &Order<'_>) -> Result<Exit, Failure> {
    let &[file] = order.names else {
        return Err(Failure::usage("kernelcheck takes the name of one file"));
    };
    kernelcheck::run(Path::new(file), order.line.has("json"))
}

fn run_password(order: &Order<'_>) -> Result<Exit, Failure> {
    match order.names {
        [] => password::run(order.line.has("verifier")),
        _ => Err(Failure::usage(
            "password takes no names; a password is read from stdin, never from the command line",
        )),
    }
}

impl Order<'_> {
    fn command(&self, command: machines::Command) -> Result<Exit, Failure> {
        machines::run(&self.config()?, self.names, command, self.timeout)
    }

    /// The file of the configuration.
    fn path(&self) -> &Path {
        self.line.config_or(Config::DEFAULT_PATH)
    }

    /// The configuration. A fault in the section of one VM does not affect the others.
    fn config(&self) -> Result<Config, Failure> {
        Config::load(self.path()).map_err(selection::bad_config)
    }
}

fn keywords() -> impl Iterator<Item = &'static str> {
    MODES.iter().map(|mode| mode.word.name)
}

fn mode(keyword: &str) -> Result<&'static Mode, Failure> {
    if let Some(mode) = MODES.iter().find(|mode| mode.word.name == keyword) {
        return Ok(mode);
    }
    let hint = similar(keyword, keywords())
        .map_or(String::new(), |known| format!("; did you mean {known}?"));
    Err(Failure::usage(format_args!(
        "unknown mode '{keyword}'{hint}"
    )))
}

/// An option that would be ignored is a mistake.
fn check_options(line: &Line, mode: &Mode) -> Result<(), Failure> {
    let mut given = line.words.iter();
    match given.find(|given| !mode.options.contains(&given.name)) {
        Some(given) => Err(Failure::usage(format_args!(
            "-{} cannot be used with {}",
            given.name, mode.word.name
        ))),
        None => Ok(()),
    }
}

/// How long a guest may take to shut down; 300 seconds unless `-timeout` says otherwise.
fn timeout(line: &Line) -> Result<Duration, Failure> {
    let Some(value) = line.value("timeout") else {
        return Ok(Duration::from_secs(300));
    };
    let seconds = value.to_str().and_then(|text| text.parse::<u32>().ok());
    let seconds = seconds.ok_or_else(|| {
        Failure::usage(format_args!("-timeout {value:?}: not a number of seconds"))
    })?;
    Ok(Duration::from_secs(seconds.into()))
}
