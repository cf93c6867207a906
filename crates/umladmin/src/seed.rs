//! What `umladmin create` and `clone` tell a new guest: its name, keys, and the password of root (umladmin).
//!
//! It is on a disk of its own, which the guest reads at boot; docs/IMAGES.md describes it. Nobody mounts the guest's.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::fchown;
use std::path::Path;

use cli::{Exit, Failure, Line};
use config::VmName;
use guest_line::{MAX_SEED, Seed};
use jail::Account;
use monitors::cannot;
use rustix::fs::{CWD, Mode, OFlags, openat};
use sha_crypt::{PasswordHasher as _, ShaCrypt};

use crate::password;

/// The disk: its parameter, and its name in the jail.
pub(crate) const DISK: (&str, &str) = ("ubd15", "/disks/seed.dsk");
/// What it is called in the directory of the disks.
const FILE: &str = "seed.dsk";
/// Bytes that tell one guest from all others.
const INSTANCE: usize = 16;
/// Bytes of a salt: crypt(3) takes 16 characters, and each 3 bytes become 4.
const SALT: usize = 12;

/// What the command line says of the guest. A password is asked for.
pub(crate) fn from(line: &Line, vm: &VmName) -> Result<Seed, Failure> {
    let mut seed = Seed {
        instance: instance()?,
        hostname: hostname(vm),
        ..Seed::default()
    };
    for given in line.words.iter().filter(|given| given.name == "ssh-key") {
        let path = Path::new(&given.value);
        let keys = keys(path).map_err(|error| failed(cannot("read", path, &error)))?;
        seed.ssh_keys.extend(keys);
    }
    if line.has("password") {
        let clear = password::ask()?;
        let salt = random::<SALT>()?;
        let hash = ShaCrypt::default().hash_password_with_salt(clear.as_bytes(), &salt);
        let hash =
            hash.map_err(|error| failed(format_args!("no hash of the password: {error}")))?;
        seed.password = Some(hash.as_str().to_owned());
    }
    // What cannot be told must not be found out when the VM is half made.
    seed.disk().map_err(failed)?;
    Ok(seed)
}

fn failed(error: impl std::fmt::Display) -> Failure {
    Failure::new(Exit::Failed, error)
}

fn instance() -> Result<String, Failure> {
    let bytes = random::<INSTANCE>()?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn random<const N: usize>() -> Result<[u8; N], Failure> {
    let mut bytes = [0; N];
    let filled = getrandom::fill(&mut bytes);
    filled.map_err(|error| failed(format_args!("no random numbers: {error}")))?;
    Ok(bytes)
}

/// The name of a VM as that of a host, which cannot have some of its characters.
fn hostname(vm: &VmName) -> Option<String> {
    let name = vm.as_str().replace(['_', '.'], "-");
    let name = name.trim_end_matches('-');
    Some(name.to_owned())
}

/// The public keys in a file, one in a line.
fn keys(path: &Path) -> io::Result<Vec<String>> {
    let mut text = String::new();
    let file = File::open(path)?;
    file.take(MAX_SEED as u64).read_to_string(&mut text)?;
    if text.contains("PRIVATE KEY") {
        let why = "it is a private key; give the public one, which ends in .pub";
        return Err(io::Error::other(why));
    }
    let lines = text.lines().map(str::trim);
    let keys = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
    let keys: Vec<String> = keys.map(str::to_owned).collect();
    match keys.is_empty() {
        true => Err(io::Error::other("there is no public key in it")),
        false => Ok(keys),
    }
}

/// Puts it into the directory of the disks, in which the VM's user may write.
pub(crate) fn put(seed: &Seed, disks: &OwnedFd, account: &Account) -> Result<(), String> {
    let content = seed.disk().map_err(|error| error.to_string())?;
    let put = || -> io::Result<()> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let mut file: File = openat(disks, FILE, flags, Mode::RUSR | Mode::WUSR)?.into();
        file.write_all(&content)?;
        fchown(&file, Some(account.uid), Some(account.gid))
    };
    put().map_err(|error| cannot("write", Path::new(DISK.1), &error))
}

/// The directory of the disks of a VM, which must not be a link.
pub(crate) fn open_disks(jail: &Path) -> Result<OwnedFd, String> {
    let path = jail.join("disks");
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let opened = openat(CWD, &path, flags, Mode::empty());
    opened.map_err(|error| cannot("open", &path, &error.into()))
}

/// The seed of a clone, from the disk of the original: with this name, and for another guest. None if there is none on
/// the disk, which the guest may write.
pub(crate) fn renewed(disk: &[u8], vm: &VmName) -> Option<Seed> {
    let seed = Seed::parse(disk).ok()?;
    Some(Seed {
        instance: instance().ok()?,
        hostname: hostname(vm),
        ..seed
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clone_is_another_guest_with_the_same_keys() {
        let vm = |name: &str| name.parse::<VmName>().unwrap();
        let seed = Seed {
            instance: instance().unwrap(),
            hostname: hostname(&vm("web_1.a")),
            ssh_keys: vec!["ssh-ed25519 AAAA me".into()],
            ..Seed::default()
        };
        assert_eq!(seed.hostname.as_deref(), Some("web-1-a"));
        let clone = renewed(&seed.disk().unwrap(), &vm("copy")).unwrap();
        assert_eq!(clone.ssh_keys, seed.ssh_keys);
        assert_eq!(clone.hostname.as_deref(), Some("copy"));
        assert_ne!(clone.instance, seed.instance);
        assert_eq!(renewed(&[0; 4096], &vm("copy")), None);
    }

    #[test]
    fn a_private_key_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("key");
        for (text, fits) in [
            ("# mine\nssh-ed25519 AAAA me\n\nssh-rsa BBBB\n", true),
            ("-----BEGIN OPENSSH PRIVATE KEY-----\n", false),
            ("# none\n", false),
        ] {
            std::fs::write(&file, text).unwrap();
            assert_eq!(
                keys(&file).is_ok_and(|keys| keys.len() == 2),
                fits,
                "{text}"
            );
        }
    }
}
