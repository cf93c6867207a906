//! The connection of `kernelcheck` to the monitor: requests about the VM, and the output of its channels (umladmin).

use std::time::{Duration, Instant};

use client::{Client, Monitor, answered};
use rpc_xdr::client::ClientError;
use rpc_xdr::umlmonctrl::*;

use super::watch::Watch;

/// How long the monitor may take for an answer; longer waits are divided.
const ANSWER: Duration = Duration::from_secs(60);
/// How much of a channel is read at once, in bytes.
const CHUNK: u32 = 65_536;

/// A connection. It is not made again if it is cut off, so that all later calls fail.
pub(crate) struct Talk {
    monitor: Monitor,
}

fn said<T>(answer: Result<Result<T, CtlError>, ClientError>) -> Result<T, String> {
    answered(answer).map_err(|failure| failure.message)
}

impl Talk {
    pub(crate) fn begin(client: Client, watch: &Watch) -> Result<Talk, String> {
        let connection = client.with_limit(ANSWER).connect();
        let monitor = connection.map_err(|failure| failure.message)?.monitor;
        watch
            .attend(monitor.rpc.stream())
            .map_err(|error| format!("cannot watch the connection: {error}"))?;
        Ok(Talk { monitor })
    }

    pub(crate) fn info(&mut self) -> Result<VmInfo, String> {
        said(self.monitor.vm_info().map(VmInfoResult::into_result))
    }

    /// Starts the kernel with these arguments in addition.
    pub(crate) fn start(&mut self, extra: &[&str]) -> Result<(), String> {
        let extra = extra.iter().map(|arg| arg.as_bytes().to_vec()).collect();
        said(
            self.monitor
                .vm_start(&VmStartArgs { extra })
                .map(CtlResult::into_result),
        )
    }

    pub(crate) fn suspend(&mut self) -> Result<(), String> {
        said(self.monitor.vm_suspend().map(CtlResult::into_result))
    }

    pub(crate) fn resume(&mut self) -> Result<(), String> {
        said(self.monitor.vm_continue().map(CtlResult::into_result))
    }

    pub(crate) fn press(&mut self) -> Result<(), String> {
        let args = VmCtrlaltdelArgs { stop: true };
        said(
            self.monitor
                .vm_ctrlaltdel(&args)
                .map(CtlResult::into_result),
        )
    }

    pub(crate) fn sysrq(&mut self, letter: &str) -> Result<(), String> {
        let letter = letter.to_owned();
        said(
            self.monitor
                .vm_sysrq(&VmSysrqArgs { letter })
                .map(CtlResult::into_result),
        )
    }

    /// Ends the kernel, if it runs.
    pub(crate) fn kill(&mut self) -> Result<(), String> {
        match self.monitor.vm_kill().map(CtlResult::into_result) {
            Ok(Err(error)) if error.code == CtlCode::NotRunning => Ok(()),
            other => said(other),
        }
    }

    /// How the run ended; None if it has not ended within so many seconds.
    pub(crate) fn end(&mut self, seconds: u32) -> Result<Option<VmLastEnd>, String> {
        let waited = said(
            self.monitor
                .vm_wait(&VmWaitArgs { seconds })
                .map(VmWaitResult::into_result),
        )?;
        Ok(waited.inactive.then_some(waited.last_end))
    }

    /// Whether the guest reports within so many seconds that it is ready.
    pub(crate) fn is_ready(&mut self, seconds: u32) -> Result<bool, String> {
        let waited = said(
            self.monitor
                .vm_ready(&VmWaitArgs { seconds })
                .map(VmReadyResult::into_result),
        )?;
        Ok(waited.ready)
    }

    /// Gets the right to type into a channel, and sets the size of its window; returns the channel's present end.
    pub(crate) fn open(&mut self, channel: &str, rows: u32, columns: u32) -> Result<u64, String> {
        let channel = channel.to_owned();
        let (mode, who) = (ConMode::Force, "kernelcheck".to_owned());
        let args = ConOpenArgs {
            channel: channel.clone(),
            mode,
            who,
        };
        let opened = said(self.monitor.con_open(&args).map(ConOpenResult::into_result))?;
        let size = ConResizeArgs {
            channel,
            rows,
            columns,
        };
        said(self.monitor.con_resize(&size).map(CtlResult::into_result))?;
        Ok(opened.end)
    }

    pub(crate) fn write(&mut self, channel: &str, text: &str) -> Result<(), String> {
        let args = ConWriteArgs {
            channel: channel.to_owned(),
            data: text.as_bytes().to_vec(),
        };
        said(self.monitor.con_write(&args).map(CtlResult::into_result))
    }

    /// The output of an open channel from an offset on, until `found`, the end of the VM, or the end of the time.
    pub(crate) fn read(
        &mut self,
        channel: &str,
        mut offset: u64,
        limit: Duration,
        found: impl Fn(&str) -> bool,
    ) -> Result<String, String> {
        let until = Instant::now() + limit;
        let mut text = String::new();
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let args = ConReadArgs {
                channel: channel.to_owned(),
                offset,
                max: CHUNK,
                wait_ms: u32::try_from(left.as_millis()).unwrap_or(0).min(30_000),
            };
            let chunk = said(self.monitor.con_read(&args).map(ConReadResult::into_result))?;
            text.push_str(&String::from_utf8_lossy(&chunk.data));
            offset = chunk.offset + chunk.data.len() as u64;
            let is_over = chunk.data.is_empty() && chunk.state == VmState::Inactive;
            if found(&text) || left.is_zero() || is_over {
                return Ok(text);
            }
        }
    }
}
