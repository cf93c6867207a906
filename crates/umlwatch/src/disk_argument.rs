//! The arguments of the commands for disks (umlwatch). The monitor checks names and sizes; this file only checks the
//! form.

use cli::{Arg, Failure, Given, Kind};
use rpc_xdr::umlmonctrl::{DiskAttachArgs, DiskBacking, DiskPair, DiskSize};

use crate::argument::Argument;

/// The disks that a VM can have, by their numbers.
const UBDS: [&str; 16] = [
    "ubd0", "ubd1", "ubd2", "ubd3", "ubd4", "ubd5", "ubd6", "ubd7", "ubd8", "ubd9", "ubd10",
    "ubd11", "ubd12", "ubd13", "ubd14", "ubd15",
];

/// The number of a disk of the VM.
#[derive(Debug, PartialEq)]
pub(crate) struct Ubd(pub(crate) u32);

impl Ubd {
    const KIND: Kind = Kind::Words(&UBDS);

    fn parse(given: &Given, text: &str) -> Result<Ubd, Failure> {
        let number = UBDS.iter().position(|ubd| *ubd == text);
        let number = number.and_then(|number| u32::try_from(number).ok());
        number
            .map(Ubd)
            .ok_or_else(|| malformed(given, text, "one of ubd0 to ubd15"))
    }
}

impl Argument for Ubd {
    const ARG: Option<Arg> = Some(Arg::new("ubdN", Ubd::KIND));

    fn read(given: &Given) -> Result<Ubd, Failure> {
        Ubd::parse(given, given.text()?)
    }
}

/// A disk that is to be attached: `ubdN:DISK` or `ubdN:DISK:ro`.
#[derive(Debug, PartialEq)]
pub(crate) struct Attached(pub(crate) DiskAttachArgs);

impl Argument for Attached {
    const ARG: Option<Arg> = Some(Arg::new(
        "ubdN:DISK[:ro]",
        Kind::Pair(&Ubd::KIND, &Kind::Disk),
    ));

    fn read(given: &Given) -> Result<Attached, Failure> {
        let text = given.text()?;
        let wrong = || malformed(given, text, "ubdN:DISK or ubdN:DISK:ro");
        let (ubd, rest) = text.split_once(':').ok_or_else(wrong)?;
        let Ubd(number) = Ubd::parse(given, ubd)?;
        let (disk, read_only) = match rest.split_once(':') {
            None => (rest, false),
            Some((disk, "ro")) => (disk, true),
            Some(_) => return Err(wrong()),
        };
        if disk.is_empty() {
            return Err(wrong());
        }
        Ok(Attached(DiskAttachArgs {
            number,
            disk: disk.into(),
            read_only,
        }))
    }
}

fn malformed(given: &Given, text: &str, form: &str) -> Failure {
    Failure::usage(format_args!("-{}: '{text}' is not {form}", given.name))
}

/// `NAME:NAME`. No name of a disk has a colon.
fn names(given: &Given) -> Result<(Vec<u8>, Vec<u8>), Failure> {
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

/// A disk, and what is made of it.
pub(crate) fn pair(given: &Given) -> Result<DiskPair, Failure> {
    let (source, destination) = names(given)?;
    Ok(DiskPair {
        source,
        destination,
    })
}

/// A copy-on-write image, and its backing file.
pub(crate) fn backed(given: &Given) -> Result<DiskBacking, Failure> {
    let (disk, backing) = names(given)?;
    Ok(DiskBacking { disk, backing })
}

/// `NAME:SIZE` or `NAME:SIZE:sparse`.
pub(crate) fn sized(given: &Given) -> Result<DiskSize, Failure> {
    let text = given.text()?;
    let wrong = || malformed(given, text, "NAME:SIZE or NAME:SIZE:sparse");
    let (name, rest) = text.split_once(':').ok_or_else(wrong)?;
    let (megabytes, sparse) = match rest.split_once(':') {
        None => (rest, false),
        Some((megabytes, "sparse")) => (megabytes, true),
        Some(_) => return Err(wrong()),
    };
    let megabytes = config::megabytes(megabytes)
        .map_err(|e| Failure::usage(format_args!("-{}: {e}", given.name)))?;
    Ok(DiskSize {
        disk: name.into(),
        megabytes,
        sparse,
    })
}

#[cfg(test)]
mod tests {
    use cli::Exit;

    use super::*;

    fn given(name: &'static str, value: &str) -> Given {
        let value = value.into();
        Given { name, value }
    }

    #[test]
    fn sizes() {
        let created = |megabytes, sparse| DiskSize {
            disk: b"/disks/a.dsk".to_vec(),
            megabytes,
            sparse,
        };
        let command = |value| sized(&given("disk-create", value));
        assert_eq!(command("/disks/a.dsk:64").unwrap(), created(64, false));
        assert_eq!(
            command("/disks/a.dsk:64:sparse").unwrap(),
            created(64, true)
        );
        let large = command("/disks/a.dsk:2G:sparse");
        assert_eq!(large.unwrap(), created(2048, true));
        for bad in [
            "",
            "/disks/a.dsk",
            "/disks/a.dsk:",
            "/disks/a.dsk:-1",
            "/disks/a.dsk:+1",
            "/disks/a.dsk:1e9",
            "/disks/a.dsk:1K",
            "/disks/a.dsk:64:dense",
            "/disks/a.dsk:64:sparse:",
            "/disks/a.dsk:99999999999999999999",
        ] {
            assert_eq!(command(bad).unwrap_err().exit, Exit::Usage, "{bad:?}");
        }
    }

    #[test]
    fn attached_disks() {
        let attached = |value| Attached::read(&given("disk-attach", value));
        for (value, number, read_only) in [
            ("ubd1:/disks/a.dsk", 1, false),
            ("ubd15:/disks/a.dsk:ro", 15, true),
        ] {
            let expected = DiskAttachArgs {
                number,
                disk: b"/disks/a.dsk".to_vec(),
                read_only,
            };
            assert_eq!(attached(value), Ok(Attached(expected)));
        }
        for bad in [
            "",
            "ubd1",
            "ubd1:",
            "ubd16:a.dsk",
            "ubd01:a.dsk",
            "1:a.dsk",
            ":a.dsk",
            "ubd1:a.dsk:rw",
            "ubd1:a.dsk:ro:ro",
            "ubd1::ro",
        ] {
            assert_eq!(attached(bad).unwrap_err().exit, Exit::Usage, "{bad:?}");
        }
        assert_eq!(Ubd::read(&given("disk-detach", "ubd3")), Ok(Ubd(3)));
        assert!(Ubd::read(&given("disk-detach", "ubd")).is_err());
    }

    #[test]
    fn pairs() {
        let copied = pair(&given("disk-copy", "/disks/a.dsk:/disks/b.dsk")).unwrap();
        let expected = DiskPair {
            source: b"/disks/a.dsk".to_vec(),
            destination: b"/disks/b.dsk".to_vec(),
        };
        assert_eq!(copied, expected);
        for bad in ["/disks/a.dsk", ":b", "a:", "a:b:c"] {
            let refused = pair(&given("disk-copy", bad)).unwrap_err();
            assert_eq!(refused.exit, Exit::Usage, "{bad:?}");
        }
    }
}
