//! Becomes the program of a container (umlguest, inside a container).

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs::DirBuilder;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, anyhow, ensure};
use guest_line::{Command as Wanted, Rights};
use rustix::fs::{Access, access};

use super::rights;
use crate::users::User;

/// Where programs are if the environment does not say it.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Takes the rights, enters the directory, and executes the program; returns only if that cannot be.
pub(super) fn execute(wanted: &Wanted, rights: &Rights) -> anyhow::Result<()> {
    let [name, arguments @ ..] = &wanted.words[..] else {
        anyhow::bail!("no program is given");
    };
    let directory = Path::new(OsStr::from_bytes(directory_of(wanted)));
    let cannot = || format!("cannot enter {}", directory.display());
    // It may be one that only root may enter, or only the user.
    let made = DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(directory);
    let entered = made.and_then(|()| env::set_current_dir(directory));
    let home = home_of(rights.uid);
    rights::take(rights)?;
    if let Err(error) = entered {
        let again = env::set_current_dir(directory);
        again.map_err(|_| error).with_context(cannot)?;
    }
    // A link in /proc can lead to a directory of the guest.
    let here = env::current_dir();
    ensure!(here.is_ok_and(|here| here.is_absolute()), cannot());
    rights::end(rights)?;
    let variables = variables(&wanted.environment);
    let path = variables.iter().rev().find(|(name, _)| name == "PATH");
    let path = path.map_or(OsStr::new(PATH), |(_, path)| path);
    let name = OsStr::from_bytes(name);
    let program = find(name, path)?;
    let mut command = Command::new(&program);
    command.arg0(name).env_clear();
    if variables.iter().all(|(name, _)| name != "HOME") {
        command.env("HOME", home);
    }
    command.envs(variables.iter().map(|(name, value)| (name, value)));
    let error = command
        .args(arguments.iter().map(|it| OsStr::from_bytes(it)))
        .exec();
    Err(refusal(name, &error))
}

/// Where a program runs.
pub(super) fn directory_of(wanted: &Wanted) -> &[u8] {
    wanted.directory.as_deref().unwrap_or(b"/")
}

/// What the container says of its user.
fn home_of(uid: u32) -> PathBuf {
    let user = User::find(&uid.to_string());
    user.map_or_else(|_| "/".into(), |user| user.home)
}

fn variables(environment: &[Vec<u8>]) -> Vec<(OsString, OsString)> {
    let pair = |variable: &Vec<u8>| {
        let equals = variable.iter().position(|byte| *byte == b'=')?;
        let (name, value) = variable.split_at_checked(equals)?;
        let os = |bytes: &[u8]| OsStr::from_bytes(bytes).to_owned();
        Some((os(name), os(value.get(1..)?)))
    };
    environment.iter().filter_map(pair).collect()
}

/// Searches for a program as a shell does. The words of an error are those that clients of other container runtimes
/// know.
fn find(name: &OsStr, path: &OsStr) -> anyhow::Result<PathBuf> {
    if name.as_bytes().contains(&b'/') {
        return Ok(name.into());
    }
    let mut denied = None;
    for directory in env::split_paths(path) {
        let program = Path::new(".").join(directory).join(name);
        if !program.is_file() {
            continue;
        }
        match access(&program, Access::EXEC_OK) {
            Ok(()) => return Ok(program),
            Err(error) => denied = Some(error),
        }
    }
    Err(match denied {
        Some(error) => refusal(name, &error.into()),
        None => {
            let shown = name.to_string_lossy();
            anyhow!("exec: \"{shown}\": executable file not found in $PATH")
        }
    })
}

fn refusal(name: &OsStr, error: &io::Error) -> anyhow::Error {
    let shown = name.to_string_lossy();
    let why = match error.kind() {
        io::ErrorKind::NotFound => "no such file or directory".into(),
        io::ErrorKind::PermissionDenied => "permission denied".into(),
        _ => error.to_string(),
    };
    anyhow!("exec: \"{shown}\": {why}")
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_program_is_searched_for_as_a_shell_does() {
        let there = tempfile::tempdir().unwrap();
        let directories = ["a", "b"].map(|name| there.path().join(name));
        for directory in &directories {
            fs::create_dir(directory).unwrap();
            fs::write(directory.join("program"), "").unwrap();
        }
        let path = env::join_paths(&directories).unwrap();
        let made = directories[1].join("program");
        fs::set_permissions(&made, fs::Permissions::from_mode(0o755)).unwrap();
        let find = |name: &str| find(name.as_ref(), &path).map_err(|error| error.to_string());
        assert_eq!(find("program"), Ok(made));
        assert_eq!(find("./x"), Ok("./x".into()));
        let none = "exec: \"x\": executable file not found in $PATH";
        assert_eq!(find("x"), Err(none.into()));
    }

    #[test]
    fn a_variable_has_a_name_and_a_value() {
        let given = ["A=b=c", "odd", "B="].map(|it| it.as_bytes().to_vec());
        let expected = [("A", "b=c"), ("B", "")].map(|(name, value)| (name.into(), value.into()));
        assert_eq!(variables(&given), expected);
    }
}
