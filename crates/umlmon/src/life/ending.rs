//! Why the kernel ended: a pure function of what is known afterwards (umlmon, the monitor process).
//!
//! The kernel always runs with `noreboot`: it exits with 0 for a halt and for a reboot alike, and only its last line on
//! con0 tells which it was (kernel/reboot.c).

use std::time::SystemTime;

use jail::Shortage;

use crate::life::state::Ending;
use crate::status::{How, LastEnd};

/// How many bytes of con0 are looked at.
pub const CON0_TAIL: usize = 4096;

const SIGABRT: i32 = 6;
const SIGKILL: i32 = 9;

/// What is known when everything in the namespace has ended.
#[derive(Debug, Default)]
pub struct Evidence<'a> {
    /// Exit status of the kernel process, if it exited.
    pub status: Option<i32>,
    /// The signal that ended the kernel process, if one did.
    pub signal: Option<i32>,
    /// The monitor had killed the child.
    pub killed: bool,
    /// The host has ended a process of the VM, because there was no more of this memory.
    pub out_of_memory: Option<Shortage>,
    /// The message of a panic notice.
    pub panic: Option<&'a str>,
    /// The end of what the kernel wrote to con0 in this run.
    pub con0: &'a str,
}

/// Judges how the run ended.
pub fn judge(evidence: &Evidence<'_>) -> (Ending, LastEnd) {
    let (how, text) = describe(evidence);
    let ending = if how == How::Rebooted {
        Ending::Rebooted
    } else {
        Ending::Down
    };
    let (status, signal) = (evidence.status, evidence.signal);
    (
        ending,
        LastEnd {
            how,
            status,
            signal,
            text,
            time: SystemTime::now(),
        },
    )
}

fn describe(evidence: &Evidence<'_>) -> (How, String) {
    if evidence.killed {
        return (How::Killed, String::new());
    }
    match (evidence.status, evidence.signal) {
        (Some(0), _) if rebooted(evidence.con0) => (How::Rebooted, String::new()),
        (Some(0), _) => (How::Halted, String::new()),
        (_, Some(SIGABRT)) => match evidence.panic.or_else(|| panic_on(evidence.con0)) {
            Some(text) => (How::Panicked, text.to_owned()),
            None => (
                How::Crashed,
                crashed("ended by signal 6 (SIGABRT)", evidence.con0),
            ),
        },
        (Some(status), _) => (
            How::Crashed,
            crashed(&format!("exit status {status}"), evidence.con0),
        ),
        // The second process may have been ended together with the kernel, or instead of it.
        (None, None | Some(SIGKILL)) if let Some(shortage) = evidence.out_of_memory => {
            let text = match shortage {
                Shortage::Group => {
                    "ended by the host, as the VM used more memory than mem and overhead_limit allow"
                }
                Shortage::Host => "ended by the host, which had run out of memory",
            };
            (How::Crashed, text.into())
        }
        (None, Some(signal)) => (
            How::Crashed,
            format!("ended by signal {}", signal_name(signal)),
        ),
        (None, None) => (
            How::Crashed,
            "the child process ended without a report (was it killed?)".into(),
        ),
    }
}

/// A kernel that gives up early says why in its last line.
fn crashed(what: &str, con0: &str) -> String {
    match con0.lines().map(str::trim).rfind(|line| !line.is_empty()) {
        Some(line) => format!("{what}; last line on con0: {line}"),
        None => what.to_owned(),
    }
}

fn signal_name(number: i32) -> String {
    match nix::sys::signal::Signal::try_from(number) {
        Ok(signal) => format!("{number} ({signal})"),
        Err(_) => number.to_string(),
    }
}

fn rebooted(con0: &str) -> bool {
    let last = con0.lines().rfind(|line| line.contains("reboot: "));
    let regular = last.is_some_and(|line| line.contains("reboot: Restarting system"));
    // The system request b restarts without such a line, but leaves a trace.
    regular || con0.contains("] emergency_restart+")
}

fn panic_on(con0: &str) -> Option<&str> {
    let (_, text) = con0.rsplit_once("Kernel panic - not syncing: ")?;
    text.lines().next().map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn how(evidence: &Evidence<'_>) -> (Ending, How, String) {
        let (ending, last) = judge(evidence);
        (ending, last.how, last.text)
    }

    #[test]
    fn a_halt_and_a_reboot_differ_by_the_last_line() {
        let halted = Evidence {
            status: Some(0),
            con0: "\r\nreboot: System halted\r\n",
            ..Evidence::default()
        };
        assert_eq!(how(&halted), (Ending::Down, How::Halted, String::new()));
        let con0 = "echo reboot: System halted\r\n[    3.1] reboot: Restarting system\r\n";
        let rebooted = Evidence {
            status: Some(0),
            con0,
            ..Evidence::default()
        };
        assert_eq!(how(&rebooted).0, Ending::Rebooted);
        let con0 = " [<6006cffa>] emergency_restart+0x33/0x35\r\n [<60501e08>] sysrq_handle_reboot+0x1c/0x1e\r\n";
        let requested = Evidence { con0, ..rebooted };
        assert_eq!(how(&requested).0, Ending::Rebooted);
    }

    #[test]
    fn a_panic_is_told_with_its_text() {
        let con0 = "Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(98,0)\r\nCPU: 0";
        let noticed = Evidence {
            signal: Some(6),
            panic: Some("Attempted to kill init!"),
            con0,
            ..Evidence::default()
        };
        assert_eq!(how(&noticed).2, "Attempted to kill init!");
        let seen = Evidence {
            panic: None,
            ..noticed
        };
        assert_eq!(
            how(&seen).2,
            "VFS: Unable to mount root fs on unknown-block(98,0)"
        );
    }

    #[test]
    fn an_early_exit_is_told_with_its_last_words() {
        let con0 =
            "Checking ...OK\r\nToo few physical memory! Needed=16777216, given=4194304\r\n\r\n";
        let early = Evidence {
            status: Some(1),
            con0,
            ..Evidence::default()
        };
        let (_, kind, text) = how(&early);
        assert_eq!(kind, How::Crashed);
        assert_eq!(
            text,
            "exit status 1; last line on con0: Too few physical memory! Needed=16777216, given=4194304"
        );
    }

    #[test]
    fn kills_and_signals() {
        let killed = Evidence {
            killed: true,
            ..Evidence::default()
        };
        assert_eq!(how(&killed).1, How::Killed);
        let signalled = Evidence {
            signal: Some(9),
            ..Evidence::default()
        };
        assert_eq!(how(&signalled).1, How::Crashed);
        assert_eq!(how(&signalled).2, "ended by signal 9 (SIGKILL)");
        assert_eq!(how(&Evidence::default()).1, How::Crashed);
    }

    #[test]
    fn a_want_of_memory_is_told_with_whose_it_was() {
        for signal in [Some(9), None] {
            let ended = |shortage| Evidence {
                signal,
                out_of_memory: Some(shortage),
                ..Evidence::default()
            };
            let (_, how_ended, text) = how(&ended(Shortage::Group));
            assert_eq!(how_ended, How::Crashed);
            assert!(text.contains("overhead_limit"), "{text}");
            let (_, _, text) = how(&ended(Shortage::Host));
            assert!(text.contains("which had run out of memory"), "{text}");
            // A kernel that has ended by itself has ended for another reason.
            let halted = Evidence {
                status: Some(0),
                signal: None,
                ..ended(Shortage::Group)
            };
            assert_eq!(how(&halted).1, How::Halted);
        }
    }
}
