//! Recording a console in the format of asciinema (asciicast v2), for its players.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::time::Instant;

use cli::{Exit, Failure};
use client::when::now;
use client::{Monitor, answered, signals};
use nix::sys::signal::Signal;
use rpc_xdr::client::ClientError;
use rpc_xdr::umlmonctrl::{
    ConChunk, ConMode, ConOpenArgs, ConReadArgs, ConSize, ConSizesArgs, CtlError,
};
use serde_json::json;

use crate::disks::Interruption;
use crate::opening::reopen;
use crate::place::Place;
use crate::run::Runner;
use client::terminal;

/// How long one call waits for output, in milliseconds; a signal is noticed within this time.
const STEP_MS: u32 = 200;
/// How much output one reply may carry, in bytes.
const OUTPUT_MAX: u32 = 65_536;

impl Runner {
    /// Records a channel until CTRL-C, or another signal that ends programs.
    pub(crate) fn record(&mut self, channel: &str, path: &Path) -> Result<(), Failure> {
        let open = ConOpenArgs {
            channel: channel.to_owned(),
            mode: ConMode::Watch,
            who: terminal::name(),
        };
        let opened = self.call(|client| Ok(client.con_open(&open)?.into_result()))?;
        let info = self.call(|client| Ok(client.vm_info()?.into_result()))?;
        let mut place = Place::at(opened.end);
        place.learn(&info);
        let mut sizes = Sizes::default();
        sizes.take(self.sizes_after(channel, 0)?);
        let size = sizes.at(opened.end);
        let title = format!("{channel} of {}", self.vm());
        let mut recording = Recording::begin(path, &title, size)?;
        let mut signals = Interruption::hold()?;
        let ended = loop {
            let step = step(self.client_mut().monitor()?, channel, &place, &sizes);
            let goes_on = match step {
                Err(error @ ClientError::Lost(_)) => {
                    let again = self.record_again(channel, error, &mut place, &mut signals);
                    again.map(|()| sizes.begin_again(place.offset))
                }
                step => answered(step).and_then(|(chunk, later)| {
                    sizes.take(later);
                    recording.advance(&chunk, &mut sizes)?;
                    place.offset = chunk.offset.saturating_add(chunk.data.len() as u64);
                    Ok(())
                }),
            };
            signals.look();
            match signals.came() {
                Some(signal) => break signal,
                None => goes_on?,
            }
        };
        recording.end()?;
        // The connection is not attached any more.
        self.disconnect();
        drop(signals);
        match ended {
            Signal::SIGINT => Ok(()),
            signal => signals::obey(signal),
        }
    }

    /// Goes on after a connection broke.
    fn record_again(
        &mut self,
        channel: &str,
        error: ClientError,
        place: &mut Place,
        signals: &mut Interruption,
    ) -> Result<(), Failure> {
        let client = self.client_mut();
        let pause = |time| signals.pause(time);
        let (opened, info) = client.ask_again(error, pause, |it| reopen(it, channel, false))?;
        client.tell_that_it_is_back();
        place.find(&opened, &info);
        Ok(())
    }

    /// The sizes that the window of the channel has had after the one with this number.
    fn sizes_after(&mut self, channel: &str, number: u64) -> Result<Vec<ConSize>, Failure> {
        let args = ConSizesArgs {
            channel: channel.to_owned(),
            after: number,
        };
        let sizes = self.call(|client| Ok(client.con_sizes(&args)?.into_result()))?;
        Ok(sizes.sizes)
    }
}

/// The output that comes next, and the sizes that the window has had meanwhile: asked for afterwards, so that none
/// within the output is missing.
fn step(
    monitor: &mut Monitor,
    channel: &str,
    place: &Place,
    sizes: &Sizes,
) -> Result<Result<(ConChunk, Vec<ConSize>), CtlError>, ClientError> {
    let args = ConReadArgs {
        channel: channel.to_owned(),
        offset: place.offset,
        max: OUTPUT_MAX,
        wait_ms: STEP_MS,
    };
    let later = ConSizesArgs {
        channel: channel.to_owned(),
        after: sizes.last,
    };
    let chunk = monitor.con_read(&args)?.into_result();
    let later = monitor.con_sizes(&later)?.into_result();
    Ok(chunk.and_then(|chunk| Ok((chunk, later?.sizes))))
}

/// Sizes of the window whose places in the output have not been reached.
#[derive(Default)]
struct Sizes {
    waiting: VecDeque<ConSize>,
    /// The number of the last one that was taken.
    last: u64,
    /// Those at places before this one do not count.
    from: u64,
}

impl Sizes {
    fn take(&mut self, sizes: Vec<ConSize>) {
        self.last = sizes.last().map_or(self.last, |size| size.number);
        let sizes = sizes.into_iter().filter(|size| size.offset >= self.from);
        self.waiting.extend(sizes);
    }

    /// Another monitor may count them anew.
    fn begin_again(&mut self, from: u64) {
        *self = Sizes {
            from,
            ..Sizes::default()
        };
    }

    /// The next one at or before an offset.
    fn next(&mut self, offset: u64) -> Option<ConSize> {
        self.waiting.pop_front_if(|size| size.offset <= offset)
    }

    /// The size at an offset: rows and columns.
    fn at(&mut self, offset: u64) -> (u32, u32) {
        let sizes = std::iter::from_fn(|| self.next(offset));
        sizes
            .last()
            .map_or((24, 80), |size| (size.rows, size.columns))
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
    fn begin(path: &'a Path, title: &str, size: (u32, u32)) -> Result<Recording<'a>, Failure> {
        let file = File::create_new(path).map_err(|error| cannot("create", path, &error))?;
        let mut recording = Recording {
            path,
            file: BufWriter::new(file),
            begun: Instant::now(),
            held: Vec::new(),
        };
        let header = json!({
            "version": 2,
            "width": size.1,
            "height": size.0,
            "timestamp": now(),
            "title": title,
            "env": {"TERM": "linux"},
        });
        recording.line(&header)?;
        Ok(recording)
    }

    /// Output of the guest, and the sizes that the window got meanwhile, each at its place.
    fn advance(&mut self, chunk: &ConChunk, sizes: &mut Sizes) -> Result<(), Failure> {
        let mut rest = chunk.data.as_slice();
        let end = chunk.offset.saturating_add(rest.len() as u64);
        while let Some(size) = sizes.next(end) {
            let after = usize::try_from(end.saturating_sub(size.offset)).unwrap_or(usize::MAX);
            let (before, after) = rest.split_at(rest.len().saturating_sub(after));
            self.output(before)?;
            self.event("r", &format!("{}x{}", size.columns, size.rows))?;
            rest = after;
        }
        self.output(rest)
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
        self.event("o", &text)
    }

    fn event(&mut self, code: &str, data: &str) -> Result<(), Failure> {
        let seconds = self.begun.elapsed().as_secs_f64();
        self.line(&json!([seconds, code, data]))
    }

    /// Each line is written at once, so that an interrupted recording is valid as far as it goes.
    fn line(&mut self, line: &serde_json::Value) -> Result<(), Failure> {
        let written = writeln!(self.file, "{line}").and_then(|()| self.file.flush());
        written.map_err(|error| cannot("write", self.path, &error))
    }

    fn end(mut self) -> Result<(), Failure> {
        match String::from_utf8_lossy(&std::mem::take(&mut self.held)) {
            text if text.is_empty() => Ok(()),
            text => self.event("o", &text),
        }
    }
}

fn cannot(what: &str, path: &Path, error: &std::io::Error) -> Failure {
    let path = path.display();
    Failure::new(Exit::Failed, format_args!("cannot {what} {path}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rpc_xdr::umlmonctrl::VmState;

    /// What is recorded of chunks of output, of which some change their sizes.
    fn recorded(chunks: &[(u64, &str)], changes: &[(u64, u32)]) -> Vec<(String, String)> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("cast");
        let mut recording = Recording::begin(&path, "con1 of vm1", (24, 80)).unwrap();
        let mut sizes = Sizes::default();
        let changes = (1..).zip(changes).map(|(number, (offset, rows))| ConSize {
            number,
            offset: *offset,
            rows: *rows,
            columns: 80,
        });
        sizes.take(changes.collect());
        for (offset, data) in chunks {
            let chunk = ConChunk {
                offset: *offset,
                data: data.as_bytes().to_vec(),
                state: VmState::Running,
                writer: false,
                taken_by: String::new(),
                standstill: None,
            };
            recording.advance(&chunk, &mut sizes).unwrap();
        }
        recording.end().unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let events = text.lines().skip(1).map(|line| {
            let (_, code, data): (f64, String, String) = serde_json::from_str(line).unwrap();
            (code, data)
        });
        events.collect()
    }

    #[test]
    fn a_size_is_recorded_at_its_place_in_the_output() {
        let pair = |(code, data): (&str, &str)| (code.to_owned(), data.to_owned());
        let chunks = [(10, "abcdef"), (16, ""), (16, "gh")];
        let events = [("o", "abc"), ("r", "80x30"), ("r", "80x40"), ("o", "def")];
        let later = [("r", "80x50"), ("o", "g"), ("r", "80x60"), ("o", "h")];
        let changes = [(13, 30), (13, 40), (16, 50), (17, 60)];
        let expected: Vec<_> = events.into_iter().chain(later).map(pair).collect();
        assert_eq!(recorded(&chunks, &changes), expected);
        // Within bytes that were lost: before what follows.
        let expected: Vec<_> = [("r", "80x30"), ("o", "x")].map(pair).to_vec();
        assert_eq!(recorded(&[(100, "x")], &[(50, 30)]), expected);
    }
}
