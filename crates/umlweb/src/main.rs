//! umlweb, the web interface: `umlweb [-fg] [-config FILE]`. Users reach their VMs with a browser. `daemon.rs` is the
//! recipe; read on from there.

use std::process::ExitCode;

use cli::{Exit, Failure, Line};
use config::Config;
use umlweb::PROGRAM;

mod api;
mod assets;
mod console;
mod crowd;
mod daemon;
mod http;
mod info;
mod live;
mod monitors;
mod serve;
mod sessions;
mod settings;
mod stream;
mod tls;
mod walls;
mod web;
mod websocket;

fn main() -> ExitCode {
    cli::main(&PROGRAM, run)
}

fn run(line: Line) -> Result<Exit, Failure> {
    if let Some(operand) = line.text_operands()?.first() {
        return Err(Failure::usage(format_args!(
            "unexpected '{operand}': one umlweb serves all VMs"
        )));
    }
    daemon::run(line.config_or(Config::DEFAULT_PATH), line.has("fg"))?;
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manual_has_every_option() {
        let page = include_str!("../../../man/umlweb.8");
        for word in PROGRAM.words() {
            assert!(
                page.contains(&format!("\n.It Fl {}", word.name)),
                "-{} is not in umlweb(8)",
                word.name
            );
        }
    }
}
