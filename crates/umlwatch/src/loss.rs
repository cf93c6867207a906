//! That somebody has taken the channel over, told so that it is seen: a program that fills the screen paints it anew for
//! the size of the other terminal, over the first remark.

use std::time::{Duration, Instant};

/// How long a remark stands before it is repeated.
const STANDS: Duration = Duration::from_secs(1);

/// The right to write is lost.
#[derive(Debug)]
pub(crate) struct Loss {
    text: String,
    told: Instant,
    /// The guest has painted its screen since, and probably over the remark.
    covered: bool,
    /// Tell it again when it is covered: once after the first time, and whenever the user types nevertheless.
    again: bool,
}

impl Loss {
    /// It is told just now.
    pub(crate) fn new(text: String) -> Loss {
        Loss {
            text,
            told: Instant::now(),
            covered: false,
            again: true,
        }
    }

    /// The guest wrote something. What moves the cursor to a place (CUP) paints; all else appears below the remark.
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

    /// How long to wait until it is told again; None: it need not be.
    pub(crate) fn waits(&self) -> Option<Duration> {
        let due = self.covered && self.again;
        due.then(|| STANDS.saturating_sub(self.told.elapsed()))
    }

    /// What is to be told now.
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
