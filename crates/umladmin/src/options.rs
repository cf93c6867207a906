//! The command line of umladmin: the modes of operation, the table of options, and which belong together (umladmin).

use std::path::Path;
use std::time::Duration;

use cli::{Exit, Failure, Line, Program, Section, Word, similar};
use config::{Config, Overview};

use crate::report::Report;
use crate::{
    check, effective, elsewhere, events, kernelcheck, list, password, selection, start, stop,
    update,
};

/// What umladmin is asked to do: the first word that is not an option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)] // each is the keyword in MODES, which says what it does
pub enum Mode {
    List,
    Start,
    Stop,
    Update,
    Password,
    Config,
    Events,
    Check,
    KernelCheck,
}

/// The keywords, and what they do in one line.
pub const MODES: &[(&str, Mode, &str)] = &[
    (
        "list",
        Mode::List,
        "Shows the VMs and what state they are in",
    ),
    (
        "start",
        Mode::Start,
        "Starts monitors, and boots the VMs with start = boot",
    ),
    ("stop", Mode::Stop, "Shuts VMs down and ends their monitors"),
    (
        "update",
        Mode::Update,
        "Starts what is new in the configuration, stops what is gone",
    ),
    (
        "events",
        Mode::Events,
        "Shows what happens to VMs as it happens, until CTRL-C",
    ),
    (
        "check",
        Mode::Check,
        "Tells all that is wrong with a configuration and the host",
    ),
    (
        "kernelcheck",
        Mode::KernelCheck,
        "Boots a tiny guest under a kernel, and tells what works",
    ),
    (
        "password",
        Mode::Password,
        "Reads a password, prints its MD5 sum",
    ),
    (
        "config",
        Mode::Config,
        "Prints the configuration of one VM with the user's changes",
    ),
];

const fn word(name: &'static str, arg: Option<&'static str>, help: &'static str) -> Word {
    Word { name, arg, help }
}

/// The command line of umladmin.
pub const PROGRAM: Program = Program {
    name: "umladmin",
    about: "The administrators' client of UMLMON",
    synopsis: &[
        "[OPTION]... list|start|stop|update|events [VM]...",
        "[-json] list @HOST",
        "[OPTION]... config VM",
        "[OPTION]... check [FILE]",
        "[OPTION]... kernelcheck FILE",
        "password",
    ],
    sections: &[
        Section {
            heading: "For list",
            words: &[
                word("active", None, "Only VMs with a running kernel"),
                word(
                    "inactive",
                    None,
                    "Only VMs with a monitor but no running kernel",
                ),
                word("off", None, "Only VMs without a monitor"),
            ],
        },
        Section {
            heading: "For list, events, check and kernelcheck",
            words: &[word("json", None, "Prints JSON")],
        },
        Section {
            heading: "For stop and update",
            words: &[word(
                "timeout",
                Some("N"),
                "Gives a guest N seconds to shut down (300)",
            )],
        },
        Section {
            heading: "For config, which only change what is printed",
            words: &[
                word("clear", Some("PARAM"), "Leaves this parameter out"),
                word("set", Some("PARAM=VALUE"), "Sets this parameter"),
                word("rename", Some("VM"), "Prints it under this name"),
            ],
        },
    ],
    notes: "Modes:\n  \
        list         Shows the VMs and what state they are in\n  \
        start        Starts monitors, and boots the VMs with start = boot\n  \
        stop         Shuts VMs down and ends their monitors\n  \
        update       Starts what is new in the configuration, stops what is gone\n  \
        events       Shows what happens to VMs as it happens, until CTRL-C\n  \
        check        Tells all that is wrong with a configuration and the host\n  \
        kernelcheck  Boots a tiny guest under a kernel, and tells what works\n  \
        password     Reads a password, prints its MD5 sum\n  \
        config       Prints the configuration of one VM with the user's changes\n\n\
        Without names of VMs, all that are configured are meant.",
};

/// Does what the command line says.
pub fn run(line: Line) -> Result<Exit, Failure> {
    let operands = line.text_operands()?;
    let Some((keyword, names)) = operands.split_first() else {
        let keywords: Vec<&str> = MODES.iter().map(|(keyword, ..)| *keyword).collect();
        return Err(Failure::usage(format_args!(
            "what shall be done? Say one of {}",
            keywords.join(", ")
        )));
    };
    let mode = mode(keyword)?;
    check_words(&line, keyword, mode)?;
    let timeout = timeout(&line)?;
    if mode == Mode::Password {
        return match names {
            [] => password::run(),
            _ => Err(Failure::usage(
                "password takes no names; a password is read from stdin, never from the command line",
            )),
        };
    }
    if mode == Mode::Check {
        let file = match names {
            [] => line.config_or(Config::DEFAULT_PATH),
            [file] => Path::new(file),
            _ => return Err(Failure::usage("check takes the name of one file")),
        };
        return check::run(file, line.has("json"));
    }
    if mode == Mode::KernelCheck {
        let &[file] = names else {
            return Err(Failure::usage("kernelcheck takes the name of one file"));
        };
        return kernelcheck::run(Path::new(file), line.has("json"));
    }
    let config = configuration(line.config_or(Config::DEFAULT_PATH), mode)?;
    match mode {
        Mode::List => match elsewhere::host(names)? {
            Some(host) => elsewhere::run(&config, &host, &line),
            // `@localhost` is this host.
            None if names == ["@localhost"] => list::run(&config, &[], &line),
            None => list::run(&config, names, &line),
        },
        Mode::Start => start::run(&config, names),
        Mode::Stop => stop::run(&config, names, timeout),
        Mode::Update => update::run(&config, names, timeout),
        Mode::Events => events::run(&config, names, line.has("json")),
        _ => effective::run(&config, names, &line),
    }
}

/// The configuration. What runs can be brought down even if there are faults in the sections of VMs, which are only told
/// then: a host that is shut down would kill the guests otherwise.
fn configuration(path: &Path, mode: Mode) -> Result<Config, Failure> {
    let error = match Config::load(path) {
        Ok(config) => return Ok(config),
        Err(error) => error,
    };
    match Overview::load(path) {
        Ok(overview) if mode == Mode::Stop => {
            Report::new().warn(&error.to_string());
            Ok(overview.names_only(path))
        }
        _ => Err(selection::bad_config(error)),
    }
}

fn mode(keyword: &str) -> Result<Mode, Failure> {
    if let Some((_, mode, _)) = MODES.iter().find(|(known, ..)| *known == keyword) {
        return Ok(*mode);
    }
    let hint = similar(keyword, MODES.iter().map(|(known, ..)| *known))
        .map_or(String::new(), |known| format!("; did you mean {known}?"));
    Err(Failure::usage(format_args!(
        "'{keyword}' is none of the modes{hint}"
    )))
}

/// An option that would be ignored is a mistake: `umladmin -active stop` shall not stop everything.
fn check_words(line: &Line, keyword: &str, mode: Mode) -> Result<(), Failure> {
    let belongs = |name: &str| match name {
        "active" | "inactive" | "off" => mode == Mode::List,
        "json" => matches!(
            mode,
            Mode::List | Mode::Events | Mode::Check | Mode::KernelCheck
        ),
        "clear" | "set" | "rename" => mode == Mode::Config,
        // Without effect for start, so that one list of options can serve start and stop.
        _ => matches!(mode, Mode::Start | Mode::Stop | Mode::Update),
    };
    match line.words.iter().find(|word| !belongs(word.name)) {
        Some(word) => Err(Failure::usage(format_args!(
            "-{} cannot be used with {keyword}",
            word.name
        ))),
        None => Ok(()),
    }
}

/// How long a guest gets to shut down; 300 seconds unless `-timeout` says otherwise.
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
            "'strat' is none of the modes; did you mean start?"
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
        for (keyword, _, help) in MODES {
            let line = format!("\n  {keyword:11}  {help}");
            assert!(PROGRAM.notes.contains(&line), "{line}");
        }
    }
}
