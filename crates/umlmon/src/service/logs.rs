//! The logs: of the monitor, and of the channels (umlmon, the monitor process).
//!
//! A name is looked up among what is configured and never becomes a path.

use files::LogDir;
use pty::{Log, LogStyle};
use rpc_xdr::umlmonctrl::*;

use crate::failure::Failure;
use crate::service::Service;

/// What the monitor's own log is called here, whatever its file is called.
const MONITOR: &str = "monitor";

impl Service {
    pub(super) fn tail(&self, args: &LogTailArgs) -> Result<LogRange, Failure> {
        let range = if args.file == MONITOR {
            self.own_log()?.tail(args.lines)?
        } else {
            let channel = self.channel(&args.file)?;
            match &*channel.log() {
                Some(log) => log.tail(args.lines)?,
                None => channel.tail(args.lines)..channel.range().end,
            }
        };
        Ok(LogRange {
            start: range.start,
            end: range.end,
        })
    }

    pub(super) fn read_log(&self, args: &LogReadArgs) -> Result<LogChunk, Failure> {
        let max = args.max.min(CTL_DATA_MAX) as usize;
        let chunk = if args.file == MONITOR {
            self.own_log()?.read(args.offset, max)?
        } else {
            let channel = self.channel(&args.file)?;
            match &*channel.log() {
                Some(log) => log.read(args.offset, max)?,
                None => channel.peek(args.offset, max),
            }
        };
        Ok(LogChunk {
            offset: chunk.offset,
            data: chunk.data,
        })
    }

    /// The monitor's own log, opened for this call: it may have been rotated since the last one.
    fn own_log(&self) -> Result<Log, Failure> {
        let vm = &self.setup.configured.vm;
        let missing = || Failure::NotFound("the monitor writes no log (parameter logfile)".into());
        let name = vm.logfile.as_ref().ok_or_else(missing)?;
        let dir = LogDir::open(&vm.logdir).map_err(|error| {
            Failure::Failed(format!(
                "cannot use the log directory {}: {error}",
                vm.logdir.display()
            ))
        })?;
        Ok(Log::open(&dir, name, LogStyle::default())?)
    }

    /// Reopens all log files after a signal: there is no caller to whom an error could be returned.
    pub fn reopen_logs(&self) {
        match self.rotate_logs() {
            Ok(()) => tracing::info!("log files reopened"),
            Err(failure) => tracing::warn!("{failure}"),
        }
    }

    pub(super) fn rotate_logs(&self) -> Result<(), Failure> {
        let own = self
            .log
            .reopen()
            .map_err(|error| Failure::Failed(error.to_string()));
        // If one file cannot be opened, the others are opened nevertheless.
        self.setup.channels.rotate()?;
        own
    }
}
