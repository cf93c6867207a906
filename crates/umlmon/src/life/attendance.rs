//! The servers of the networks of `nat(...)` that the VM is on: each monitor with a VM there sees when one ends, and
//! the first of them starts it again (umlmon, the monitor process).

use std::rc::Rc;
use std::time::Duration;

use config::NetworkName;
use net::Records;
use net::networks::attend;
use tokio::task::JoinHandle;
use tokio::time::sleep;

/// The pause before the next look, if a server does not live: it doubles from the first to the last of these.
const PAUSES: [Duration; 2] = [Duration::from_millis(250), Duration::from_secs(60)];

/// The care for these servers. Dropping it ends the care, not the servers.
#[derive(Debug)]
pub struct Attendance(Vec<JoinHandle<()>>);

impl Attendance {
    /// Begins, for networks that have been set up.
    pub fn begin<'a>(
        records: &Rc<Records>,
        networks: impl Iterator<Item = &'a NetworkName>,
    ) -> Attendance {
        let begin =
            |name: &NetworkName| tokio::task::spawn_local(keep(Rc::clone(records), name.clone()));
        Attendance(networks.map(begin).collect())
    }
}

impl Drop for Attendance {
    fn drop(&mut self) {
        for task in &self.0 {
            task.abort();
        }
    }
}

/// Waits for the end of a server, again and again.
async fn keep(records: Rc<Records>, name: NetworkName) {
    let [first, longest] = PAUSES;
    let mut pause = first;
    loop {
        let (process, is_new) = match attend(&records, &name) {
            Ok((process, is_new)) => (sys::readable(process).ok(), is_new),
            Err(error) => {
                tracing::error!("{error}; its VMs get no addresses and names");
                (None, true)
            }
        };
        match (&process, is_new) {
            // Another monitor has started it, because its VMs have changed.
            (Some(_), false) => pause = first,
            _ => {
                if process.is_some() {
                    tracing::error!(
                        "the server of the network {name} has ended, and was started again"
                    );
                }
                sleep(pause).await;
                pause = (pause * 2).min(longest);
            }
        }
        if let Some(process) = process {
            // An error is a reason to look, too.
            let _ = process.readable().await;
        }
    }
}
