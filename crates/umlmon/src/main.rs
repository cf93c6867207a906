//! umlmon, the monitor daemon of one virtual machine: `umlmon [-fg] [-boot] [-config FILE] VM`.
//!
//! The same program does work that root should not do, in a process of its own: see `second/worker.rs`. The one that
//! supervises the kernel is umlkeep.

use std::process::ExitCode;

use cli::{Exit, Failure, Line};
use config::{Config, VmName};
use umlmon::PROGRAM;
use umlmon::daemon::Manner;

fn main() -> ExitCode {
    if umlmon::second::worker::is_worker() {
        return umlmon::second::worker::main();
    }
    match umlmon::upgrade::is_in_place() {
        true => cli::resume(&PROGRAM, run),
        false => cli::main(&PROGRAM, run),
    }
}

fn run(line: Line) -> Result<Exit, Failure> {
    if let Some(format) = line.value(umlmon::upgrade::CAN_ADOPT) {
        return Ok(match umlmon::upgrade::can_adopt(format) {
            true => Exit::Done,
            false => Exit::Failed,
        });
    }
    let name: VmName = line
        .one_operand(&PROGRAM, "VM")?
        .parse()
        .map_err(Failure::usage)?;
    let config = line.config_or(Config::DEFAULT_PATH);
    let manner = Manner {
        foreground: line.has("fg"),
        boot: line.has("boot"),
        in_place: line.has(umlmon::upgrade::IN_PLACE),
    };
    umlmon::daemon::run(&name, config, manner)
        .map_err(|error| Failure::from(error).about(&name))?;
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manual_has_every_option() {
        let page = include_str!("../../../man/umlmon.8");
        for word in PROGRAM.words() {
            assert!(
                page.contains(&format!("\n.It Fl {}", word.name)),
                "-{} is not in umlmon(8)",
                word.name
            );
        }
    }
}
