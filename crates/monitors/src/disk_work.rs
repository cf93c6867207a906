//! Work on the disks of a VM, which its monitor has done in the jail, as the VM's user (umladmin, and the other
//! programs that make VMs).

use cli::{Exit, Failure};
use client::Client;
use rpc_xdr::umlmonctrl::{DiskProgress, DiskTask, DiskWaitArgs};

/// How long a monitor is waited for between two looks at how far it is, and whether to go on.
const LOOK_MS: u32 = 200;

/// Has it done, and waits for the end. It is cancelled if `look` at how far it is fails, with this as the error.
///
/// # Errors
/// If the monitor cannot be reached or refuses it, the work fails, or `look` does.
pub fn perform(
    client: &mut Client,
    task: &DiskTask,
    look: &mut dyn FnMut(&DiskProgress) -> Result<(), String>,
) -> Result<(), Failure> {
    let begun = client.call(|monitor| Ok(monitor.disk_begin(task)?.into_result()));
    let args = DiskWaitArgs {
        job: begun?.job,
        wait_ms: LOOK_MS,
    };
    loop {
        let progress = client.call(|monitor| Ok(monitor.disk_wait(&args)?.into_result()))?;
        if progress.finished {
            return Ok(());
        }
        if let Err(why) = look(&progress) {
            // The monitor cancels what is left of a connection that ends.
            client.disconnect();
            return Err(Failure::new(Exit::Failed, why));
        }
    }
}
