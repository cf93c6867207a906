//! Output that does not break: a closed pipe is no error, and control characters of others never reach a terminal.

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};

use config::is_printable;

/// Standard output. Once its reader has gone, everything further is dropped quietly.
#[derive(Debug)]
pub struct Output {
    terminal: bool,
    closed: bool,
}

impl Output {
    /// The process's standard output.
    pub fn stdout() -> Output {
        Output {
            terminal: io::stdout().is_terminal(),
            closed: false,
        }
    }

    /// Whether it is a terminal.
    pub fn is_terminal(&self) -> bool {
        self.terminal
    }

    /// Whether the reader of the pipe has gone; what takes long may stop then.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// Writes and flushes. A reader that has gone is not an error.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.closed {
            return Ok(());
        }
        let mut stdout = io::stdout().lock();
        match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
            Err(e) if e.kind() == io::ErrorKind::BrokenPipe => {
                self.closed = true;
                Ok(())
            }
            other => other,
        }
    }
}

/// One line of text from a daemon or a guest with everything that is not printable shown as `\x1b`.
pub fn printable(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    push_visible(&mut text, bytes, |_| false);
    text
}

/// A stream of lines with its control characters made visible: newlines and tabs stay, a carriage return before a
/// newline is dropped, the rest is shown as by [`printable`]. Characters may be split between two calls.
#[derive(Debug, Default)]
pub struct Visible {
    held: Vec<u8>,
}

impl Visible {
    /// Takes the next bytes; an incomplete character at the end is kept for the next call.
    pub fn feed(&mut self, bytes: &[u8]) -> String {
        self.held.extend_from_slice(bytes);
        let undecided = if self.held.ends_with(b"\r") {
            1
        } else {
            incomplete_at_end(&self.held)
        };
        let rest = self.held.split_off(self.held.len() - undecided);
        let text = lines(&self.held);
        self.held = rest;
        text
    }

    /// What is left at the end of the stream.
    pub fn finish(&mut self) -> String {
        lines(&std::mem::take(&mut self.held))
    }
}

fn lines(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        let line_end = line.strip_suffix(b"\r\n").map(|start| (start, "\n"));
        let (line, end) = line_end.unwrap_or((line, ""));
        push_visible(&mut text, line, |c| matches!(c, '\n' | '\t'));
        text.push_str(end);
    }
    text
}

/// How many bytes at the end are the beginning of a UTF-8 character.
pub fn incomplete_at_end(bytes: &[u8]) -> usize {
    let last = bytes.utf8_chunks().last().map_or(&[][..], |c| c.invalid());
    match std::str::from_utf8(last) {
        Err(e) if e.error_len().is_none() => last.len(),
        _ => 0,
    }
}

fn push_visible(text: &mut String, bytes: &[u8], keep: impl Fn(char) -> bool) {
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            if keep(c) || is_printable(c) {
                text.push(c);
            } else if c.is_ascii() {
                // Writing to a String cannot fail.
                let _ = write!(text, "\\x{:02x}", u32::from(c));
            } else {
                let _ = write!(text, "\\u{{{:x}}}", u32::from(c));
            }
        }
        for byte in chunk.invalid() {
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_become_visible() {
        assert_eq!(
            printable(b"a\x1b]52;c;x\x07b\n"),
            "a\\x1b]52;c;x\\x07b\\x0a"
        );
        assert_eq!(
            printable("\u{9b}31m\u{202e}ü".as_bytes()),
            "\\u{9b}31m\\u{202e}ü"
        );
        assert_eq!(printable(b"\xff\xc3"), "\\xff\\xc3");
    }

    #[test]
    fn lines_keep_their_shape() {
        let mut visible = Visible::default();
        assert_eq!(
            visible.feed(b"one\r\ntwo\tx\x1b[0m\n"),
            "one\ntwo\tx\\x1b[0m\n"
        );
        assert_eq!(visible.feed(b"50%\r100%\n"), "50%\\x0d100%\n");
        assert_eq!(visible.finish(), "");
    }

    #[test]
    fn a_stream_may_be_split_anywhere() {
        let all = "ä€\r\n\u{1f600}\x1bx\r\r\n\t".as_bytes();
        let mut whole = Visible::default();
        let expected = whole.feed(all) + &whole.finish();
        for cut in 0..all.len() {
            let mut visible = Visible::default();
            let (a, b) = all.split_at(cut);
            let text = visible.feed(a) + &visible.feed(b) + &visible.finish();
            assert_eq!(text, expected, "cut at {cut}");
        }
        let mut visible = Visible::default();
        assert_eq!(visible.feed(b"a\xe2\x82"), "a");
        assert_eq!(visible.finish(), "\\xe2\\x82");
    }
}
