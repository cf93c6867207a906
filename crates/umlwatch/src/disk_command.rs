//! The commands for disks: what their arguments mean. The monitor judges names and sizes; here only the form counts.

use cli::{Arg, Failure, Given, Kind};
use rpc_xdr::umlmonctrl::{
    DiskCommitArgs, DiskCopyArgs, DiskCreateArgs, DiskCreateCowArgs, DiskDeleteArgs,
    DiskImportArgs, DiskResizeArgs,
};

/// What an argument is called; completion goes by it.
pub(crate) const NEW_SIZED: Arg =
    Arg::new("NAME:MB[:sparse]", Kind::Pair(&Kind::NewDisk, &Kind::Value));
pub(crate) const SIZED: Arg = Arg::new("DISK:MB[:sparse]", Kind::Pair(&Kind::Disk, &Kind::Value));
pub(crate) const NEW_COW: Arg = Arg::new("NAME:BACKING", Kind::Pair(&Kind::NewDisk, &Kind::Disk));
pub(crate) const COW_AND_BACKING: Arg =
    Arg::new("COW:BACKING", Kind::Pair(&Kind::Disk, &Kind::Disk));
pub(crate) const DISK: Arg = Arg::new("DISK", Kind::Disk);
pub(crate) const DISK_AND_NEW: Arg = Arg::new("DISK:NAME", Kind::Pair(&Kind::Disk, &Kind::NewDisk));
pub(crate) const COW_AND_NEW: Arg = Arg::new("COW:NAME", Kind::Pair(&Kind::Disk, &Kind::NewDisk));

/// Work on a disk that makes sense.
#[derive(Debug, Clone, PartialEq)]
pub enum DiskCommand {
    /// `DISK_CREATE`
    Create(DiskCreateArgs),
    /// `DISK_CREATE_COW`
    CreateCow(DiskCreateCowArgs),
    /// `DISK_DELETE`
    Delete(DiskDeleteArgs),
    /// `DISK_COPY`
    Copy(DiskCopyArgs),
    /// `DISK_RESIZE`
    Resize(DiskResizeArgs),
    /// `DISK_IMPORT`
    Import(DiskImportArgs),
    /// `DISK_COMMIT`
    Commit(DiskCommitArgs),
}

impl DiskCommand {
    /// The command of a given word; None if the word is another command.
    pub(crate) fn of(given: &Given) -> Result<Option<DiskCommand>, Failure> {
        let pair = || pair(given);
        Ok(Some(match given.name {
            "disk-create" => {
                let (disk, megabytes, sparse) = sized(given)?;
                DiskCommand::Create(DiskCreateArgs {
                    disk,
                    megabytes,
                    sparse,
                })
            }
            "disk-create-cow" => {
                let (disk, backing) = pair()?;
                DiskCommand::CreateCow(DiskCreateCowArgs { disk, backing })
            }
            "disk-delete" => {
                let disk = given.text()?.as_bytes().to_vec();
                DiskCommand::Delete(DiskDeleteArgs { disk })
            }
            "disk-copy" => {
                let (source, destination) = pair()?;
                DiskCommand::Copy(DiskCopyArgs {
                    source,
                    destination,
                })
            }
            "disk-resize" => {
                let (disk, megabytes, sparse) = sized(given)?;
                DiskCommand::Resize(DiskResizeArgs {
                    disk,
                    megabytes,
                    sparse,
                })
            }
            "disk-import" => {
                let (disk, backing) = pair()?;
                DiskCommand::Import(DiskImportArgs { disk, backing })
            }
            "disk-commit" => {
                let (source, destination) = pair()?;
                DiskCommand::Commit(DiskCommitArgs {
                    source,
                    destination,
                })
            }
            _ => return Ok(None),
        }))
    }

    /// What could not be done, for a sentence that begins with "cannot".
    pub(crate) fn verb(&self) -> &'static str {
        // Which disk is meant, the monitor says.
        match self {
            DiskCommand::Create(_) | DiskCommand::CreateCow(_) => "create a disk",
            DiskCommand::Delete(_) => "delete a disk",
            DiskCommand::Copy(_) => "copy a disk",
            DiskCommand::Resize(_) => "resize a disk",
            DiskCommand::Import(_) => "import a disk",
            DiskCommand::Commit(_) => "commit a disk",
        }
    }
}

fn malformed(given: &Given, text: &str, form: &str) -> Failure {
    Failure::usage(format_args!("-{}: '{text}' is not {form}", given.name))
}

/// `NAME:NAME`. No name of a disk has a colon.
fn pair(given: &Given) -> Result<(Vec<u8>, Vec<u8>), Failure> {
    let text = given.text()?;
    match text.split_once(':') {
        Some((one, other)) if !one.is_empty() && !other.is_empty() && !other.contains(':') => {
            Ok((one.into(), other.into()))
        }
        _ => Err(malformed(
            given,
            text,
            "two names of disks with a colon between them",
        )),
    }
}

/// `NAME:MB` or `NAME:MB:sparse`.
fn sized(given: &Given) -> Result<(Vec<u8>, u64, bool), Failure> {
    let text = given.text()?;
    let wrong = || malformed(given, text, "NAME:MB or NAME:MB:sparse");
    let (name, rest) = text.split_once(':').ok_or_else(wrong)?;
    let (megabytes, sparse) = match rest.split_once(':') {
        None => (rest, false),
        Some((megabytes, "sparse")) => (megabytes, true),
        Some(_) => return Err(wrong()),
    };
    // A number parses with a plus before it, too.
    let digits = megabytes.bytes().all(|digit| digit.is_ascii_digit());
    let megabytes = megabytes.parse().ok().filter(|_| digits).ok_or_else(|| {
        Failure::usage(format_args!(
            "-{}: '{megabytes}' is not a number of megabytes",
            given.name
        ))
    })?;
    Ok((name.into(), megabytes, sparse))
}

#[cfg(test)]
mod tests {
    use cli::Exit;

    use super::*;

    fn command(name: &'static str, value: &str) -> Result<Option<DiskCommand>, Failure> {
        let value = value.into();
        DiskCommand::of(&Given { name, value })
    }

    #[test]
    fn sizes() {
        let created = |megabytes, sparse| {
            Some(DiskCommand::Create(DiskCreateArgs {
                disk: b"/disks/a.dsk".to_vec(),
                megabytes,
                sparse,
            }))
        };
        let command = |value| command("disk-create", value);
        assert_eq!(command("/disks/a.dsk:64").unwrap(), created(64, false));
        assert_eq!(
            command("/disks/a.dsk:64:sparse").unwrap(),
            created(64, true)
        );
        for bad in [
            "",
            "/disks/a.dsk",
            "/disks/a.dsk:",
            "/disks/a.dsk:-1",
            "/disks/a.dsk:+1",
            "/disks/a.dsk:1e9",
            "/disks/a.dsk:64:dense",
            "/disks/a.dsk:64:sparse:",
            "/disks/a.dsk:99999999999999999999",
        ] {
            assert_eq!(command(bad).unwrap_err().exit, Exit::Usage, "{bad:?}");
        }
    }

    #[test]
    fn pairs() {
        let copied = command("disk-copy", "/disks/a.dsk:/disks/b.dsk").unwrap();
        let expected = DiskCommand::Copy(DiskCopyArgs {
            source: b"/disks/a.dsk".to_vec(),
            destination: b"/disks/b.dsk".to_vec(),
        });
        assert_eq!(copied, Some(expected));
        for bad in ["/disks/a.dsk", ":b", "a:", "a:b:c"] {
            let refused = command("disk-copy", bad).unwrap_err();
            assert_eq!(refused.exit, Exit::Usage, "{bad:?}");
        }
    }
}
