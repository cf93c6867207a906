//! A dialogue with a program: what it says is awaited, what we say is typed (cargo xtask demo, and the tests).

use std::io::{Read, Write};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

/// Long enough for a program that has printed its prompt to switch the echo off.
const ECHO_OFF: Duration = Duration::from_millis(300);

/// Both directions of a conversation; a thread reads, so that waiting can end with a deadline.
pub struct Dialogue {
    writer: Box<dyn Write + Send>,
    chunks: Receiver<Vec<u8>>,
    /// Said by the other side and not yet awaited.
    heard: Vec<u8>,
}

impl Dialogue {
    /// Listens to `reader` and types into `writer`.
    pub fn new(
        reader: impl Read + Send + 'static,
        writer: impl Write + Send + 'static,
    ) -> Dialogue {
        let (sender, chunks) = channel();
        thread::spawn(move || listen(reader, |chunk| sender.send(chunk).is_ok()));
        Dialogue {
            writer: Box::new(writer),
            chunks,
            heard: Vec::new(),
        }
    }

    /// Types `text`.
    ///
    /// # Errors
    /// If the other side has gone.
    pub fn send(&mut self, text: &str) -> anyhow::Result<()> {
        self.writer
            .write_all(text.as_bytes())
            .and_then(|()| self.writer.flush())
            .with_context(|| format!("cannot type {text:?}"))
    }

    /// Waits until the other side has said `text`; returns what it said since the last call, up to the end of `text`.
    ///
    /// # Errors
    /// If it ends, or does not say so in time; what it said instead is part of the error.
    pub fn expect(&mut self, text: &str, within: Duration) -> anyhow::Result<String> {
        let deadline = Instant::now() + within;
        let mut searched = 0;
        loop {
            if let Some(at) = find(
                self.heard.get(searched..).unwrap_or_default(),
                text.as_bytes(),
            ) {
                let at = searched + at;
                let rest = self.heard.split_off(at + text.len());
                let said = std::mem::replace(&mut self.heard, rest);
                return Ok(String::from_utf8_lossy(&said).into_owned());
            }
            searched = self.heard.len().saturating_sub(text.len());
            match self
                .chunks
                .recv_timeout(deadline.saturating_duration_since(Instant::now()))
            {
                Ok(chunk) => self.heard.extend(chunk),
                Err(why) => {
                    let why = match why {
                        RecvTimeoutError::Timeout => format!("not within {} s", within.as_secs()),
                        RecvTimeoutError::Disconnected => "it has ended".into(),
                    };
                    bail!(
                        "{text:?} was not said: {why}; said was {:?}",
                        String::from_utf8_lossy(&self.heard)
                    );
                }
            }
        }
    }

    /// Waits until the other side closes; returns what it said since the last call.
    ///
    /// # Errors
    /// If it has not closed in time.
    pub fn expect_end(&mut self, within: Duration) -> anyhow::Result<Vec<u8>> {
        let deadline = Instant::now() + within;
        loop {
            match self
                .chunks
                .recv_timeout(deadline.saturating_duration_since(Instant::now()))
            {
                Ok(chunk) => self.heard.extend(chunk),
                Err(RecvTimeoutError::Disconnected) => return Ok(std::mem::take(&mut self.heard)),
                Err(RecvTimeoutError::Timeout) => bail!("it goes on after {} s", within.as_secs()),
            }
        }
    }

    /// Logs in to the small guest of [`crate::guest`], up to the prompt of root's shell; returns what was to be seen.
    ///
    /// # Errors
    /// If a prompt does not appear in time.
    pub fn log_in(&mut self, within: Duration) -> anyhow::Result<String> {
        let mut seen = self.expect("login: ", within)?;
        self.send("root\n")?;
        seen += &self.expect("Password: ", within)?;
        // After the prompt the guest switches its echo off, and drops earlier input; there is no event for that.
        thread::sleep(ECHO_OFF);
        self.send("uml\n")?;
        seen += &self.expect("# ", within)?;
        Ok(seen)
    }

    /// Closes the direction to the other side, where that is a pipe.
    pub fn finish_typing(&mut self) {
        self.writer = Box::new(std::io::sink());
    }
}

fn listen(mut reader: impl Read, mut pass_on: impl FnMut(Vec<u8>) -> bool) {
    let mut buffer = [0; 65536];
    // A terminal whose other side has been closed reads as an error, EIO.
    while let Ok(read @ 1..) = reader.read(&mut buffer) {
        if !pass_on(buffer.get(..read).unwrap_or_default().to_vec()) {
            return;
        }
    }
}

fn find(text: &[u8], wanted: &[u8]) -> Option<usize> {
    text.windows(wanted.len())
        .position(|window| window == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn a_dialogue_waits_for_what_is_said() {
        let mut cat = Command::new("cat")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut dialogue = Dialogue::new(cat.stdout.take().unwrap(), cat.stdin.take().unwrap());
        dialogue.send("one two ").unwrap();
        dialogue.send("three").unwrap();
        assert_eq!(
            dialogue.expect("two", Duration::from_secs(10)).unwrap(),
            "one two"
        );
        let error = dialogue
            .expect("four", Duration::from_millis(50))
            .unwrap_err()
            .to_string();
        assert!(error.contains("said was \" three\""), "{error}");
        dialogue.finish_typing();
        assert_eq!(
            dialogue.expect_end(Duration::from_secs(10)).unwrap(),
            b" three"
        );
        assert!(cat.wait().unwrap().success());
    }
}
