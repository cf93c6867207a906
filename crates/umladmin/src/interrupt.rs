//! Ctrl-C while VMs are being stopped: at the first one, a hint is printed; every further one goes on to the next rung
//! of the ladder (umladmin).

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;

use signal_hook::consts::SIGINT;
use signal_hook::iterator::Signals;

/// How often the administrator has pressed Ctrl-C since the stop began.
#[derive(Debug, Default)]
pub(crate) struct Interrupts {
    pressed: AtomicU32,
    over: AtomicBool,
}

impl Interrupts {
    /// Handles SIGINT until the value is dropped; afterwards it ends the program as usual.
    pub(crate) fn watch(explain: impl Fn() + Send + 'static) -> io::Result<Watch> {
        let interrupts = Arc::new(Interrupts::default());
        let mut signals = Signals::new([SIGINT])?;
        let seen = Arc::clone(&interrupts);
        thread::Builder::new()
            .name("interrupt".into())
            .spawn(move || {
                for signal in signals.forever() {
                    if seen.over.load(Ordering::Relaxed) {
                        // It ends the process; if that fails, nothing better can be done.
                        let _ = signal_hook::low_level::emulate_default_handler(signal);
                    } else if seen.pressed.fetch_add(1, Ordering::Relaxed) == 0 {
                        explain();
                    }
                }
            })?;
        Ok(Watch(interrupts))
    }

    /// How many rungs are to be left early: the first Ctrl-C does not count.
    pub(crate) fn escalations(&self) -> u32 {
        self.pressed.load(Ordering::Relaxed).saturating_sub(1)
    }
}

/// SIGINT is counted as long as this lives.
#[derive(Debug)]
pub(crate) struct Watch(Arc<Interrupts>);

impl std::ops::Deref for Watch {
    type Target = Interrupts;
    fn deref(&self) -> &Interrupts {
        &self.0
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.0.over.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_one_only_explains() {
        let interrupts = Interrupts::default();
        let after = |n: u32| {
            interrupts.pressed.store(n, Ordering::Relaxed);
            interrupts.escalations()
        };
        assert_eq!([0, 1, 2, 3].map(after), [0, 0, 1, 2]);
    }
}
