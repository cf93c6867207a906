//! Commands whose line has ended: a monitor was replaced, and their clients may go on with them (umlguest).

use std::process::Child;
use std::time::{Duration, Instant};

use guest_line::Key;

use crate::process::Process;

/// How long a client may take. It gives up after half of this.
const PATIENCE: Duration = Duration::from_secs(60);

/// The commands. They go on, until they have written what is kept of their output.
#[derive(Default)]
pub(crate) struct Kept(Vec<(Instant, Box<Process>)>);

impl Kept {
    /// Keeps a command.
    pub(crate) fn keep(&mut self, process: Box<Process>) {
        self.0.push((Instant::now() + PATIENCE, process));
    }

    /// The command with this key; its client has come back.
    pub(crate) fn take(&mut self, key: &Key) -> Option<Box<Process>> {
        let found = self
            .0
            .iter()
            .position(|(_, process)| process.key() == key)?;
        Some(self.0.swap_remove(found).1)
    }

    /// When [`Kept::give_up`] is due.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.0.iter().map(|(due, _)| *due).min()
    }

    /// Hangs up the commands whose clients have not come back. Their processes are to be waited for.
    pub(crate) fn give_up(&mut self) -> Vec<Child> {
        let now = Instant::now();
        let late = self.0.extract_if(.., |(due, _)| *due <= now);
        late.map(|(_, process)| process.hang_up()).collect()
    }
}
