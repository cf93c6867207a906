//! The command line of umladmin: the table of modes, each with its function, and the options (umladmin).

use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use cli::{Arg, Exit, Failure, Kind, Line, Program, Section, Word, similar};
use config::Config;

use crate::{
    check, effective, elsewhere, events, kernelcheck, list, machines, password, selection, start,
    stop, update,
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
        options: &["active", "inactive", "off", "json"],
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
            RUN,
            Some(Arg::new("COMMAND", Kind::Text)),
            "Runs a command in a temporary VM, and ends as it ends",
        ),
        options: &["image", "kernel", "mem", "cpus", "env", "timeout", "keep"],
        run: |order| crate::run::run(order.path(), order.line, order.operands),
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
            "events",
            Some(Arg::VM),
            "Shows what happens to VMs as it happens, until CTRL-C",
        ),
        options: &["json"],
        run: |order| events::run(&order.config()?, order.names, order.line.has("json")),
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
            "config",
            Some(Arg::VM),
            "Prints the configuration of one VM with the user's changes",
        ),
        options: &["clear", "set", "rename"],
        run: |order| effective::run(&order.config()?, order.names, order.line),
    },
];

/// The command line of umladmin.
pub const PROGRAM: Program = Program {
    name: "umladmin",
    about: "The administrators' client of UMLMON",
    synopsis: &[
        "[OPTION]... list|start|stop|update|events [VM]...",
        "[OPTION]... boot|restart|ctrlaltdel|kill VM...",
        "[-json] list VM@HOST...",
        "[OPTION]... run -- COMMAND [ARGUMENT]...",
        "[OPTION]... config VM",
        "[OPTION]... check [FILE]",
        "[OPTION]... kernelcheck FILE",
        "[-verifier] password",
    ],
    sections: &[
        Section {
            heading: "For list",
            words: &[
                Word::new("active", None, "Only VMs with a running kernel"),
                Word::new(
                    "inactive",
                    None,
                    "Only VMs with a monitor but no running kernel",
                ),
                Word::new("off", None, "Only VMs without a monitor"),
            ],
        },
        Section {
            heading: "For list, events, check and kernelcheck",
            words: &[Word::new("json", None, "Prints JSON")],
        },
        Section {
            heading: "For stop, update, restart and run",
            words: &[Word::new(
                "timeout",
                Some(Arg::new("N", Kind::Value)),
                "Gives a guest N seconds to shut down (300), or a command to end",
            )],
        },
        Section {
            heading: "For run",
            words: &[
                Word::new(
                    "image",
                    Some(Arg::FILE),
                    "Boots this image, which is not changed, instead of busybox",
                ),
                Word::new(
                    "kernel",
                    Some(Arg::FILE),
                    "Uses this kernel instead of the newest of ours, or Debian's",
                ),
                Word::new(
                    "mem",
                    Some(Arg::new("SIZE", Kind::Value)),
                    "Gives the VM this memory, such as 512 or 2G (512M)",
                ),
                Word::new(
                    "cpus",
                    Some(Arg::new("N", Kind::Value)),
                    "Gives the VM N processors (1)",
                ),
                Word::new(
                    "env",
                    Some(Arg::new("NAME=VALUE", Kind::Text)),
                    "Sets a variable for the command",
                ),
                Word::new("keep", None, "Leaves disk and logs of the VM"),
            ],
        },
        Section {
            heading: "For password",
            words: &[Word::new(
                "verifier",
                None,
                "Prints a verifier, with which nobody can log in",
            )],
        },
        Section {
            heading: "For config, to change what is printed",
            words: &[
                Word::new("clear", Some(Arg::PARAM), "Leaves this parameter out"),
                Word::new("set", Some(Arg::SETTING), "Sets this parameter"),
                Word::new("rename", Some(Arg::VM), "Prints it under this name"),
            ],
        },
    ],
    modes: cli::words!(MODES),
    operand: None,
    notes: "A VM can be a pattern, such as 'web*', or a group, as @GROUP. Without names of\n\
            VMs, all configured VMs are used; boot, restart, ctrlaltdel and kill need names.",
    manual: include_str!("../../../man/umladmin.8"),
};

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

#[cfg(test)]
mod tests {
    use super::*;
    use cli::Request;

    fn usage(args: &[&str]) -> String {
        let Ok(Request::Run(line)) = PROGRAM.parse(args.iter().map(Into::into)) else {
            panic!("{args:?}")
        };
        let failure = run(line).unwrap_err();
        assert_eq!(failure.exit, Exit::Usage, "{args:?}: {failure}");
        failure.message
    }

    #[test]
    fn mistakes_change_nothing() {
        assert!(usage(&[]).contains("list, start, stop"));
        assert_eq!(
            usage(&["strat"]),
            "unknown mode 'strat'; did you mean start?"
        );
        assert_eq!(
            usage(&["-active", "stop"]),
            "-active cannot be used with stop"
        );
        assert_eq!(
            usage(&["-set", "mem=1", "list"]),
            "-set cannot be used with list"
        );
        assert_eq!(
            usage(&["-timeout", "-1", "stop"]),
            "-timeout \"-1\": not a number of seconds"
        );
        assert!(usage(&["password", "secret"]).contains("never from the command line"));
    }

    #[test]
    fn the_help_names_every_mode() {
        for mode in MODES {
            let line = format!("\n  {:11}  {}\n", mode.word.name, mode.word.help);
            assert!(PROGRAM.help().contains(&line), "{line}");
        }
    }

    #[test]
    fn the_headings_name_the_modes_of_their_options() {
        for section in PROGRAM.sections {
            let heading: Vec<&str> = section.heading.split([' ', ',']).collect();
            for word in section.words {
                for mode in MODES.iter().filter(|mode| mode.word.name != "start") {
                    assert_eq!(
                        heading.contains(&mode.word.name),
                        mode.options.contains(&word.name),
                        "-{} and {}",
                        word.name,
                        mode.word.name
                    );
                }
            }
        }
    }

    #[test]
    fn every_option_of_a_mode_is_a_word() {
        for name in MODES.iter().flat_map(|mode| mode.options) {
            assert!(PROGRAM.words().any(|word| word.name == *name), "-{name}");
        }
    }
}
