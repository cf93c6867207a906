//! Looking at a kernel before it is started (umlmon, the monitor process).
//!
//! The monitor does not open the file: it may belong to the VM's user, who can exchange it at any time for one that
//! never ends, or whose opening blocks. A confined process opens it, and has a deadline. What it has seen is remembered
//! if only root could change it.

use std::path::Path;
use std::time::{Duration, SystemTime};

use config::{Nic, SyncDisks, Userspace, Vm};
use jail::{Features, Kernel};
use sys::Network;
use tokio::time::timeout;

use crate::failure::Failure;
use crate::second::confined::{Confined, printable};
use crate::second::orders::{FromLooker, LookOrder, Looked, ToWorker};
use crate::setup::Setup;

/// How long it may take. A few megabytes are read.
const DEADLINE: Duration = Duration::from_secs(10);

/// A kernel that can be started.
#[derive(Debug)]
pub struct Seen {
    /// What it needs in the jail.
    pub kernel: Kernel,
    /// What it can do; searched only if the VM needs some of it.
    pub features: Features,
}

/// Looks at the kernel of the configuration.
///
/// # Errors
/// [`Failure::Failed`]: what is wrong with it.
pub async fn look(setup: &Setup, vm: &Vm) -> Result<Seen, Failure> {
    let path = vm
        .kernel
        .as_ref()
        .ok_or_else(|| Failure::Failed("no kernel is configured (parameter kernel)".into()))?;
    let order = LookOrder {
        confinement: setup.jail.confinement_for_looking(),
        kernel: path.as_str().to_owned(),
        account: setup.jail.account().clone(),
        features: needs_features(vm),
    };
    let looked = looked(setup, order).await.map_err(Failure::Failed)?;
    let kernel = Kernel::new(
        setup.jail.root(),
        Path::new(path.as_str()),
        &looked.inspection,
    );
    Ok(Seen {
        kernel: kernel.map_err(|error| Failure::Failed(error.to_string()))?,
        features: looked.features,
    })
}

/// Whether the configuration asks for something that not every kernel has.
fn needs_features(vm: &Vm) -> bool {
    vm.userspace != Userspace::Ptrace || vm.cpus > 1 || is_shown(vm)
}

/// Whether what the kernel can do is seen in what is told about disks and networks.
pub fn is_shown(vm: &Vm) -> bool {
    let flushes = !vm.ubd.is_empty() && vm.sync_disks != SyncDisks::All;
    flushes || is_connected(vm)
}

/// Whether interfaces of the VM are to be connected with the host.
pub fn is_connected(vm: &Vm) -> bool {
    vm.eth.values().any(|nic| !matches!(nic, Nic::Raw(_)))
}

/// What is known from the last look, or a process sees now.
async fn looked(setup: &Setup, order: LookOrder) -> Result<Looked, String> {
    let root = setup.jail.root();
    if let Some(looked) = setup.last_look.recall(root, &order) {
        return Ok(looked);
    }
    let began = SystemTime::now();
    let looked = ask(setup, &order).await?;
    setup.last_look.remember(root, order, &looked, began);
    Ok(looked)
}

async fn ask(setup: &Setup, order: &LookOrder) -> Result<Looked, String> {
    // The semaphore is never closed.
    let _place = setup.storage.looks.acquire().await;
    let kernel = &order.kernel;
    let cannot = |why: &str| format!("cannot look at the kernel {kernel}: {why}");
    let title = format!("umlmon: {} kernel", setup.name());
    let order = ToWorker::Look(Box::new(order.clone()));
    let process = Confined::launch(None, &title, &order, &[], Network::Host);
    let process = process.map_err(|error| cannot(&error.to_string()))?;
    let said = timeout(DEADLINE, process.next(Ok::<FromLooker, _>)).await;
    // Nothing of it is to be left when the kernel runs, or when the start is refused.
    process.kill();
    process.ended().await;
    match said {
        Ok(Some(FromLooker::Looked(looked))) => Ok(*looked),
        Ok(Some(FromLooker::Failed(why))) => Err(printable(&why)),
        Ok(None) => Err(cannot("the process that does it was killed")),
        Err(_) => Err(cannot(&format!(
            "it takes more than {} seconds",
            DEADLINE.as_secs()
        ))),
    }
}
