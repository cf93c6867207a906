//! umlmon, the monitor daemon of one virtual machine: `umlmon [-fg] [-config FILE] VM`.
//!
//! The same program is also the second process, which stops being root and keeps the kernel: see `child.rs`.

use std::process::ExitCode;

use cli::{Exit, Failure, Line, Program, Section, Word};
use config::{Config, VmName};

const PROGRAM: Program = Program {
    name: "umlmon",
    about: "Monitor daemon of one virtual machine",
    synopsis: &["[OPTIONS] VM"],
    sections: &[Section {
        heading: "Options",
        words: &[Word {
            name: "fg",
            arg: None,
            help: "Stays in the foreground and logs to the terminal",
        }],
    }],
    notes: "The VM's kernel is not started; umlwatch VM -start does that.",
};

fn main() -> ExitCode {
    if umlmon::child::is_child() {
        return umlmon::child::main();
    }
    cli::main(&PROGRAM, run)
}

fn run(line: Line) -> Result<Exit, Failure> {
    let name: VmName = line.one_operand("VM")?.parse().map_err(Failure::usage)?;
    let config = line.config_or(Config::DEFAULT_PATH);
    umlmon::daemon::run(&name, config, line.has("fg"))
        .map_err(|error| Failure::new(Exit::Failed, format!("{error:#}")).about(&name))?;
    Ok(Exit::Done)
}
