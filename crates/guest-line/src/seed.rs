//! What a guest is told before its first boot: its name, keys and addresses (who makes the VM, and umlguest).
//!
//! It is text on a disk of its own, so that nobody has to mount the disk of the guest, and so that users of the guest
//! cannot read it as they could read arguments of the kernel. docs/IMAGES.md describes it.

use std::fmt::Write as _;
use std::net::IpAddr;

/// Its first line.
const FIRST: &str = "#umlmon-seed 1";
/// How long it is at most, in bytes.
pub const MAX_SEED: usize = 64 << 10;
/// The disk is a multiple of this long: kernels look for partition tables, and complain of smaller disks.
const UNIT: usize = 64 << 10;

/// What a guest is told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seed {
    /// Differs between machines, and when the same machine is to be seeded anew: up to 64 letters and digits.
    pub instance: String,
    /// The name of the guest.
    pub hostname: Option<String>,
    /// Lines for `authorized_keys` of root.
    pub ssh_keys: Vec<String>,
    /// The password of root, hashed as crypt(3) does it.
    pub password: Option<String>,
    /// Addresses of the first network interface, with the lengths of their prefixes; none for DHCP.
    pub addresses: Vec<(IpAddr, u8)>,
    /// Where packets for others go.
    pub gateways: Vec<IpAddr>,
    /// Name servers.
    pub dns: Vec<IpAddr>,
}

/// Why text is no seed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadSeed {
    /// There is something else on the disk, or nothing.
    #[error("it does not begin with {FIRST:?}")]
    None,
    /// See [`MAX_SEED`].
    #[error("it is longer than {MAX_SEED} bytes")]
    Long,
    /// A line that has no meaning, by its number.
    #[error("line {0}: {1}")]
    Line(usize, &'static str),
    /// The line that every seed needs.
    #[error("it has no instance")]
    NoInstance,
}

impl Seed {
    /// Reads what is on a disk, up to the first zero.
    ///
    /// # Errors
    /// If it is no seed, or a line is wrong.
    pub fn parse(disk: &[u8]) -> Result<Seed, BadSeed> {
        let text = disk.split(|byte| *byte == 0).next().unwrap_or_default();
        if text.len() > MAX_SEED {
            return Err(BadSeed::Long);
        }
        let text = std::str::from_utf8(text).map_err(|_| BadSeed::None)?;
        let mut lines = (1..).zip(text.lines());
        if lines.next().is_none_or(|(_, line)| line != FIRST) {
            return Err(BadSeed::None);
        }
        let mut seed = Seed::default();
        for (number, line) in lines {
            let line = line.trim();
            if !line.is_empty() && !line.starts_with('#') {
                let taken = seed.take(line);
                taken.map_err(|why| BadSeed::Line(number, why))?;
            }
        }
        match seed.instance.is_empty() {
            true => Err(BadSeed::NoInstance),
            false => Ok(seed),
        }
    }

    fn take(&mut self, line: &str) -> Result<(), &'static str> {
        let (name, value) = line.split_once('=').ok_or("it is not NAME = VALUE")?;
        let value = value.trim();
        if value.chars().any(char::is_control) {
            return Err("it has a control character");
        }
        match name.trim() {
            "instance" if is_word(value) => value.clone_into(&mut self.instance),
            "instance" => return Err("an instance is up to 64 letters and digits"),
            "hostname" if is_hostname(value) => self.hostname = Some(value.to_owned()),
            "hostname" => return Err("this is no name of a host"),
            "ssh-key" if value.contains(' ') => self.ssh_keys.push(value.to_owned()),
            "ssh-key" => return Err("this is no public key as in authorized_keys"),
            "password" if is_hash(value) => self.password = Some(value.to_owned()),
            "password" => return Err("this is no hash of a password as crypt(3) makes it"),
            "address" => self.addresses.push(prefix(value)?),
            "gateway" => self.gateways.push(address(value)?),
            "dns" => self.dns.push(address(value)?),
            _ => return Err("there is no such name"),
        }
        Ok(())
    }

    /// The content of the disk.
    ///
    /// # Errors
    /// If a value is not what [`Seed::parse`] accepts.
    pub fn disk(&self) -> Result<Vec<u8>, BadSeed> {
        let mut text = format!("{FIRST}\n");
        let mut line = |name: &str, value: &dyn std::fmt::Display| {
            // Writing to a string does not fail.
            let _ = writeln!(text, "{name} = {value}");
        };
        line("instance", &self.instance);
        if let Some(name) = &self.hostname {
            line("hostname", name);
        }
        for key in &self.ssh_keys {
            line("ssh-key", key);
        }
        if let Some(password) = &self.password {
            line("password", password);
        }
        for (address, length) in &self.addresses {
            line("address", &format_args!("{address}/{length}"));
        }
        for gateway in &self.gateways {
            line("gateway", gateway);
        }
        for server in &self.dns {
            line("dns", server);
        }
        let mut disk = text.into_bytes();
        disk.resize(disk.len().next_multiple_of(UNIT), 0);
        // What cannot be read is not to be written.
        match Seed::parse(&disk)? == *self {
            true => Ok(disk),
            false => Err(BadSeed::Line(1, "a value has a line break")),
        }
    }
}

fn is_word(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

fn is_hostname(text: &str) -> bool {
    let is_label = |label: &str| {
        let bytes = label.as_bytes();
        let inside = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'-';
        !label.is_empty()
            && bytes.iter().all(inside)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    // As long as sethostname(2) takes it.
    text.len() <= 64 && text.split('.').all(is_label)
}

/// It goes into a field of shadow(5).
fn is_hash(text: &str) -> bool {
    text.starts_with('$') && text.len() <= 384 && !text.contains([':', ' ', '*', '!'])
}

fn address(text: &str) -> Result<IpAddr, &'static str> {
    text.parse().map_err(|_| "this is no address")
}

fn prefix(text: &str) -> Result<(IpAddr, u8), &'static str> {
    let (ip, length) = text.split_once('/').ok_or("it is not ADDRESS/LENGTH")?;
    let ip = address(ip)?;
    let most = if ip.is_ipv4() { 32 } else { 128 };
    match length.parse() {
        Ok(length) if length <= most => Ok((ip, length)),
        _ => Err("its prefix has no such length"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full() -> Seed {
        Seed {
            instance: "0a1b".into(),
            hostname: Some("web.example".into()),
            ssh_keys: vec!["ssh-ed25519 AAAA me@here".into(), "ssh-rsa B = c".into()],
            password: Some("$6$salt$hash/.".into()),
            addresses: vec![
                ("10.8.0.2".parse().unwrap(), 32),
                ("fd00::2".parse().unwrap(), 64),
            ],
            gateways: vec!["10.8.0.1".parse().unwrap()],
            dns: vec!["9.9.9.9".parse().unwrap()],
        }
    }

    #[test]
    fn a_seed_that_is_written_is_read() {
        let disk = full().disk().unwrap();
        assert_eq!(disk.len(), 65536);
        assert_eq!(Seed::parse(&disk).unwrap(), full());
    }

    #[test]
    fn what_is_no_seed_is_refused() {
        let with = |lines: &str| Seed::parse(format!("{FIRST}\n{lines}").as_bytes()).unwrap_err();
        assert_eq!(Seed::parse(b""), Err(BadSeed::None));
        assert_eq!(Seed::parse(b"#!/bin/sh\n"), Err(BadSeed::None));
        assert_eq!(Seed::parse(&[0xff; 4096]), Err(BadSeed::None));
        assert_eq!(Seed::parse(&[b'#'; MAX_SEED + 1]), Err(BadSeed::Long));
        assert_eq!(with("hostname = a\n"), BadSeed::NoInstance);
        for wrong in [
            "instance = a/b",
            "hostname = -a",
            "hostname = a..b",
            "ssh-key = AAAA",
            "ssh-key = ssh-rsa A\rB",
            "password = x",
            "password = $6$a:0:",
            "address = 10.0.0.1",
            "address = 10.0.0.1/33",
            "gateway = here",
            "shell = /bin/sh",
            "nothing",
        ] {
            let why = with(wrong);
            assert!(matches!(why, BadSeed::Line(2, _)), "{wrong}: {why:?}");
        }
    }

    #[test]
    fn a_value_cannot_add_a_line() {
        for seed in [
            Seed {
                hostname: Some("a\npassword = $6$a$b".into()),
                ..full()
            },
            Seed {
                ssh_keys: vec!["ssh-rsa A\ndns = ::1".into()],
                ..full()
            },
            Seed {
                instance: String::new(),
                ..full()
            },
        ] {
            assert!(seed.disk().is_err(), "{seed:?}");
        }
    }
}
