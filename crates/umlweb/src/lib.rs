//! The web interface: users reach their VMs with a browser (umlweb). `daemon.rs` is the recipe; read on from there.
//!
//! [`http`] and [`websocket`] read what browsers, and anybody else, send.

mod api;
mod assets;
mod configuration;
mod console;
mod crowd;
mod daemon;
pub mod http;
mod info;
mod live;
mod monitors;
mod options;
mod serve;
mod sessions;
mod settings;
mod sizes;
mod stream;
mod tls;
mod walls;
mod web;
pub mod websocket;

use std::process::ExitCode;

use cli::{Exit, Failure, Line};
use config::Config;

pub use options::PROGRAM;

/// The program, and the process that reads the configuration for it.
#[must_use]
pub fn main() -> ExitCode {
    if configuration::is_reader() {
        return configuration::main();
    }
    cli::main(&PROGRAM, run)
}

fn run(line: Line) -> Result<Exit, Failure> {
    line.no_operand("one umlweb serves all VMs")?;
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
