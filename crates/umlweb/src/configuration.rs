//! The configuration as far as the web interface needs it, read by a process of its own (umlweb, and that process).
//!
//! The file has the passwords of all VMs, and whoever reads it has them in his memory. So this program executes itself
//! once more, and that process tells what is no secret, and ends.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context as _, anyhow};
use config::{Config, Global, Overview};

/// The argument that tells this process from umlweb as users call it.
const ARGUMENT: &str = "--configuration";

/// The section `[GLOBAL]`, of which only the directories and what begins with `web_` has the values of the file.
///
/// # Errors
/// If the file cannot be used, and why.
pub fn read(path: &Path) -> anyhow::Result<Global> {
    let reader = Command::new("/proc/self/exe")
        .arg(ARGUMENT)
        .arg(path)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .context("cannot execute umlweb to read the configuration")?;
    let said: Result<String, String> = serde_json::from_slice(&reader.stdout)
        .context("the process that reads the configuration has not told it")?;
    let text = said.map_err(|why| anyhow!(why))?;
    Ok(Config::parse(&text, path)?.global)
}

/// Whether this process is the one that reads it.
pub fn is_reader() -> bool {
    std::env::args_os()
        .nth(1)
        .is_some_and(|arg| arg == ARGUMENT)
}

/// The main function of that process.
pub fn main() -> ExitCode {
    let path = PathBuf::from(std::env::args_os().nth(2).unwrap_or_default());
    let said = Overview::load(&path).map(|overview| told(&overview.global));
    let said = said.map_err(|error| error.to_string());
    match serde_json::to_writer(std::io::stdout(), &said) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// What is told, as lines of a configuration.
fn told(global: &Global) -> String {
    let mut text = String::from("[GLOBAL]\n");
    let mut line = |name: &str, value: &dyn std::fmt::Display| {
        // Writing to a text does not fail.
        let _ = writeln!(text, "{name} = {value}");
    };
    line("vardir", &global.vardir.display());
    line("rundir", &global.rundir.display());
    line("web_listen", &global.web_listen);
    line("web_user", &global.web_user);
    for name in &global.web_names {
        line("web_name", name);
    }
    for (name, path) in [
        ("web_certificate", &global.web_certificate),
        ("web_key", &global.web_key),
    ] {
        if let Some(path) = path {
            line(name, &path.display());
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_of_the_web_is_told_and_no_password() {
        let path = Path::new("umlmon");
        let text = "[GLOBAL]\nvardir = /v w\nrundir = /r\nweb_listen = [::1]:99\nweb_name = a.example\n\
                    web_name = ::2\nweb_user = nobody\nweb_certificate = /c\nweb_key = /k\n";
        let with_password = format!("{text}password = secret\n");
        let global = Overview::parse(&with_password, path).unwrap().global;
        assert!(global.password.is_some());
        let told = told(&global);
        assert!(!told.contains("password"), "{told}");
        let expected = Config::parse(text, path).unwrap().global;
        assert_eq!(Config::parse(&told, path).unwrap().global, expected);
    }
}
