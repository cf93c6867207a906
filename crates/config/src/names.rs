//! Names whose form was checked when they were made: of VMs, channels, disks, log files, interfaces, files in the jail.
//! Used by every program. All of them are safe as a file name or path component, and in messages.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// True if the text has 1..=max characters, the first one passes `first`, the others are alphanumeric or in `rest`.
pub(crate) fn is_word(text: &str, max: usize, first: &str, rest: &str) -> bool {
    let of = |c: char, more: &str| c.is_ascii_alphanumeric() || more.contains(c);
    text.len() <= max && text.starts_with(|c| of(c, first)) && text.chars().all(|c| of(c, rest))
}

/// Makes a type of checked text with the usual conversions. It is serialized as a string, and checked again when it is
/// read.
macro_rules! checked_text {
    ($(#[$doc:meta])* $name:ident, $check:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The checked text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = Error;
            fn from_str(text: &str) -> Result<Self> {
                $check(text)?;
                Ok($name(text.to_owned()))
            }
        }

        impl TryFrom<&str> for $name {
            type Error = Error;
            fn try_from(text: &str) -> Result<Self> {
                text.parse()
            }
        }

        impl TryFrom<String> for $name {
            type Error = Error;
            fn try_from(text: String) -> Result<Self> {
                $check(&text)?;
                Ok($name(text))
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
    };
}

/// A value is kept by serde as its text, which is what `try_from = "String", into = "String"` need.
macro_rules! as_text {
    ($name:ident) => {
        impl TryFrom<String> for $name {
            type Error = $crate::Error;
            fn try_from(text: String) -> $crate::Result<Self> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> String {
                value.to_string()
            }
        }
    };
}

pub(crate) use as_text;

checked_text! {
    /// The name of a virtual machine: `[A-Za-z0-9][A-Za-z0-9._-]{0,62}`. Not `shared` and `directory`, which are
    /// directories beside those of the VMs, and not `GLOBAL`, in any case.
    VmName, check_vm_name
}

checked_text! {
    /// The file name of a log, without a directory: `[A-Za-z0-9_][A-Za-z0-9._+-]{0,63}`.
    LogName, check_log_name
}

checked_text! {
    /// A virtual disk as the VM sees it: `/disks/BASE.dsk`, `/disks/BASE.cow`, or `/shared/disks/BASE` with one of
    /// `.dsk`, `.cow`, `.dev`; BASE is `[A-Za-z0-9_][A-Za-z0-9._+-]{0,63}`.
    DiskName, check_disk_name
}

checked_text! {
    /// An absolute path in the jail, without `.`, `..`, empty components, white space or control characters, at most
    /// 255 bytes.
    JailPath, check_jail_path
}

checked_text! {
    /// The name of a network interface of the host: 1 to 15 characters (IFNAMSIZ of net/if.h) of `[A-Za-z0-9._-]`, the
    /// first one a letter or digit.
    InterfaceName, check_interface_name
}

checked_text! {
    /// The name of a network that the suite makes: 1 to 11 characters of `[a-z0-9]`, the first one a letter. It is part
    /// of the names of interfaces, and the domain of the VMs.
    NetworkName, check_network_name
}

checked_text! {
    /// The name of a group of VMs: `[A-Za-z0-9][A-Za-z0-9._-]{0,62}`.
    GroupName, check_group_name
}

checked_text! {
    /// The name of a template of VMs, without the word `template`: `[A-Za-z0-9][A-Za-z0-9._-]{0,62}`.
    TemplateName, check_template_name
}

checked_text! {
    /// The label of a snapshot: `[A-Za-z0-9][A-Za-z0-9._-]{0,62}`.
    SnapshotLabel, check_snapshot_label
}

impl NetworkName {
    /// Where `nat(...)` names none.
    pub(crate) fn usual() -> NetworkName {
        NetworkName("uml".into())
    }

    /// The bridge of the network.
    pub fn bridge(&self) -> String {
        format!("br-{self}")
    }
}

impl VmName {
    /// The name of a VM on which values are only tried.
    pub(crate) fn placeholder() -> VmName {
        VmName("vm".into())
    }
}

fn check_vm_name(text: &str) -> Result<()> {
    const WHAT: &str = "a VM name";
    if !is_word(text, 63, "", "._-") {
        let why = "it needs 1 to 63 letters, digits and . _ -, and begins with a letter or digit";
        return Err(Error::value(WHAT, text, why));
    }
    if ["shared", "directory", "global"].contains(&text.to_ascii_lowercase().as_str()) {
        return Err(Error::value(WHAT, text, "this name is reserved"));
    }
    Ok(())
}

fn check_network_name(text: &str) -> Result<()> {
    let is_letter = |c: char| c.is_ascii_lowercase();
    let fits = (1..=11).contains(&text.len()) && text.starts_with(is_letter);
    match fits && text.chars().all(|c| is_letter(c) || c.is_ascii_digit()) {
        true => Ok(()),
        false => {
            let why = "it needs 1 to 11 lower-case letters and digits, and begins with a letter";
            Err(Error::value("the name of a network", text, why))
        }
    }
}

fn check_group_name(text: &str) -> Result<()> {
    if is_word(text, 63, "", "._-") {
        return Ok(());
    }
    let why = "it needs 1 to 63 letters, digits and . _ -, and begins with a letter or digit";
    Err(Error::value("the name of a group", text, why))
}

fn check_template_name(text: &str) -> Result<()> {
    if is_word(text, 63, "", "._-") {
        return Ok(());
    }
    let why = "it needs 1 to 63 letters, digits and . _ -, and begins with a letter or digit";
    Err(Error::value("the name of a template", text, why))
}

fn check_snapshot_label(text: &str) -> Result<()> {
    if is_word(text, 63, "", "._-") {
        return Ok(());
    }
    let why = "it needs 1 to 63 letters, digits and . _ -, and begins with a letter or digit";
    Err(Error::value("the label of a snapshot", text, why))
}

fn check_log_name(text: &str) -> Result<()> {
    if is_word(text, 64, "_", "._+-") {
        return Ok(());
    }
    let why = "it needs 1 to 64 letters, digits and . _ + -, begins with a letter or digit, and has no directory";
    Err(Error::value("a log file name", text, why))
}

fn check_interface_name(text: &str) -> Result<()> {
    if is_word(text, 15, "", "._-") {
        return Ok(());
    }
    let why = "it needs 1 to 15 letters, digits and . _ -, and begins with a letter or digit";
    Err(Error::value("an interface name", text, why))
}

fn check_jail_path(text: &str) -> Result<()> {
    let why = match text.strip_prefix('/') {
        None => "it must begin with /, the root of the jail",
        Some(_) if text.len() > 255 => "it is longer than 255 bytes",
        Some(_) if text.contains(|c: char| c.is_control() || c.is_whitespace()) => {
            "it must not contain white space or control characters"
        }
        Some(path) if path.split('/').any(|part| ["", ".", ".."].contains(&part)) => {
            "it must not contain . or .. or empty components"
        }
        Some(_) => return Ok(()),
    };
    Err(Error::value("a path in the jail", text, why))
}

fn check_disk_name(text: &str) -> Result<()> {
    let bad = |why| Err(Error::value("a disk", text, why));
    let (file, shared) = match (
        text.strip_prefix("/disks/"),
        text.strip_prefix("/shared/disks/"),
    ) {
        (Some(file), _) => (file, false),
        (_, Some(file)) => (file, true),
        _ => return bad("it must be in /disks or /shared/disks"),
    };
    match file.rsplit_once('.') {
        Some((_, "dev")) if !shared => bad(".dev files are only in /shared/disks"),
        Some((base, "dsk" | "cow" | "dev")) if is_word(base, 64, "_", "._+-") => Ok(()),
        Some((_, "dsk" | "cow" | "dev")) => bad(
            "its name needs 1 to 64 letters, digits and . _ + -, and begins with a letter, a digit or _",
        ),
        _ => bad("its name must end in .dsk, .cow or .dev"),
    }
}

/// The format of a disk, given by its file name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskKind {
    /// `.dsk`: a flat image.
    Dsk,
    /// `.cow`: a copy-on-write image.
    Cow,
    /// `.dev`: a block device.
    Dev,
}

impl DiskName {
    /// The format.
    pub fn kind(&self) -> DiskKind {
        match self.0.rsplit_once('.') {
            Some((_, "cow")) => DiskKind::Cow,
            Some((_, "dev")) => DiskKind::Dev,
            _ => DiskKind::Dsk,
        }
    }

    /// Whether it is in `/shared/disks`, thus visible to all VMs.
    pub fn is_shared(&self) -> bool {
        self.0.starts_with("/shared/")
    }

    /// The last component of the path.
    pub fn file_name(&self) -> &str {
        self.0.rsplit_once('/').map_or("", |(_, name)| name)
    }
}

/// A console (`con0` to `con15`) or serial line (`ssl0` to `ssl63`) of a VM.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ChannelName {
    /// A virtual console.
    Con(u8),
    /// A virtual serial line.
    Ssl(u8),
}

impl ChannelName {
    /// The highest console number, given by the UML kernel (MAX_TTYS).
    pub const MAX_CON: u8 = 15;
    /// The highest serial line number, given by the UML kernel (NR_PORTS).
    pub const MAX_SSL: u8 = 63;
}

impl fmt::Display for ChannelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ChannelName::Con(n) => write!(f, "con{n}"),
            ChannelName::Ssl(n) => write!(f, "ssl{n}"),
        }
    }
}

impl FromStr for ChannelName {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        let channel = if let Some(n) = text.strip_prefix("con") {
            number(n, 0, ChannelName::MAX_CON).map(ChannelName::Con)
        } else {
            number(
                text.strip_prefix("ssl").unwrap_or_default(),
                0,
                ChannelName::MAX_SSL,
            )
            .map(ChannelName::Ssl)
        };
        channel.map_err(|_| {
            Error::value(
                "a channel",
                text,
                "channels are con0 to con15 and ssl0 to ssl63",
            )
        })
    }
}

impl TryFrom<&str> for ChannelName {
    type Error = Error;
    fn try_from(text: &str) -> Result<Self> {
        text.parse()
    }
}

/// A decimal number from min to max, in its only valid form (no sign but `-`, no leading zeros).
pub(crate) fn number<T>(text: &str, min: T, max: T) -> Result<T>
where
    T: FromStr + PartialOrd + fmt::Display + Copy,
{
    match text.parse::<T>() {
        Ok(n) if min <= n && n <= max && n.to_string() == text => Ok(n),
        _ => Err(Error::value(
            format!("a number from {min} to {max}"),
            text,
            "",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepts<T: FromStr>(good: &[&str], bad: &[&str]) {
        for text in good {
            assert!(text.parse::<T>().is_ok(), "{text:?} should be accepted");
        }
        for text in bad {
            assert!(text.parse::<T>().is_err(), "{text:?} should be refused");
        }
    }

    #[test]
    fn vm_names() {
        let long = "x".repeat(63);
        let too_long = "x".repeat(64);
        let bad = [
            "",
            ".",
            "..",
            "...",
            "-fg",
            ".x",
            "_x",
            "../x",
            "a/b",
            "a b",
            "a\n",
            "é",
            "shared",
            "directory",
            "GLOBAL",
            "global",
            "Shared",
            "a@b",
            "a]",
            &too_long,
        ];
        accepts::<VmName>(&["vm1", "1", "a.b", "a-b_c", "sharedx", &long], &bad);
    }

    #[test]
    fn disks() {
        let good = [
            "/disks/root.dsk",
            "/disks/a.cow",
            "/shared/disks/data1.dev",
            "/disks/_a+b-c.d.dsk",
        ];
        let long = format!("/disks/{}.dsk", "x".repeat(65));
        let bad = [
            "",
            "root.dsk",
            "/disks/",
            "/disks/.dsk",
            "/disks/../x.dsk",
            "/disks//a.dsk",
            "/disks/a.dsk/",
            "/disks/a",
            "/disks/a.dev",
            "/disks/a.img",
            "/tmp/a.dsk",
            "/disks/a,b.dsk",
            "/disks/a:b.dsk",
            "/disks/a\0.dsk",
            "/disks/a\n.dsk",
            "/disks/-a.dsk",
            "/disks/é.dsk",
            "/disks/a b.dsk",
            "/disks/sub/a.dsk",
            "/shared/a.dsk",
            "/shared/disks/../../x.dsk",
            "/disks/a.DSK",
            &long,
        ];
        accepts::<DiskName>(&good, &bad);
        let disk: DiskName = "/shared/disks/data1.dev".parse().unwrap();
        assert_eq!(
            (disk.kind(), disk.is_shared(), disk.file_name()),
            (DiskKind::Dev, true, "data1.dev")
        );
        let disk: DiskName = "/disks/a.cow.dsk".parse().unwrap();
        assert_eq!(
            (disk.kind(), disk.is_shared(), disk.file_name()),
            (DiskKind::Dsk, false, "a.cow.dsk")
        );
    }

    /// Names that come through a pipe are checked like names that are typed.
    #[test]
    fn names_are_checked_when_they_arrive() {
        let disk: DiskName = serde_json::from_str("\"/disks/root.dsk\"").unwrap();
        assert_eq!(serde_json::to_string(&disk).unwrap(), "\"/disks/root.dsk\"");
        let refused = serde_json::from_str::<DiskName>("\"/disks/../x.dsk\"").unwrap_err();
        assert!(refused.to_string().contains("/disks/../x.dsk"), "{refused}");
    }

    #[test]
    fn channels() {
        let bad = [
            "", "con", "con16", "con01", "con+1", "con 1", "CON1", "ssl64", "tty0", "con-1",
            "con256", "1",
        ];
        accepts::<ChannelName>(&["con0", "con15", "ssl0", "ssl63"], &bad);
        assert_eq!("ssl7".parse::<ChannelName>().unwrap().to_string(), "ssl7");
    }

    #[test]
    fn logs_paths_interfaces() {
        accepts::<LogName>(
            &["con0", "monitor.log", "_x"],
            &["", "a/b", "..", ".x", "a b", "a\x1b", "-x"],
        );
        let bad = [
            "", "/", "linux", "/a/../b", "/a//b", "/a/", "/./a", "/a b", "/a\n",
        ];
        accepts::<JailPath>(
            &["/shared/kernels/linux", "/x", "/disks/my-kernel,v2"],
            &bad,
        );
        accepts::<InterfaceName>(
            &["eth0", "br0.5", "a-b"],
            &["", ".", "..", "a/b", "a:1", "0123456789abcdef", "-a"],
        );
    }
}
