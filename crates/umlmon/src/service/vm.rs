//! The procedures that start the kernel, end it, and wait for it (umlmon, the monitor process).

use std::time::Duration;

use rpc_xdr::umlmonctrl::*;

use crate::disks::holdings;
use crate::failure::{Denied, Failure};
use crate::life::kernels;
use crate::life::monitor::Ask;
use crate::life::run::Start;
use crate::service::{Service, wire};
use crate::status::Phase;

/// How long a call that ends the kernel waits until nothing of it is left.
const END_DEADLINE: Duration = Duration::from_secs(10);

impl Service {
    /// Starts the kernel without being asked by a client.
    pub(crate) async fn boot(&self) -> Result<(), Failure> {
        self.start(Vec::new()).await
    }

    async fn start(&self, extra: Vec<String>) -> Result<(), Failure> {
        let mut start = Start {
            extra,
            ..Start::default()
        };
        // Otherwise it is refused anyway.
        if self.monitor.status().borrow().phase == Phase::Inactive {
            let reading = start.reading.insert(self.setup.configuration());
            let kernel = async {
                match reading {
                    Ok(reading) => Some(kernels::look(&self.setup, &reading.vm).await),
                    Err(_) => None,
                }
            };
            let (kernel, cows) = tokio::join!(kernel, holdings::look(&self.setup));
            start.kernel = kernel;
            start.cows = cows?;
        }
        self.monitor.ask(Ask::Start(Box::new(start))).await
    }

    pub(super) async fn start_with(&self, args: VmStartArgs) -> Result<(), Failure> {
        self.start(kernel_arguments(args.extra)?).await
    }

    pub(super) async fn end(&self, ask: Ask) -> Result<(), Failure> {
        self.monitor.ask(ask).await?;
        if self.monitor.inactive_within(END_DEADLINE).await {
            return Ok(());
        }
        Err(Failure::Failed(
            "the VM has not ended yet (-kill ends it, -wait waits)".into(),
        ))
    }

    pub(super) async fn sysrq(&self, letters: &str) -> Result<(), Failure> {
        let mut letters = letters.chars();
        match (letters.next(), letters.next()) {
            (Some(key), None) if key.is_ascii_alphanumeric() => {
                self.monitor.ask(Ask::Sysrq(key)).await
            }
            _ => Err(Failure::Invalid(
                "a system request is one letter or digit (h shows a list on con0)".into(),
            )),
        }
    }

    pub(super) async fn wait_ready(&self, seconds: u32) -> Result<VmReadiness, Failure> {
        let mut status = self.monitor.status();
        if status.borrow().phase == Phase::Inactive {
            return Err(Denied::NotRunning.into());
        }
        let settled = status.wait_for(|status| status.ready || status.phase == Phase::Inactive);
        // Whether the time was over is seen from the state.
        let _ = tokio::time::timeout(Duration::from_secs(seconds.into()), settled).await;
        let now = status.borrow();
        Ok(VmReadiness {
            ready: now.ready,
            ended: now.phase == Phase::Inactive,
            last_end: wire::last_end(&now.last_end),
        })
    }
}

/// The kernel arguments that a client adds to those of the configuration.
fn kernel_arguments(extra: Vec<Vec<u8>>) -> Result<Vec<String>, Failure> {
    let not_text = |_| Failure::Invalid("a kernel argument must be UTF-8".into());
    let checked = |bytes| {
        let argument = String::from_utf8(bytes).map_err(not_text)?;
        config::check_user_argument(&argument)?;
        Ok(argument)
    };
    extra.into_iter().map(checked).collect()
}
