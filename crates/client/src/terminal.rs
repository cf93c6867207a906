//! The terminal while it is connected with a console: raw, and restored however the session ends.

use std::io;
use std::sync::{Mutex, Once, PoisonError};

use rustix::stdio::stdin;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};

use crate::guard::Guard;

/// The settings of the terminal before, while it is raw. A static, because a panic ends the program without dropping
/// anything.
static BEFORE: Mutex<Option<Termios>> = Mutex::new(None);

/// A terminal on stdin in raw mode, until dropped.
pub struct RawTerminal {
    /// The process that restores it if this one is killed; None if it could not be started, which does not prevent a
    /// session.
    _guard: Option<Guard>,
}

impl RawTerminal {
    /// Switches to raw mode; None if stdin is no terminal.
    ///
    /// # Errors
    /// Those of tcsetattr(3).
    pub fn enter() -> io::Result<Option<RawTerminal>> {
        if !rustix::termios::isatty(stdin()) {
            return Ok(None);
        }
        let before = tcgetattr(stdin())?;
        let mut raw = before.clone();
        raw.make_raw();
        restore_on_panic();
        let guard = RawTerminal {
            _guard: Guard::start().ok(),
        };
        *BEFORE.lock().unwrap_or_else(PoisonError::into_inner) = Some(before);
        tcsetattr(stdin(), OptionalActions::Drain, &raw)?;
        Ok(Some(guard))
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        restore();
    }
}

fn restore() {
    let before = BEFORE.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(before) = before {
        // A terminal that is gone needs no restoring.
        let _ = tcsetattr(stdin(), OptionalActions::Now, &before);
    }
}

fn restore_on_panic() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let previous = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            restore();
            previous(panic);
        }));
    });
}

/// Rows and columns of the terminal on stdin; None if there is none, or if it does not know its size.
pub fn size() -> Option<(u16, u16)> {
    let size = tcgetwinsize(stdin()).ok()?;
    (size.ws_row > 0 && size.ws_col > 0).then_some((size.ws_row, size.ws_col))
}

/// The name of the terminal on stdin; empty if there is none.
pub fn name() -> String {
    let name = rustix::termios::ttyname(stdin(), Vec::new());
    name.map_or(String::new(), |name| name.to_string_lossy().into_owned())
}
