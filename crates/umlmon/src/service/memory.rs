//! The procedures for the memory of a guest that runs (umlmon, the monitor process).

use std::rc::Rc;

use rpc_xdr::umlmonctrl::VmReclaimed;
use tokio::task::spawn_local;

use crate::failure::{Denied, Failure};
use crate::life::memory::Memory;
use crate::life::run::Look;
use crate::service::Service;
use crate::status::Phase;

impl Service {
    pub(super) async fn resize_memory(&self, megabytes: u32) -> Result<(), Failure> {
        let memory = self.running().await?.memory;
        to_its_end(async move { memory.resize(megabytes).await }).await
    }

    pub(super) async fn reclaim_memory(&self) -> Result<VmReclaimed, Failure> {
        let before = self.running().await?;
        let memory: Rc<Memory> = before.memory;
        to_its_end(async move { memory.reclaim().await }).await?;
        let after = self.running().await?.mem_used;
        Ok(VmReclaimed {
            bytes: before.mem_used.saturating_sub(after),
        })
    }

    /// A kernel that is suspended must not be asked to do anything.
    async fn running(&self) -> Result<Look, Failure> {
        self.must_run()?;
        if self.monitor.status().borrow().phase == Phase::Suspended {
            return Err(Denied::AlreadySuspended.into());
        }
        self.monitor
            .look()
            .await
            .ok_or_else(|| Denied::NotRunning.into())
    }
}

/// What is taken must be given back, even if the client goes meanwhile.
async fn to_its_end(
    work: impl Future<Output = Result<(), Failure>> + 'static,
) -> Result<(), Failure> {
    let done = spawn_local(work).await;
    done.unwrap_or_else(|error| Err(Failure::Failed(error.to_string())))
}
