//! Gives a new guest what its seed says: name, keys, password, addresses (umlguest -seed, early in each boot).
//!
//! A seed counts once: the guest may change everything afterwards. docs/IMAGES.md describes it.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use guest_line::{BadSeed, MAX_SEED, Seed};
use nix::unistd::{Gid, Uid, fchown, sethostname};

/// The disk (`ubd15`). No other one is looked at: it may come from another machine.
const DISK: &str = "/dev/ubdp";
/// The seed that the guest has.
const KNOWN: &str = "var/lib/umlguest/instance";
/// Where systemd-networkd looks; and for guests without it, lines as in the seed.
const NETWORKD: &str = "etc/systemd/network";
const PLAIN: &str = "etc/umlguest-network";

/// Applies the seed, if there is one that the guest does not have.
pub(crate) fn run() -> anyhow::Result<()> {
    let disk = match File::open(DISK) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        disk => disk.context(DISK)?,
    };
    let mut text = Vec::new();
    let most = MAX_SEED as u64 + 1;
    disk.take(most).read_to_end(&mut text).context(DISK)?;
    let seed = match Seed::parse(&text) {
        Err(BadSeed::None) => return Ok(()),
        seed => seed.context(DISK)?,
    };
    if apply(&seed, Path::new("/"))?
        && let Some(name) = &seed.hostname
    {
        sethostname(name).context("cannot set the name of the guest")?;
    }
    Ok(())
}

/// Changes the files below `root`; false if they are as the seed wants them already.
fn apply(seed: &Seed, root: &Path) -> anyhow::Result<bool> {
    let known = root.join(KNOWN);
    let before = fs::read_to_string(&known).ok();
    if before.as_deref().map(str::trim_end) == Some(&seed.instance) {
        return Ok(false);
    }
    if before.is_some() {
        forget(root)?;
    }
    if let Some(name) = &seed.hostname {
        put(&root.join("etc/hostname"), 0o644, &format!("{name}\n"))?;
        let hosts = format!("127.0.0.1 localhost\n127.0.1.1 {name}\n::1 localhost ip6-localhost\n");
        put(&root.join("etc/hosts"), 0o644, &hosts)?;
    }
    if !seed.ssh_keys.is_empty() {
        let keys = seed.ssh_keys.join("\n") + "\n";
        let directory = root.join("root/.ssh");
        let made = DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&directory);
        made.with_context(|| format!("cannot make {}", directory.display()))?;
        put(&directory.join("authorized_keys"), 0o600, &keys)?;
    }
    if let Some(hash) = &seed.password {
        let path = root.join("etc/shadow");
        let shadow = fs::read_to_string(&path).context("etc/shadow")?;
        put(&path, 0o640, &with_password(&shadow, hash))?;
    }
    configure_network(seed, root)?;
    fs::create_dir_all(known.parent().unwrap_or(root)).context("var/lib/umlguest")?;
    put(&known, 0o644, &format!("{}\n", seed.instance))?;
    Ok(true)
}

/// A copy of another machine must not have its identity. What has it makes a new one.
fn forget(root: &Path) -> anyhow::Result<()> {
    let keys = fs::read_dir(root.join("etc/ssh"))
        .into_iter()
        .flatten()
        .flatten();
    for key in keys {
        if key.file_name().as_encoded_bytes().starts_with(b"ssh_host_") {
            let path = key.path();
            fs::remove_file(&path).with_context(|| path.display().to_string())?;
        }
    }
    let machine = root.join("etc/machine-id");
    if machine.exists() {
        put(&machine, 0o444, "")?;
    }
    Ok(())
}

/// What shadow(5) says, with this password of root.
fn with_password(shadow: &str, hash: &str) -> String {
    let mut changed = String::new();
    for line in shadow.lines() {
        let mut fields: Vec<&str> = line.split(':').collect();
        if let [name, password, ..] = fields.as_mut_slice()
            && *name == "root"
        {
            *password = hash;
        }
        changed += &fields.join(":");
        changed += "\n";
    }
    changed
}

fn configure_network(seed: &Seed, root: &Path) -> anyhow::Result<()> {
    let lines = |name: &str, values: &mut dyn Iterator<Item = String>| -> String {
        values.map(|value| format!("{name}{value}\n")).collect()
    };
    let addresses = || {
        let all = seed.addresses.iter();
        all.map(|(address, length)| format!("{address}/{length}"))
    };
    let gateways = || seed.gateways.iter().map(ToString::to_string);
    let dns = || seed.dns.iter().map(ToString::to_string);
    let networkd = root.join(NETWORKD);
    let has_networkd = networkd.is_dir();
    let path = match has_networkd {
        true => networkd.join("10-seed.network"),
        false => root.join(PLAIN),
    };
    if seed.addresses.is_empty() {
        return match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(error).with_context(|| path.display().to_string())
            }
            _ => Ok(()),
        };
    }
    let text = match has_networkd {
        true => format!(
            "[Match]\nName=eth0 vec0\n[Network]\n{}{}{}",
            lines("Address=", &mut addresses()),
            lines("DNS=", &mut dns()),
            // Outside the prefix of the address, too.
            lines(
                "",
                &mut gateways()
                    .map(|gateway| format!("[Route]\nGateway={gateway}\nGatewayOnLink=yes"))
            ),
        ),
        false => [
            lines("address ", &mut addresses()),
            lines("gateway ", &mut gateways()),
            lines("dns ", &mut dns()),
        ]
        .concat(),
    };
    put(&path, 0o644, &text)
}

/// Replaces a file in one step; one that was there keeps its owner.
fn put(path: &Path, mode: u32, text: &str) -> anyhow::Result<()> {
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let new = PathBuf::from(new);
    let write = || -> io::Result<()> {
        let _ = fs::remove_file(&new);
        let mut file = File::options()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&new)?;
        if let Ok(before) = fs::metadata(path) {
            let (uid, gid) = (Uid::from_raw(before.uid()), Gid::from_raw(before.gid()));
            fchown(&file, Some(uid), Some(gid))?;
        }
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, path)
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree() -> tempfile::TempDir {
        let tree = tempfile::tempdir().unwrap();
        for directory in ["etc/ssh", "etc/systemd/network", "root", "var/lib"] {
            fs::create_dir_all(tree.path().join(directory)).unwrap();
        }
        let shadow = "root:*:19000:0:99999:7:::\nrooty:!:1:::::\n";
        fs::write(tree.path().join("etc/shadow"), shadow).unwrap();
        fs::write(tree.path().join("etc/machine-id"), "old\n").unwrap();
        fs::write(tree.path().join("etc/ssh/ssh_host_rsa_key"), "old").unwrap();
        tree
    }

    fn seed(instance: &str) -> Seed {
        Seed {
            instance: instance.into(),
            hostname: Some("web".into()),
            ssh_keys: vec!["ssh-ed25519 A a".into()],
            password: Some("$6$a$b".into()),
            addresses: vec![("10.8.0.2".parse().unwrap(), 32)],
            gateways: vec!["10.8.0.1".parse().unwrap()],
            dns: vec!["9.9.9.9".parse().unwrap()],
        }
    }

    #[test]
    fn a_seed_counts_once() {
        let tree = tree();
        let read = |name: &str| fs::read_to_string(tree.path().join(name)).unwrap();
        assert!(apply(&seed("a"), tree.path()).unwrap());
        assert_eq!(read("etc/hostname"), "web\n");
        assert_eq!(read("root/.ssh/authorized_keys"), "ssh-ed25519 A a\n");
        let shadow = "root:$6$a$b:19000:0:99999:7:::\nrooty:!:1:::::\n";
        assert_eq!(read("etc/shadow"), shadow);
        let network = "[Match]\nName=eth0 vec0\n[Network]\nAddress=10.8.0.2/32\nDNS=9.9.9.9\n\
                       [Route]\nGateway=10.8.0.1\nGatewayOnLink=yes\n";
        assert_eq!(read("etc/systemd/network/10-seed.network"), network);
        // Its own identity is not that of another machine.
        assert_eq!(read("etc/machine-id"), "old\n");
        fs::write(tree.path().join("etc/hostname"), "mine\n").unwrap();
        assert!(!apply(&seed("a"), tree.path()).unwrap());
        assert_eq!(read("etc/hostname"), "mine\n");
    }

    #[test]
    fn another_seed_makes_another_machine() {
        let tree = tree();
        let (read, exists) = (
            |name: &str| fs::read_to_string(tree.path().join(name)).unwrap(),
            |name: &str| tree.path().join(name).exists(),
        );
        apply(&seed("a"), tree.path()).unwrap();
        assert!(exists("etc/ssh/ssh_host_rsa_key"));
        let other = Seed {
            addresses: Vec::new(),
            ..seed("b")
        };
        assert!(apply(&other, tree.path()).unwrap());
        assert!(!exists("etc/ssh/ssh_host_rsa_key"));
        assert!(!exists("etc/systemd/network/10-seed.network"));
        assert_eq!(read("etc/machine-id"), "");
        assert_eq!(read(KNOWN), "b\n");
        fs::remove_dir(tree.path().join(NETWORKD)).unwrap();
        apply(&seed("c"), tree.path()).unwrap();
        let plain = "address 10.8.0.2/32\ngateway 10.8.0.1\ndns 9.9.9.9\n";
        assert_eq!(read(PLAIN), plain);
    }
}
