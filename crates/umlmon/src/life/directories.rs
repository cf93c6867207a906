//! Directories of the host that the guest can use (umlmon, the monitor process).
//!
//! They are opened at each start, and are mounts that are attached nowhere until the second process has them. So
//! nothing has to be removed at the end, whoever is killed.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;

use config::Vm;
use jail::{Owner, Shared, Wanted};

use crate::failure::Failure;
use crate::reading::Reading;
use crate::setup::Setup;

/// Open files of a kernel with shares: it has one of the host for each that the guest uses.
pub const OPEN_FILES: u64 = 16 << 10;

/// The shared directories of one start.
#[derive(Debug)]
pub struct Directories(Vec<(u8, Shared)>);

impl Directories {
    /// Opens those that are configured.
    ///
    /// # Errors
    /// [`Failure::Failed`] with what is wrong with one of them.
    pub fn open(setup: &Setup, reading: &Reading) -> Result<Self, Failure> {
        let vm = &reading.vm;
        let closed = closed(setup, reading);
        let account = setup.jail.account();
        let open = |(number, share): (&u8, &config::Share)| {
            let wanted = Wanted {
                directory: &share.directory,
                read_only: share.read_only,
                closed: &closed,
            };
            let shared = Shared::open(wanted, account);
            let shared =
                shared.map_err(|error| Failure::Failed(format!("share{number}: {error}")))?;
            if let Owner::Unmapped(why) = shared.owner() {
                tracing::warn!(
                    "share{number}: in {}, the guest acts as user {}, not as the owner of the directory: {why}",
                    share.directory.display(),
                    account.name
                );
            }
            Ok((*number, shared))
        };
        let opened = vm.shares.iter().map(open);
        Ok(Directories(opened.collect::<Result<_, Failure>>()?))
    }

    /// Their numbers.
    pub fn numbers(&self) -> Vec<u8> {
        self.0.iter().map(|(number, _)| *number).collect()
    }

    /// As whom the guest acts in each, by number.
    pub fn owners(&self) -> BTreeMap<u8, Owner> {
        let owners = self.0.iter();
        owners
            .map(|(number, shared)| (*number, shared.owner().clone()))
            .collect()
    }

    /// Their mounts, in this order.
    pub fn mounts(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.0.iter().map(|(_, shared)| shared.mount().as_fd())
    }
}

/// What a guest must not have: what the monitor of any VM works on.
fn closed(setup: &Setup, reading: &Reading) -> Vec<PathBuf> {
    let (was, vm) = (&setup.configured, &reading.vm);
    let vardir = reading.vm_dir.parent().map(PathBuf::from);
    let others = [&was.file, &was.shared, &vm.jaildir, &vm.logdir];
    vardir
        .into_iter()
        .chain(others.into_iter().cloned())
        .collect()
}

/// The arguments of the kernel: where its hostfs begins, and where the helper of the guest is to mount them.
pub fn arguments(vm: &Vm) -> Vec<String> {
    let root = match vm.shares.is_empty() {
        // Not a protection, only a hint: the jail is the protection.
        true => "/nonexistent",
        false => jail::SHARES,
    };
    let paths = vm.shares.iter();
    let paths = paths.map(|(number, share)| guest_line::share_argument(*number, &share.path));
    [format!("hostfs={root}")]
        .into_iter()
        .chain(paths)
        .collect()
}
