//! Work on the disks of a VM, which its monitor has done in the jail, as the VM's user (umladmin).

use client::Client;
use rpc_xdr::umlmonctrl::{DiskTask, DiskWaitArgs};

/// How long a monitor is waited for between two looks at whether to go on.
const LOOK_MS: u32 = 200;

/// Has it done, and waits for the end. It is cancelled if `goes_on` becomes false, with this as the error.
pub(crate) fn perform(
    client: &mut Client,
    task: &DiskTask,
    goes_on: &dyn Fn() -> Result<(), String>,
) -> Result<(), String> {
    let begun = client.call(|monitor| Ok(monitor.disk_begin(task)?.into_result()));
    let job = begun.map_err(|failure| failure.message)?.job;
    let args = DiskWaitArgs {
        job,
        wait_ms: LOOK_MS,
    };
    loop {
        let waited = client.call(|monitor| Ok(monitor.disk_wait(&args)?.into_result()));
        if waited.map_err(|failure| failure.message)?.finished {
            return Ok(());
        }
        if let Err(why) = goes_on() {
            // The monitor cancels what is left of a connection that ends.
            client.disconnect();
            return Err(why);
        }
    }
}
