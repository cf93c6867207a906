//! umldir, the directory service: `umldir [-fg] [-config FILE]`. It knows which monitors run, and redirects clients of
//! other hosts to them. `daemon.rs` is the recipe; read on from there.

use std::process::ExitCode;

use cli::{Exit, Failure, Line};
use config::Config;
use umldir::PROGRAM;

mod daemon;
mod directory;
mod end;
mod pipe;
mod redirect;
mod relay;
mod service;
mod sparing;
mod tcp;

fn main() -> ExitCode {
    cli::main(&PROGRAM, run)
}

fn run(line: Line) -> Result<Exit, Failure> {
    line.no_operand("one umldir serves all VMs")?;
    daemon::run(line.config_or(Config::DEFAULT_PATH), line.has("fg"))?;
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manual_has_every_option() {
        let page = include_str!("../../../man/umldir.8");
        for word in PROGRAM.words() {
            assert!(
                page.contains(&format!("\n.It Fl {}", word.name)),
                "-{} is not in umldir(8)",
                word.name
            );
        }
    }
}
