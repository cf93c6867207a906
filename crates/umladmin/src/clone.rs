//! `umladmin clone`: another VM with copies of the disks of one that does not run (umladmin).

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt as _, fchown};
use std::path::Path;

use cli::{Exit, Failure, Line};
use config::{Config, DiskKind, DiskName, Document, Nic, Vm, VmName};
use daemon::Home;
use disks::cow::{Header, READ_BYTES};
use files::copy_sparse;
use guest_line::{MAX_SEED, Seed};
use jail::Account;
use monitors::start::{self, Group};
use rustix::fs::{Mode, OFlags, openat};

use crate::account;
use crate::delete::{end_monitor, must_be_root};
use crate::rename::{move_changes, must_be_free};
use crate::report::Report;
use crate::rewrite::Rewrite;
use crate::seed;
use crate::selection::bad_config;
use crate::undo::{Directory, Interruption, Section};

/// How many disks are copied, with the images that they are based on.
const MOST: usize = 64;
/// What is its own for each VM: directories, and networks, which have interfaces and addresses.
const NOT_COPIED: [&str; 2] = ["jaildir", "logdir"];

pub(crate) fn run(path: &Path, line: &Line, names: &[&str]) -> Result<Exit, Failure> {
    let &[old, new] = names else {
        return Err(Failure::usage(
            "clone needs the name of a VM, and that of the new one",
        ));
    };
    let old = VmName::try_from(old).map_err(Failure::usage)?;
    let new = VmName::try_from(new).map_err(Failure::usage)?;
    let is_dry_run = line.has("dry-run");
    if !is_dry_run {
        must_be_root()?;
    }
    let report = Report::new();
    let mut rewrite = Rewrite::begin(path, is_dry_run)?;
    let config = rewrite.check()?;
    let original = config.vm(&old).map_err(bad_config)?;
    must_be_free(&config, &new)?;
    let user = line.value("user").map(|user| user.to_string_lossy());
    let made = copy_section(&mut rewrite.document, &original, &new, user.as_deref());
    let left_out = made.map_err(bad_config)?;
    rewrite.check()?;
    if is_dry_run {
        rewrite.finish(&report)?;
        return Ok(Exit::Done);
    }
    let ran = end_monitor(&config, &old)?;
    let made = carry_out(rewrite, &config, &original, &new, &report);
    if ran {
        let program = start::monitor_program();
        start::start_monitor(&program, path, &old, Group::Own).map_err(failed)?;
    }
    made.map_err(|failure| failure.about(format_args!("{new} is not created")))?;
    report.line(new.as_str(), &format!("a copy of {old}"));
    if !left_out.is_empty() {
        let left_out = left_out.join(" and ");
        report.line(
            new.as_str(),
            &format!("without {left_out}: what they use on the host is that of {old}"),
        );
    }
    Ok(Exit::Done)
}

fn failed(error: impl std::fmt::Display) -> Failure {
    Failure::new(Exit::Failed, error)
}

/// Adds the section of the new VM. Returns which networks it does not have.
fn copy_section(
    document: &mut Document,
    original: &Vm,
    new: &VmName,
    user: Option<&str>,
) -> config::Result<Vec<String>> {
    document.copy(original.name.as_str(), new.as_str())?;
    for param in NOT_COPIED {
        document.clear(new.as_str(), param)?;
    }
    let networks = original
        .eth
        .iter()
        .filter(|(_, nic)| nic.proxy_if().is_some() || matches!(nic, Nic::Netns { .. }));
    let networks: Vec<String> = networks.map(|(n, _)| format!("eth{n}")).collect();
    for network in &networks {
        document.clear(new.as_str(), network)?;
    }
    if let Some(user) = user {
        document.set(new.as_str(), "vmuser", user)?;
    }
    Ok(networks)
}

/// Makes everything, while no monitor of the original can start.
fn carry_out(
    rewrite: Rewrite,
    config: &Config,
    original: &Vm,
    new: &VmName,
    report: &Report,
) -> Result<(), Failure> {
    let interruption = Interruption::watch()?;
    let global = &config.global;
    let old = &original.name;
    // Without a directory, it has no disks, and the monitor of the new one will say what it needs.
    let locks = global
        .vm_dir(old)
        .exists()
        .then(|| Home::of_monitor(global, old).take());
    let _locks = locks.transpose().map_err(failed)?;
    let (section, config) = Section::write(rewrite, new, report)?;
    let directory = Directory::begin(&config, new, report);
    let program = start::monitor_program();
    start::start_monitor(&program, &config.path, new, Group::Own).map_err(failed)?;
    copy_changes(&config, old, new)?;
    let copy = config.vm(new).map_err(bad_config)?;
    let account = account::of(global, &copy)?;
    let places = Places {
        from: seed::open_disks(&original.jaildir).map_err(failed)?,
        to: seed::open_disks(&copy.jaildir).map_err(failed)?,
        account,
    };
    places.copy_all(original, new, &interruption)?;
    copy_kernel(original, &copy)?;
    interruption.check().map_err(failed)?;
    directory.keep();
    section.keep();
    Ok(())
}

/// The user changes, which are part of what the VM is.
fn copy_changes(config: &Config, old: &VmName, new: &VmName) -> Result<(), Failure> {
    let (from, to) = (config.global.user_file(old), config.global.user_file(new));
    if !from.exists() {
        return Ok(());
    }
    fs::copy(&from, &to).map_err(|error| failed(monitors::cannot("copy", &from, &error)))?;
    move_changes(&to, old, new)
}

/// A kernel that is in the jail itself.
fn copy_kernel(original: &Vm, copy: &Vm) -> Result<(), Failure> {
    let Some(kernel) = &original.kernel else {
        return Ok(());
    };
    let below = Path::new(kernel.as_str())
        .strip_prefix("/")
        .unwrap_or(Path::new(""));
    if below.starts_with("shared") {
        return Ok(());
    }
    let from = original.jaildir.join(below);
    let to = copy.jaildir.join(below);
    let directory = to.parent().unwrap_or(Path::new("/"));
    let copied = fs::create_dir_all(directory).and_then(|()| {
        let libraries = from.with_file_name("linux.lib");
        if libraries.is_dir() {
            let own = to.with_file_name("linux.lib");
            fs::create_dir(&own)?;
            for library in fs::read_dir(&libraries)? {
                let library = library?;
                fs::copy(library.path(), own.join(library.file_name()))?;
            }
        }
        fs::copy(&from, &to).map(drop)
    });
    copied.map_err(|error| failed(monitors::cannot("copy", &from, &error)))
}

/// The directories of the disks, in which the users of the VMs may write.
struct Places {
    from: OwnedFd,
    to: OwnedFd,
    account: Account,
}

impl Places {
    /// The disks of the VM in its own directory, and what they are based on there.
    fn copy_all(
        &self,
        original: &Vm,
        new: &VmName,
        interruption: &Interruption,
    ) -> Result<(), Failure> {
        let mut wanted: Vec<DiskName> = original.ubd.values().cloned().collect();
        let mut done = 0;
        while let Some(disk) = wanted.get(done).cloned() {
            done += 1;
            if disk.is_shared() || done > MOST {
                continue;
            }
            if disk.as_str() == seed::DISK.1
                && let Some(seed) = self.seed(&disk, new)
            {
                seed::put(&seed, &self.to, &self.account).map_err(failed)?;
                continue;
            }
            let copied = self.copy(&disk, interruption).map_err(|error| {
                failed(format_args!(
                    "{disk} of {} cannot be copied: {error}",
                    original.name
                ))
            })?;
            wanted.extend(copied.filter(|backing| !wanted.contains(backing)));
        }
        Ok(())
    }

    /// The seed for the new guest, if that of the original is still there.
    fn seed(&self, disk: &DiskName, new: &VmName) -> Option<Seed> {
        let mut content = Vec::new();
        let file = self.open(disk.file_name()).ok()?;
        let length = 2 * MAX_SEED as u64;
        file.take(length).read_to_end(&mut content).ok()?;
        seed::renewed(&content, new)
    }

    /// Opens a disk of the original to read it.
    fn open(&self, name: &str) -> io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file: File = openat(&self.from, name, flags, Mode::empty())?.into();
        let found = file.metadata()?;
        match found.is_file() && found.nlink() == 1 {
            true => Ok(file),
            // The user could have given a file of somebody else a name here.
            false => Err(io::Error::other("it is not a regular file with one name")),
        }
    }

    /// Copies one disk. Returns what it is based on.
    fn copy(&self, disk: &DiskName, interruption: &Interruption) -> io::Result<Option<DiskName>> {
        let name = disk.file_name();
        let from = self.open(name)?;
        let found = from.metadata()?;
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(found.mode() & 0o777);
        let to: File = openat(&self.to, name, flags, mode)?.into();
        copy_sparse(&from, &to, &|| interruption.is_none())?;
        fchown(&to, Some(self.account.uid), Some(self.account.gid))?;
        if disk.kind() != DiskKind::Cow {
            return Ok(None);
        }
        let mut first = Vec::new();
        rustix::fs::seek(&from, rustix::fs::SeekFrom::Start(0))?;
        from.take(READ_BYTES as u64).read_to_end(&mut first)?;
        Ok(Header::parse(&first)
            .ok()
            .and_then(|header| header.backing_disk()))
    }
}
