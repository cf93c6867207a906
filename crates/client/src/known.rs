//! The certificates of other hosts, remembered from one use to the next. A line for each host: `HOST sha256:HEX`. At
//! the next use of the same host, another certificate is noticed: another machine may have answered. Runs in the
//! clients.

use std::fs::{DirBuilder, File};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use cli::{Exit, Failure};

/// The largest file that is read, in bytes; no user knows so many hosts.
const MAX: u64 = 1024 * 1024;

/// The file of the known hosts.
#[derive(Debug)]
pub(crate) struct KnownHosts {
    path: PathBuf,
}

impl KnownHosts {
    /// The user's own file.
    ///
    /// # Errors
    /// If the user has no home.
    pub(crate) fn of_user() -> Result<KnownHosts, Failure> {
        // The XDG base directories; a relative path there is not valid.
        let state = std::env::var_os("XDG_STATE_HOME").map(PathBuf::from);
        let state = state.filter(|path| path.is_absolute());
        let home = || Some(std::env::home_dir()?.join(".local/state"));
        let state = state.or_else(home).ok_or_else(|| {
            Failure::new(
                Exit::Failed,
                "certificates cannot be remembered, as there is no home directory; use -ca FILE",
            )
        })?;
        Ok(KnownHosts::new(state.join("umlwatch/known_hosts")))
    }

    fn new(path: PathBuf) -> KnownHosts {
        KnownHosts { path }
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The fingerprint that is remembered of a host.
    pub(crate) fn find(&self, host: &str) -> Result<Option<String>, Failure> {
        let text = match read(&self.path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(self.cannot("read", &error)),
            Ok(text) => text,
        };
        let entry = text.lines().find_map(|line| {
            let (name, fingerprint) = line.split_once(' ')?;
            (name == host).then(|| fingerprint.trim().to_owned())
        });
        Ok(entry)
    }

    /// Remembers the fingerprint of a host. Two processes may do so at the same time.
    pub(crate) fn add(&self, host: &str, fingerprint: &str) -> Result<(), Failure> {
        let directory = self.path.parent().unwrap_or(Path::new("/"));
        let add = || {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(directory)?;
            let mut options = File::options();
            options.append(true).create(true).mode(0o600);
            let mut file = options.open(&self.path)?;
            file.write_all(format!("{host} {fingerprint}\n").as_bytes())
        };
        add().map_err(|error| self.cannot("write", &error))
    }

    fn cannot(&self, what: &str, error: &io::Error) -> Failure {
        let path = self.path.display();
        Failure::new(Exit::Failed, format_args!("cannot {what} {path}: {error}"))
    }
}

fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(MAX).read_to_string(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn what_was_added_is_found_and_private() {
        let home = tempfile::tempdir().unwrap();
        let known = KnownHosts::new(home.path().join("state/umlwatch/known_hosts"));
        assert_eq!(known.find("a"), Ok(None));
        known.add("a", "sha256:01").unwrap();
        known.add("a.b", "sha256:02").unwrap();
        assert_eq!(known.find("a").unwrap().as_deref(), Some("sha256:01"));
        assert_eq!(known.find("a.b").unwrap().as_deref(), Some("sha256:02"));
        assert_eq!(known.find("b"), Ok(None));
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(known.path()), 0o600);
        assert_eq!(mode(known.path().parent().unwrap()), 0o700);
    }

    #[test]
    fn a_file_that_cannot_be_read_is_not_taken_for_none() {
        let home = tempfile::tempdir().unwrap();
        let known = KnownHosts::new(home.path().into());
        let failure = known.find("a").unwrap_err();
        assert!(failure.message.starts_with("cannot read "), "{failure}");
    }
}
