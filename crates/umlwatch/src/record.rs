//! Recording a console in the format of asciinema (asciicast v2), for its players.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::time::Instant;

use cli::{Exit, Failure};
use client::signals::{self, Signals};
use client::when::now;
use nix::sys::signal::Signal;
use rpc_xdr::umlmonctrl::{ConInfo, ConMode, ConOpenArgs, ConReadArgs, VmInfo};
use serde_json::json;

use crate::run::Runner;
use crate::terminal;

/// How long one call waits for output, in milliseconds; a signal is noticed within this time.
const STEP_MS: u32 = 200;
/// How much output one reply may carry, in bytes.
const OUTPUT_MAX: u32 = 65_536;

impl Runner {
    /// Records a channel until CTRL-C, or another signal that ends programs.
    pub(crate) fn record(&mut self, channel: &str, path: &Path) -> Result<(), Failure> {
        let info = self.call(|client| Ok(client.vm_info()?.into_result()))?;
        let open = ConOpenArgs {
            channel: channel.to_owned(),
            mode: ConMode::Watch,
            who: terminal::name(),
        };
        let opened = self.call(|client| Ok(client.con_open(&open)?.into_result()))?;
        let mut recording = Recording::begin(path, &info, channel)?;
        let signals = Signals::hold()?;
        let mut offset = opened.end;
        let signal = loop {
            let args = ConReadArgs {
                channel: channel.to_owned(),
                offset,
                max: OUTPUT_MAX,
                wait_ms: STEP_MS,
            };
            let chunk = self.call(|client| Ok(client.con_read(&args)?.into_result()))?;
            recording.output(&chunk.data)?;
            offset = chunk.offset.saturating_add(chunk.data.len() as u64);
            match signals.next() {
                None | Some(Signal::SIGWINCH) => {}
                Some(signal) => break signal,
            }
        };
        recording.end()?;
        // The connection is not attached any more.
        self.disconnect();
        drop(signals);
        match signal {
            Signal::SIGINT => Ok(()),
            signal => signals::obey(signal),
        }
    }
}

/// The file, and when it was begun.
struct Recording<'a> {
    path: &'a Path,
    file: BufWriter<File>,
    begun: Instant,
    /// The beginning of a character whose end is still to come.
    held: Vec<u8>,
}

impl<'a> Recording<'a> {
    fn begin(path: &'a Path, info: &VmInfo, channel: &str) -> Result<Recording<'a>, Failure> {
        let size = |of: fn(&ConInfo) -> u32, otherwise: u32| {
            let found = info.channels.iter().find(|con| con.channel == channel);
            found.map(of).filter(|n| *n > 0).unwrap_or(otherwise)
        };
        let file = File::create_new(path).map_err(|error| cannot("create", path, &error))?;
        let mut recording = Recording {
            path,
            file: BufWriter::new(file),
            begun: Instant::now(),
            held: Vec::new(),
        };
        let header = json!({
            "version": 2,
            "width": size(|con| con.columns, 80),
            "height": size(|con| con.rows, 24),
            "timestamp": now(),
            "title": format!("{channel} of {}", info.vm),
            "env": {"TERM": "linux"},
        });
        recording.line(&header)?;
        Ok(recording)
    }

    /// Output of the guest. The format allows text only, so bytes that are no text become U+FFFD.
    fn output(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.held.extend_from_slice(bytes);
        let whole = self.held.len() - cli::incomplete_at_end(&self.held);
        let rest = self.held.split_off(whole);
        let text = String::from_utf8_lossy(&self.held).into_owned();
        self.held = rest;
        self.event(&text)
    }

    fn event(&mut self, text: &str) -> Result<(), Failure> {
        let seconds = self.begun.elapsed().as_secs_f64();
        self.line(&json!([seconds, "o", text]))
    }

    /// Each line is written at once, so that an interrupted recording is valid as far as it goes.
    fn line(&mut self, line: &serde_json::Value) -> Result<(), Failure> {
        let written = writeln!(self.file, "{line}").and_then(|()| self.file.flush());
        written.map_err(|error| cannot("write", self.path, &error))
    }

    fn end(mut self) -> Result<(), Failure> {
        match String::from_utf8_lossy(&std::mem::take(&mut self.held)) {
            text if text.is_empty() => Ok(()),
            text => self.event(&text),
        }
    }
}

fn cannot(what: &str, path: &Path, error: &std::io::Error) -> Failure {
    let path = path.display();
    Failure::new(Exit::Failed, format_args!("cannot {what} {path}: {error}"))
}
