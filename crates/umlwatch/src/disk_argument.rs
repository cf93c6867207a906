//! The arguments of the commands for disks (umlwatch). The monitor checks names and sizes; this file only checks the
//! form.

use cli::{Failure, Given};
use rpc_xdr::umlmonctrl::{DiskBacking, DiskPair, DiskSize};

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
