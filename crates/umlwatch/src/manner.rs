//! The kind of a session with a channel, and the messages that it shows beside the output of the guest.

use cli::printable;

use crate::keys::Escape;

/// Resets what a guest that paints its screen has switched on: attributes, hidden cursor, scroll region (without moving
/// the cursor), other keys, reports of mouse and pastes.
const OFF: &str = "\x1b7\x1b[r\x1b8\x1b[0;10m\x1b(B\x0f\x1b[?25h\x1b[?7h\x1b[4l\x1b[20l\x1b[?1l\x1b>\x1b[?9l\x1b[?1000l\x1b[?2004l";

/// The kind of the session.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Manner<'a> {
    pub(crate) vm: &'a str,
    pub(crate) channel: &'a str,
    /// Whether stdin is a terminal, which is raw then.
    pub(crate) terminal: bool,
    /// Nothing is typed into the guest; on a terminal only the keys for the session itself work.
    pub(crate) watches: bool,
    pub(crate) escape: Escape,
}

impl Manner<'_> {
    /// A message of this program, on stderr, so that a redirected stdout has only the output of the guest.
    pub(crate) fn remark(&self, text: &str) {
        let text = printable(text.as_bytes());
        match self.terminal {
            true => eprint!("\r\n[{text}]\r\n"),
            false => eprintln!("[{text}]"),
        }
    }

    /// The first message.
    pub(crate) fn greet(&self) {
        if self.terminal {
            let what = match self.watches {
                true => "watching",
                false => "connected with",
            };
            let key = self.escape.name();
            self.remark(&format!(
                "{what} {} of {}; {key} leaves",
                self.channel, self.vm
            ));
        }
    }

    /// Explains the keys for the session itself.
    pub(crate) fn help(&self) {
        let key = self.escape.name();
        self.remark(&format!(
            "{key} leaves; so does {key} . at once; {key} {key} types it; {key} ? shows this"
        ));
    }

    /// Moves the cursor to a new line below everything, resets the colours, and switches off what the guest may have
    /// switched on. `all_typed`: the guest has taken everything.
    pub(crate) fn farewell(&self, painted: bool, all_typed: bool) {
        if self.terminal {
            let below = if painted { "\x1b[999;1H" } else { "" };
            let untaken = if all_typed {
                ""
            } else {
                "; it has not taken all that was typed"
            };
            eprint!(
                "{OFF}{below}\r\n[left {} of {}{untaken}]\r\n",
                self.channel, self.vm
            );
        }
    }
}
