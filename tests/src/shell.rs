//! A shell in the small guest, on con1 (the end-to-end tests).

use std::sync::atomic::{AtomicU32, Ordering};

use crate::{Console, Vm};

/// The number of the next line of any shell: what was said on a console before is shown again to who connects.
static NEXT: AtomicU32 = AtomicU32::new(1);

/// A shell in the guest, which has said what it was told to before it is told the next thing.
pub struct Shell(Console, u32);

impl Shell {
    /// Connects with con1 of a small guest that logs in by itself.
    #[track_caller]
    pub fn of(vm: &Vm<'_>) -> Shell {
        let mut console = vm.connect("con1");
        console.expect("# ");
        Shell(console, 0)
    }

    /// Types a line and gives what came of it.
    #[track_caller]
    pub fn run(&mut self, line: &str) -> String {
        self.begin(line);
        self.end(line)
    }

    /// Types a line. What shows that it is done is not in the echo of what is typed.
    pub fn begin(&mut self, line: &str) {
        self.1 = NEXT.fetch_add(1, Ordering::Relaxed);
        self.0
            .send(&format!("{line}; echo \"<\"$?.{}\">\"\n", self.1));
    }

    /// Waits until the line that began is done, and gives what came of it.
    ///
    /// # Panics
    /// If it fails.
    #[track_caller]
    pub fn end(&mut self, line: &str) -> String {
        let said = self.0.expect(&format!(".{}>", self.1));
        let (said, status) = said.rsplit_once('<').unwrap();
        assert_eq!(status, format!("0.{}>", self.1), "{line}: {said}");
        said.to_owned()
    }

    /// Waits until the guest reaches an address.
    #[track_caller]
    pub fn reaches(&mut self, ping: &str, address: &str) {
        self.run(&format!(
            "until {ping} -c 1 -W 1 {address} > /dev/null 2>&1; do :; done"
        ));
    }

    /// Ends the connection.
    #[track_caller]
    pub fn leave(self) {
        self.0.leave();
    }
}
