//! What the memory of a channel tells the next monitor, as bytes. Used by the umlmon daemon.
//!
//! Numbers are little-endian, of 8 bytes each. The first one is the version of the format.

use std::ops::Range;

use files::LogEnd;

use crate::log::Intent;
use crate::slots::take_u64;
use crate::{SIZES_MAX, WindowSize};

/// The version of the format of state and view.
const VERSION: u64 = 1;
/// What flags say: there is an intent; it begins a line.
const INTENT: u64 = 1;
const LINE_START: u64 = 2;

/// What the output has come to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct State {
    /// The offsets of the bytes in the history.
    pub kept: Range<u64>,
    /// How many of the last ones are in the pipe and perhaps not in the log, 0 if there are none.
    pub pending: u64,
    /// Where these were about to be appended to the log; if there are none, where the log has a gap of which it does
    /// not tell yet.
    pub intent: Option<Intent>,
}

impl State {
    /// As bytes.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let (flags, end) = match &self.intent {
            Some(intent) if intent.line_start => (INTENT | LINE_START, intent.end),
            Some(intent) => (INTENT, intent.end),
            None => (0, NO_LOG),
        };
        let Range { start, end: kept } = self.kept;
        let numbers = [VERSION, start, kept, self.pending, flags];
        let log = [end.file.0, end.file.1, end.size, end.lost];
        bytes(numbers.into_iter().chain(log))
    }

    /// From bytes; None if they are no state.
    pub(crate) fn from_bytes(mut bytes: &[u8]) -> Option<Self> {
        let mut next = || take_u64(&mut bytes);
        (next()? == VERSION).then_some(())?;
        let kept = next()?..next()?;
        let (pending, flags) = (next()?, next()?);
        let end = LogEnd {
            file: (next()?, next()?),
            size: next()?,
            lost: next()?,
        };
        let line_start = flags & LINE_START != 0;
        let intent = (flags & INTENT != 0).then_some(Intent { end, line_start });
        let possible = kept.start <= kept.end && pending <= kept.end && bytes.is_empty();
        possible.then_some(Self {
            kept,
            pending,
            intent,
        })
    }
}

const NO_LOG: LogEnd = LogEnd {
    file: (0, 0),
    size: 0,
    lost: 0,
};

/// What is shown, at some time.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct View {
    /// How much of the output it shows.
    pub offset: u64,
    /// The sizes that the window has had.
    pub sizes: Vec<WindowSize>,
    /// What draws the screen; empty: that is too much to be kept.
    pub redraw: Vec<u8>,
}

impl View {
    /// As bytes.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let head = [VERSION, self.offset, self.sizes.len() as u64];
        let sizes = self.sizes.iter().flat_map(|size| {
            let window = u64::from(size.rows) << 16 | u64::from(size.columns);
            [size.number, size.offset, window]
        });
        let mut bytes = bytes(head.into_iter().chain(sizes));
        bytes.extend_from_slice(&self.redraw);
        bytes
    }

    /// From bytes; None if they are no view.
    pub(crate) fn from_bytes(mut bytes: &[u8]) -> Option<Self> {
        let mut next = || take_u64(&mut bytes);
        (next()? == VERSION).then_some(())?;
        let offset = next()?;
        let count = next().filter(|count| *count <= SIZES_MAX as u64)?;
        let mut size = || {
            let (number, offset, window) = (next()?, next()?, next()?);
            Some(WindowSize {
                number,
                offset,
                rows: u16::try_from(window >> 16).ok()?,
                columns: u16::try_from(window & 0xffff).ok()?,
            })
        };
        let sizes = (0..count).map(|_| size()).collect::<Option<_>>()?;
        Some(Self {
            offset,
            sizes,
            redraw: bytes.to_vec(),
        })
    }
}

fn bytes(numbers: impl Iterator<Item = u64>) -> Vec<u8> {
    numbers.flat_map(u64::to_le_bytes).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_state_comes_back(
            kept in (0..1_u64 << 60, 0..1_u64 << 40), pending: u16, log: Option<[u64; 4]>, line_start: bool,
        ) {
            let kept = kept.0..kept.0 + kept.1 + u64::from(pending);
            let intent = log.map(|[dev, inode, size, lost]| Intent {
                end: LogEnd { file: (dev, inode), size, lost },
                line_start,
            });
            let state = State { kept, pending: pending.into(), intent };
            prop_assert_eq!(State::from_bytes(&state.to_bytes()), Some(state));
        }

        #[test]
        fn a_view_comes_back(
            offset: u64, sizes in prop::collection::vec((any::<[u64; 2]>(), any::<[u16; 2]>()), 0..64), redraw: Vec<u8>,
        ) {
            let size = |([number, offset], [rows, columns]): ([u64; 2], [u16; 2])| WindowSize { number, offset, rows, columns };
            let view = View { offset, sizes: sizes.into_iter().map(size).collect(), redraw };
            prop_assert_eq!(View::from_bytes(&view.to_bytes()), Some(view));
        }

        #[test]
        fn any_bytes_are_parsed(bytes: Vec<u8>, numbers in prop::collection::vec(0..5_u64, 0..12)) {
            let numbers = super::bytes(numbers.into_iter());
            for bytes in [&bytes, &numbers] {
                if let Some(state) = State::from_bytes(bytes) {
                    prop_assert!(state.kept.start <= state.kept.end && state.pending <= state.kept.end);
                }
                if let Some(view) = View::from_bytes(bytes) {
                    prop_assert!(view.sizes.len() <= SIZES_MAX);
                }
            }
        }
    }
}
