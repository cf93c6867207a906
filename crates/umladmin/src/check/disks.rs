//! The disks: there, usable by their VM, and written by no other (umladmin).

use std::collections::BTreeMap;
use std::fs::{self, File, Metadata};
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use config::{DiskKind, DiskName, Vm};
use jail::Account;
use rustix::fs::Access;

use super::subject::{Finding, Subject, remedy};

pub(super) fn check(subject: &Subject) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut users: BTreeMap<PathBuf, String> = BTreeMap::new();
    for vm in &subject.vms {
        findings.extend(foreign(subject, vm));
        findings.extend(large_maps(subject, vm));
        for (number, disk) in &vm.ubd {
            let (name, param) = (vm.name.as_str(), format!("ubd{number}"));
            let place = subject.places.param(name, &param);
            let path = on_host(subject, vm, disk);
            findings.extend(missing(&path, vm, disk).map(|(problem, suggestion)| {
                Finding::new(&place, format!("{disk} of {name} {problem}"), suggestion)
            }));
            findings.extend(
                unusable(subject, &path, vm, disk).map(|(problem, suggestion)| {
                    Finding::new(&place, format!("{disk} of {name} {problem}"), suggestion)
                }),
            );
            let found = path.canonicalize().unwrap_or(path);
            let user = format!("{param} of {name}");
            if let Some(other) = users.get(&found) {
                findings.push(Finding::new(
                    place,
                    format!("{disk} is {other} and {user}: only one can use it at a time"),
                    "make a copy, or a copy-on-write image for each",
                ));
            } else {
                users.insert(found, user);
            }
        }
    }
    for (n, device) in subject.config.global.devices.iter().enumerate() {
        use std::os::unix::fs::FileTypeExt as _;
        let target = device.target.display();
        let problem = match std::fs::metadata(&device.target) {
            Err(error) => format!("the device {target} cannot be used: {error}"),
            Ok(found) if !found.file_type().is_block_device() => {
                format!("{target} is not a block device")
            }
            Ok(_) => continue,
        };
        let place = subject.places.nth("GLOBAL", "device", n);
        findings.push(Finding::new(
            place,
            problem,
            "name a block device, or remove the line",
        ));
    }
    findings
}

/// Why there is no file for a disk, as far as the caller can see. Before the monitor is started for the first time
/// there is no jail, and no place for its disks; devices are put there by the monitor.
fn missing(path: &Path, vm: &Vm, disk: &DiskName) -> Option<(String, String)> {
    let error = fs::metadata(path).err()?;
    if disk.kind() == DiskKind::Dev || fs::metadata(&vm.jaildir).is_err() {
        return None;
    }
    if error.kind() != ErrorKind::NotFound {
        let suggestion = remedy(&error, "");
        return Some((format!("cannot be examined: {error}"), suggestion));
    }
    let name = &vm.name;
    let suggestion = match disk.kind() {
        DiskKind::Cow => {
            format!("create it with umlwatch {name} -disk-create-cow {disk}:BACKING_FILE")
        }
        _ => format!(
            "create it with umlwatch {name} -disk-create {disk}:SIZE, or copy an image there"
        ),
    };
    let problem = format!("does not exist (it would be {})", path.display());
    Some((problem, suggestion))
}

/// Why the user of the VM cannot use a file as a disk; one that is missing or shared for reading only is no case of it.
fn unusable(subject: &Subject, path: &Path, vm: &Vm, disk: &DiskName) -> Option<(String, String)> {
    let found = fs::symlink_metadata(path).ok()?;
    if disk.kind() == DiskKind::Dev {
        return None;
    }
    let shown = path.display();
    if !found.is_file() {
        return Some((
            "is not a file".into(),
            format!("replace {shown} by an image"),
        ));
    }
    let account = subject.account(vm)?.ok()?;
    let user = &account.name;
    let refused = |access, action| Some((may(&account, path, &found, access).err()?, action));
    let written = || refused(Access::WRITE_OK, "written").filter(|_| !disk.is_shared());
    let (why, action) = refused(Access::READ_OK, "read").or_else(written)?;
    if why.kind() != ErrorKind::PermissionDenied {
        return Some((
            format!("cannot be {action} by its user {user}: {why}"),
            String::new(),
        ));
    }
    let (owner, mode) = (found.uid(), found.mode() & 0o7777);
    let suggestion = match owner == account.uid {
        true => format!("chmod u+rw {shown}"),
        false => format!("chown {user} {shown}"),
    };
    Some((
        format!("cannot be {action} by its user {user} (owner {owner}, mode {mode:04o})"),
        suggestion,
    ))
}

/// Whether the account may access a file: as the host's kernel says, or, if only root could ask it, as the mode does.
fn may(account: &Account, path: &Path, found: &Metadata, access: Access) -> io::Result<()> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Ok(());
    };
    if rustix::process::geteuid().is_root() {
        return account.may_use(File::open(parent)?, Path::new(name), access);
    }
    let bits = access.bits();
    match account.may(found.uid(), found.gid(), found.mode(), bits) {
        true => Ok(()),
        false => Err(ErrorKind::PermissionDenied.into()),
    }
}

/// Memory that is missing for copy-on-write disks.
fn large_maps(subject: &Subject, vm: &Vm) -> Option<Finding> {
    let length = |disk: &DiskName| Some(fs::metadata(on_host(subject, vm, disk)).ok()?.len());
    let place = subject.places.param(vm.name.as_str(), "mem");
    let note = config::large_cow_maps(vm, length)?;
    Some(Finding::new(
        place,
        format!("{}: {note}", vm.name),
        "increase mem",
    ))
}

/// The directory of a VM's own disks, if it is not for its user: it may be of the one as which the VM ran before.
fn foreign(subject: &Subject, vm: &Vm) -> Option<Finding> {
    let account = subject.account(vm)?.ok()?;
    let path = vm.jaildir.join("disks");
    let found = fs::symlink_metadata(&path).ok()?;
    let (user, owner, shown) = (&account.name, found.uid(), path.display());
    let advice = if ![0, account.uid].contains(&owner) {
        format!("chown -R {user} {shown}")
    } else if may(&account, &path, &found, Access::EXEC_OK).is_err() {
        format!("chown {user} {shown}")
    } else {
        return None;
    };
    let mode = found.mode() & 0o7777;
    Some(Finding::new(
        subject.places.param(vm.name.as_str(), "vmuser"),
        format!("{user} cannot use the disk directory {shown} (owner {owner}, mode {mode:04o})"),
        advice,
    ))
}

fn on_host(subject: &Subject, vm: &Vm, disk: &DiskName) -> PathBuf {
    let name = disk.as_str().trim_start_matches('/');
    match name.strip_prefix("shared/") {
        Some(rest) => subject.config.global.shared.join(rest),
        None => vm.jaildir.join(name),
    }
}

#[cfg(test)]
mod tests {
    use super::super::subject::tests::findings;
    use super::*;

    #[test]
    fn disks_that_are_missing_or_used_twice() {
        let dir = tempfile::tempdir().unwrap();
        let vm = |name: &str, disk: &str| {
            format!("[{name}]\nvmuser = nobody\nmem = 64\nubd0 = {disk}\njaildir = DIR/{name}\n")
        };
        let text = vm("a", "/disks/x.dsk")
            + &vm("b", "/disks/x.dsk")
            + &vm("c", "/shared/disks/y.dsk")
            + &vm("d", "/shared/disks/y.dsk");
        let found = findings(check, &text, dir.path());
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].starts_with("umlmon:22: /shared/disks/y.dsk is ubd0 of c and ubd0 of d"));
        std::fs::create_dir(dir.path().join("a")).unwrap();
        let found = findings(check, &text, dir.path());
        assert!(
            found[0].starts_with("umlmon:7: /disks/x.dsk of a does not exist"),
            "{found:?}"
        );
    }

    #[test]
    fn a_missing_image_is_created_by_the_command_of_its_kind() {
        let dir = tempfile::tempdir().unwrap();
        let text = "[a]\nvmuser = nobody\nmem = 64\njaildir = DIR/a\n\
                    ubd0 = /disks/x.cow\nubd1 = /disks/y.dsk\n";
        fs::create_dir(dir.path().join("a")).unwrap();
        let found = findings(check, text, dir.path());
        let advice: Vec<&str> = found.iter().filter_map(|f| f.split("; ").nth(1)).collect();
        assert_eq!(
            advice,
            [
                "create it with umlwatch a -disk-create-cow /disks/x.cow:BACKING_FILE\n",
                "create it with umlwatch a -disk-create /disks/y.dsk:SIZE, or copy an image there\n",
            ]
        );
    }

    #[test]
    fn disks_that_their_user_cannot_use() {
        use std::os::unix::fs::{PermissionsExt as _, symlink};
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let disks = dir.path().join("a/disks");
        fs::create_dir_all(&disks).unwrap();
        let disk = disks.join("x.dsk");
        let text = "[a]\nvmuser = nobody\nmem = 64\nubd0 = /disks/x.dsk\njaildir = DIR/a\n";
        let found = |mode: u32| {
            fs::set_permissions(&disk, fs::Permissions::from_mode(mode)).unwrap();
            findings(check, text, dir.path()).concat()
        };
        fs::write(&disk, "").unwrap();
        let shown = disk.display();
        assert_eq!(
            found(0o600),
            format!(
                "umlmon:7: /disks/x.dsk of a cannot be read by its user nobody (owner 0, mode 0600); \
                 chown nobody {shown}\n"
            )
        );
        assert!(found(0o644).contains("cannot be written by its user nobody"));
        assert_eq!(found(0o666), "");
        fs::remove_file(&disk).unwrap();
        symlink("/etc/passwd", &disk).unwrap();
        let said = findings(check, text, dir.path()).concat();
        assert!(
            said.starts_with("umlmon:7: /disks/x.dsk of a is not a file; replace "),
            "{said}"
        );
    }

    #[test]
    fn a_guest_with_too_little_memory_for_its_maps() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("a/disks")).unwrap();
        let image = fs::File::create(dir.path().join("a/disks/a.cow")).unwrap();
        image.set_len(300 << 30).unwrap();
        image
            .set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666))
            .unwrap();
        let text = "[a]\nvmuser = nobody\nmem = 64\nubd0 = /disks/a.cow\njaildir = DIR/a\n";
        let found = findings(check, text, dir.path()).concat();
        let expected = "umlmon:6: a: the kernel needs 75 of its 64 MB of memory for the maps of copy-on-write disks, \
                        1 MB for 4 GB of backing file; increase mem\n";
        assert_eq!(found, expected);
    }

    /// After `vmuser`, or the number of the user, has changed.
    #[test]
    fn a_directory_of_a_former_user() {
        use std::os::unix::fs::{PermissionsExt as _, chown};
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let disks = dir.path().join("a/disks");
        fs::create_dir_all(&disks).unwrap();
        let text = "[a]\nvmuser = nobody\nmem = 64\njaildir = DIR/a\n";
        let shown = disks.display();
        for (owner, mode, advice) in [
            (65534, 0o750, None),
            (0, 0o755, None),
            (0, 0o700, Some("chown nobody")),
            (4711, 0o777, Some("chown -R nobody")),
        ] {
            chown(&disks, Some(owner), None).unwrap();
            fs::set_permissions(&disks, fs::Permissions::from_mode(mode)).unwrap();
            let expected = advice.map(|advice| {
                format!(
                    "umlmon:5: nobody cannot use the disk directory {shown} (owner {owner}, mode {mode:04o}); \
                     {advice} {shown}\n"
                )
            });
            let expected: Vec<String> = expected.into_iter().collect();
            assert_eq!(findings(check, text, dir.path()), expected);
        }
    }

    #[test]
    fn devices_that_are_none() {
        let dir = tempfile::tempdir().unwrap();
        let of = |device: &str| {
            let text = format!(
                "device = device_file(name=a.dev, target_file=/dev/zero, group=disk)\n\
                 device = device_file(name=b.dev, target_file={device}, group=disk)\n"
            );
            findings(check, &text, dir.path()).concat()
        };
        let none = |line: u8, device: &str| {
            format!(
                "umlmon:{line}: {device} is not a block device; name a block device, or remove the line\n"
            )
        };
        let first = none(4, "/dev/zero");
        assert_eq!(of("/dev/null"), first.clone() + &none(5, "/dev/null"));
        let missing = of("/dev/none");
        let missing = missing.strip_prefix(&first).unwrap();
        assert!(missing.starts_with("umlmon:5: the device /dev/none cannot be used: No such file"));
    }
}
