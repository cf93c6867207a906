//! Directories of the host that a guest can use: the parameter shareN. Used by umlmon and umladmin.

use std::path::PathBuf;
use std::str::FromStr;

use crate::error::{Error, Result};
use crate::values::absolute_path;

/// The highest number of a share.
pub const MAX_SHARE: u8 = 15;
/// The longest path in the guest, in bytes: the kernel takes 4096 for all of its arguments.
const MAX_PATH: usize = 200;

/// A directory of the host for a guest: `DIRECTORY[:PATH][:ro]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Share {
    /// The directory, an absolute path of the host.
    pub directory: PathBuf,
    /// Where it appears in a guest that has the helper, an absolute path.
    pub path: PathBuf,
    /// The guest cannot change anything in it.
    pub read_only: bool,
}

impl FromStr for Share {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        let refuse = |why: &str| Err(Error::value("a shared directory", text, why));
        let (rest, read_only) = match text.strip_suffix(":ro") {
            Some(rest) => (rest, true),
            None => (text, false),
        };
        let (directory, path) = rest.split_once(':').unwrap_or((rest, rest));
        if path.contains(':') {
            return refuse("it must be DIRECTORY, DIRECTORY:PATH, or one of these and :ro");
        }
        if path.len() > MAX_PATH {
            return refuse("the path in the guest is longer than 200 bytes");
        }
        let (directory, path) = (absolute_path(directory)?, absolute_path(path)?);
        Ok(Share {
            directory,
            path,
            read_only,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_appears_where_it_is_or_elsewhere() {
        let read = |text: &str| {
            let share: Share = text.parse().unwrap();
            let shown = |path: PathBuf| path.display().to_string();
            (shown(share.directory), shown(share.path), share.read_only)
        };
        let is = |directory: &str, path: &str, ro| (directory.to_owned(), path.to_owned(), ro);
        assert_eq!(read("/srv/job"), is("/srv/job", "/srv/job", false));
        assert_eq!(read("/srv/job:ro"), is("/srv/job", "/srv/job", true));
        assert_eq!(read("/srv/a b:/src"), is("/srv/a b", "/src", false));
        assert_eq!(read("/srv/job:/src:ro"), is("/srv/job", "/src", true));
        for bad in [
            "", "job", "/", "/srv:src", "/srv:/", "/a:/b:/c", "/a/../b", "/a:rw", ":ro", "/a:/b:rw",
        ] {
            assert!(bad.parse::<Share>().is_err(), "{bad}");
        }
        assert!(format!("/a:/{}", "x".repeat(200)).parse::<Share>().is_err());
    }
}
