//! `-wait-ready`: waits until the guest has said that it is ready, or until a channel shows a text.

use std::time::{Duration, Instant};

use cli::{Exit, Failure};
use client::answered;
use client::words::how_ended;
use rpc_xdr::client::ClientError;
use rpc_xdr::umlmonctrl::{
    ConMode, ConOpenArgs, ConReadArgs, ConReadResult, VmLastEnd, VmState, VmWaitArgs,
};

use crate::argument::Sign;
use crate::opening::reopen;
use crate::place::Place;
use crate::run::{Runner, seconds_until};
use client::terminal;

/// How much output one reply may carry, in bytes.
const OUTPUT_MAX: u32 = 65_536;
/// The longest that one call waits, in milliseconds.
const WAIT_MS: u128 = 60_000;

impl Runner {
    /// Waits for a sign that the present run of the kernel is ready.
    pub(crate) fn wait_ready(&mut self, seconds: u32, sign: &Sign) -> Result<(), Failure> {
        let ready = match sign {
            Sign::Word => self.wait_for_word(seconds),
            Sign::Shown { channel, text } => {
                let shown = self.wait_for_text(seconds, &channel.to_string(), text.as_bytes());
                // It is not attached any more.
                self.disconnect();
                shown
            }
        };
        match ready {
            // It did run: this umlwatch has started it.
            Err(failure) if failure.exit == Exit::NotRunning && self.has_started() => {
                let info = self.call(|client| Ok(client.vm_info()?.into_result()))?;
                Err(ended(&info.last_end))
            }
            ready => ready,
        }
    }

    fn wait_for_word(&mut self, seconds: u32) -> Result<(), Failure> {
        let until = Instant::now() + Duration::from_secs(seconds.into());
        let now = self.client_mut().ask(|monitor| {
            let args = VmWaitArgs {
                seconds: seconds_until(until),
            };
            Ok(monitor.vm_ready(&args)?.into_result())
        })?;
        match (now.ready, now.ended) {
            (true, _) => Ok(()),
            (false, true) => Err(ended(&now.last_end)),
            (false, false) => Err(Failure::new(
                Exit::Timeout,
                format_args!(
                    "the guest has not reported within {seconds} seconds that it is ready (echo ready > /proc/mconsole)"
                ),
            )),
        }
    }

    fn wait_for_text(&mut self, seconds: u32, channel: &str, text: &[u8]) -> Result<(), Failure> {
        let info = self.call(|client| Ok(client.vm_info()?.into_result()))?;
        if info.state == VmState::Inactive {
            return Err(Failure::new(Exit::NotRunning, "the kernel is not running"));
        }
        let open = ConOpenArgs {
            channel: channel.to_owned(),
            mode: ConMode::Watch,
            who: terminal::name(),
        };
        let opened = self.call(|client| Ok(client.con_open(&open)?.into_result()))?;
        let mut search = Search::new(text);
        let mut place = Place::at(opened.run_start.max(opened.start));
        place.learn(&info);
        let until = Instant::now() + Duration::from_secs(seconds.into());
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let args = ConReadArgs {
                channel: channel.to_owned(),
                offset: place.offset,
                max: OUTPUT_MAX,
                wait_ms: u32::try_from(left.as_millis().min(WAIT_MS)).unwrap_or(0),
            };
            let chunk = match self.client_mut().monitor()?.con_read(&args) {
                Err(error @ ClientError::Lost(_)) => {
                    if !self.watch_again(channel, error, &mut place)? {
                        search = Search::new(text);
                    }
                    continue;
                }
                chunk => answered(chunk.map(ConReadResult::into_result))?,
            };
            if chunk.state == VmState::Inactive {
                let info = self.call(|client| Ok(client.vm_info()?.into_result()))?;
                return Err(ended(&info.last_end));
            }
            if chunk.offset != place.offset {
                search = Search::new(text);
            }
            if search.find(&chunk.data) {
                return Ok(());
            }
            place.offset = chunk.offset.saturating_add(chunk.data.len() as u64);
            if left.is_zero() && chunk.data.is_empty() {
                let text = String::from_utf8_lossy(text);
                return Err(Failure::new(
                    Exit::Timeout,
                    format_args!("{channel} has not shown '{text}' within {seconds} seconds"),
                ));
            }
        }
    }
}

impl Runner {
    /// Goes on watching after a connection broke; false if the VM is another one.
    fn watch_again(
        &mut self,
        channel: &str,
        error: ClientError,
        place: &mut Place,
    ) -> Result<bool, Failure> {
        let pause = |time| {
            std::thread::sleep(time);
            Ok(())
        };
        let client = self.client_mut();
        let (opened, info) = client.ask_again(error, pause, |it| reopen(it, channel, false))?;
        client.tell_that_it_is_back();
        Ok(place.find(&opened, &info))
    }
}

fn ended(end: &VmLastEnd) -> Failure {
    let how = how_ended(end);
    Failure::new(Exit::Failed, format_args!("the VM ended first: {how}"))
}

/// Finds a text in a stream that comes in pieces.
struct Search<'a> {
    text: &'a [u8],
    /// The last bytes, in which it may have begun.
    held: Vec<u8>,
}

impl<'a> Search<'a> {
    fn new(text: &'a [u8]) -> Search<'a> {
        let held = Vec::new();
        Search { text, held }
    }

    /// Whether the text ends in this piece.
    fn find(&mut self, piece: &[u8]) -> bool {
        self.held.extend_from_slice(piece);
        let windows = self.held.windows(self.text.len());
        let found = windows.into_iter().any(|window| window == self.text);
        let kept = self.held.len().min(self.text.len().saturating_sub(1));
        self.held.drain(..self.held.len() - kept);
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_found_wherever_the_stream_is_cut() {
        let stream = b"boot\r\nlog\x1b[0min: login: ";
        for cut in 0..=stream.len() {
            let (a, b) = stream.split_at(cut);
            let mut search = Search::new(b"login:");
            assert!(search.find(a) ^ search.find(b), "cut at {cut}");
            let mut search = Search::new(b"logout");
            assert!(!search.find(a) && !search.find(b));
            assert!(search.held.len() < 6);
        }
    }
}
