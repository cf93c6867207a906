//! The message that another client has taken over the channel, shown so that it is noticed: a program that fills the
//! screen repaints it for the size of the other terminal, over the first message.

use std::time::{Duration, Instant};

/// How long a message is visible before it is repeated.
const STANDS: Duration = Duration::from_secs(1);

/// The right to write is lost.
#[derive(Debug)]
pub(crate) struct Loss {
    text: String,
    told: Instant,
    /// The guest has painted its screen since, and probably over the message.
    covered: bool,
    /// Show it again when it is covered: once after the first time, and whenever the user types nevertheless.
    again: bool,
}

impl Loss {
    /// It has just been shown.
    pub(crate) fn new(text: String) -> Loss {
        Loss {
            text,
            told: Instant::now(),
            covered: false,
            again: true,
        }
    }

    /// The guest wrote something. Output that moves the cursor to a place (CUP) paints; all other output appears below
    /// the message.
    pub(crate) fn shown(&mut self, output: &[u8]) {
        let mut sequences = output.split(|&byte| byte == 0x1b).skip(1);
        self.covered |= sequences.any(|sequence| {
            let parameter = |byte: &u8| byte.is_ascii_digit() || *byte == b';';
            let text = sequence.strip_prefix(b"[");
            text.and_then(|text| text.iter().find(|byte| !parameter(byte))) == Some(&b'H')
        });
    }

    /// The user typed something.
    pub(crate) fn typed(&mut self) {
        self.again = true;
    }

    /// How long to wait until it is shown again; None: not necessary.
    pub(crate) fn waits(&self) -> Option<Duration> {
        let due = self.covered && self.again;
        due.then(|| STANDS.saturating_sub(self.told.elapsed()))
    }

    /// The message to show now.
    pub(crate) fn due(&mut self) -> Option<String> {
        if self.waits()? > Duration::ZERO {
            return None;
        }
        self.told = Instant::now();
        (self.covered, self.again) = (false, false);
        Some(self.text.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn told_again_when_it_is_covered() {
        let mut loss = Loss::new("lost".to_owned());
        let earlier = Instant::now().checked_sub(STANDS).unwrap();
        assert_eq!(loss.waits(), None, "it is still to be seen");
        loss.shown(b"H\r\n\x1b[01;32mroot\x1b[0m \x1b[K");
        assert_eq!(loss.waits(), None, "what a shell writes comes below");
        loss.shown(b"\x1b[?25l\x1b[12;1Htext");
        assert!(loss.waits().is_some_and(|left| left > Duration::ZERO));
        assert_eq!(loss.due(), None);
        loss.told = earlier;
        assert_eq!(loss.due().as_deref(), Some("lost"));
        loss.shown(b"\x1b[H");
        loss.told = earlier;
        assert_eq!(loss.due(), None, "who only looks on is not bothered");
        loss.typed();
        assert_eq!(loss.due().as_deref(), Some("lost"));
        loss.typed();
        loss.told = earlier;
        assert_eq!(loss.due(), None, "it is still to be seen");
    }
}
