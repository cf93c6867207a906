//! umlwatch, run by the users of a VM.

use std::process::ExitCode;

use cli::{Exit, Failure, Line};
use client::{Client, Options};
use umlwatch::command::{Command, PROGRAM};
use umlwatch::keys::Escape;
use umlwatch::{Runner, Style, guard, interact, is_guard};

fn main() -> ExitCode {
    if is_guard() {
        // The terminal is as it was then; whoever could be told has gone.
        return guard().map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS);
    }
    cli::main(&PROGRAM, run)
}

fn run(line: Line) -> Result<Exit, Failure> {
    let commands = line
        .words
        .iter()
        .filter_map(|word| Command::of(word).transpose());
    let commands: Vec<Command> = commands.collect::<Result<_, _>>()?;
    let options = Options::of(&line)?;
    let client = Client::new(
        line.one_operand(&PROGRAM, "VM")?,
        line.config.as_deref(),
        options,
    )?;
    let style = Style {
        json: line.has("json"),
        raw: line.has("raw"),
        follow: line.has("follow"),
        escape: match line.value("escape") {
            Some(key) => Escape::parse(&key.to_string_lossy())?,
            None => Escape::default(),
        },
    };
    let mut runner = Runner::new(client, style);
    if commands.is_empty() {
        return interact(&mut runner);
    }
    for command in &commands {
        runner.run(command)?;
    }
    Ok(Exit::Done)
}
