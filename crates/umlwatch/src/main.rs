//! umlwatch, run by the users of a VM.

use std::process::ExitCode;

use cli::{Exit, Failure, Line};
use client::{Client, Options, guard};
use umlwatch::command::{PROGRAM, Task};
use umlwatch::{Runner, Style, interact};

fn main() -> ExitCode {
    if guard::is_guard() {
        // On failure the terminal stays as it is; no reader is left for a message.
        return guard::main().map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS);
    }
    cli::main(&PROGRAM, run)
}

fn run(line: Line) -> Result<Exit, Failure> {
    let tasks = line.words.iter().filter_map(|w| Task::of(w).transpose());
    let tasks: Vec<Task> = tasks.collect::<Result<_, _>>()?;
    let options = Options::of(&line)?;
    let client = Client::new(
        line.one_operand(&PROGRAM, "VM")?,
        line.config.as_deref(),
        options,
    )?;
    let mut runner = Runner::new(client, Style::of(&line)?);
    if tasks.is_empty() {
        return interact(&mut runner);
    }
    for task in tasks {
        task.run(&mut runner)?;
    }
    Ok(Exit::Done)
}
