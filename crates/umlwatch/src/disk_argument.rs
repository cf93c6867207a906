//! What the arguments of the commands for disks mean (umlwatch). The monitor judges names and sizes; here only the form
//! counts.

use cli::{Arg, Failure, Given, Kind};
use rpc_xdr::umlmonctrl::{
    DiskCommitArgs, DiskCopyArgs, DiskCreateArgs, DiskCreateCowArgs, DiskDeleteArgs,
    DiskImportArgs, DiskResizeArgs,
};

use crate::argument::Argument;

impl Argument for DiskCreateArgs {
    const ARG: Option<Arg> = Some(Arg::new(
        "NAME:MB[:sparse]",
        Kind::Pair(&Kind::NewDisk, &Kind::Value),
    ));

    fn read(given: &Given) -> Result<DiskCreateArgs, Failure> {
        let (disk, megabytes, sparse) = sized(given)?;
        Ok(DiskCreateArgs {
            disk,
            megabytes,
            sparse,
        })
    }
}

impl Argument for DiskCreateCowArgs {
    const ARG: Option<Arg> = Some(Arg::new(
        "NAME:BACKING",
        Kind::Pair(&Kind::NewDisk, &Kind::Disk),
    ));

    fn read(given: &Given) -> Result<DiskCreateCowArgs, Failure> {
        let (disk, backing) = pair(given)?;
        Ok(DiskCreateCowArgs { disk, backing })
    }
}

impl Argument for DiskDeleteArgs {
    const ARG: Option<Arg> = Some(Arg::new("DISK", Kind::Disk));

    fn read(given: &Given) -> Result<DiskDeleteArgs, Failure> {
        let disk = given.text()?.as_bytes().to_vec();
        Ok(DiskDeleteArgs { disk })
    }
}

impl Argument for DiskCopyArgs {
    const ARG: Option<Arg> = Some(Arg::new(
        "DISK:NAME",
        Kind::Pair(&Kind::Disk, &Kind::NewDisk),
    ));

    fn read(given: &Given) -> Result<DiskCopyArgs, Failure> {
        let (source, destination) = pair(given)?;
        Ok(DiskCopyArgs {
            source,
            destination,
        })
    }
}

impl Argument for DiskResizeArgs {
    const ARG: Option<Arg> = Some(Arg::new(
        "DISK:MB[:sparse]",
        Kind::Pair(&Kind::Disk, &Kind::Value),
    ));

    fn read(given: &Given) -> Result<DiskResizeArgs, Failure> {
        let (disk, megabytes, sparse) = sized(given)?;
        Ok(DiskResizeArgs {
            disk,
            megabytes,
            sparse,
        })
    }
}

impl Argument for DiskImportArgs {
    const ARG: Option<Arg> = Some(Arg::new(
        "COW:BACKING",
        Kind::Pair(&Kind::Disk, &Kind::Disk),
    ));

    fn read(given: &Given) -> Result<DiskImportArgs, Failure> {
        let (disk, backing) = pair(given)?;
        Ok(DiskImportArgs { disk, backing })
    }
}

impl Argument for DiskCommitArgs {
    const ARG: Option<Arg> = Some(Arg::new(
        "COW:NAME",
        Kind::Pair(&Kind::Disk, &Kind::NewDisk),
    ));

    fn read(given: &Given) -> Result<DiskCommitArgs, Failure> {
        let (source, destination) = pair(given)?;
        Ok(DiskCommitArgs {
            source,
            destination,
        })
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

    fn read<T: Argument>(name: &'static str, value: &str) -> Result<T, Failure> {
        let value = value.into();
        T::read(&Given { name, value })
    }

    #[test]
    fn sizes() {
        let created = |megabytes, sparse| DiskCreateArgs {
            disk: b"/disks/a.dsk".to_vec(),
            megabytes,
            sparse,
        };
        let command = |value| read::<DiskCreateArgs>("disk-create", value);
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
        let copied: DiskCopyArgs = read("disk-copy", "/disks/a.dsk:/disks/b.dsk").unwrap();
        let expected = DiskCopyArgs {
            source: b"/disks/a.dsk".to_vec(),
            destination: b"/disks/b.dsk".to_vec(),
        };
        assert_eq!(copied, expected);
        for bad in ["/disks/a.dsk", ":b", "a:", "a:b:c"] {
            let refused = read::<DiskCopyArgs>("disk-copy", bad).unwrap_err();
            assert_eq!(refused.exit, Exit::Usage, "{bad:?}");
        }
    }
}
