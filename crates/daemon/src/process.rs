//! What tells a process from all others on this host, before and after. Runs in umlmon, in the monitor process, and in
//! umladmin.

use std::fs;
use std::io;

/// What proc(5) says of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProcessStat {
    /// When it was started, in ticks since the boot of the host (proc_pid_stat(5), starttime).
    pub start: u64,
    /// It has ended, and only nobody has asked how (`Z`, `X`).
    pub has_ended: bool,
}

impl ProcessStat {
    /// Of the process with this number.
    ///
    /// # Errors
    /// `NotFound` if there is none.
    pub fn of(pid: u32) -> io::Result<ProcessStat> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        parse(&stat).ok_or_else(|| io::Error::other("its entry in /proc is not understood"))
    }
}

fn parse(stat: &str) -> Option<ProcessStat> {
    // The name of the program can contain anything; what follows it begins with field 3.
    let (_, after) = stat.rsplit_once(')')?;
    let mut fields = after.split_ascii_whitespace();
    let has_ended = ["Z", "X"].contains(&fields.next()?);
    let start = fields.nth(18)?.parse().ok()?;
    Some(ProcessStat { start, has_ended })
}

/// The present boot of the host (`/proc/sys/kernel/random/boot_id`).
///
/// # Errors
/// If it cannot be read.
pub fn boot() -> io::Result<String> {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    Ok(id.trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_program_does_not_mislead() {
        let rest = "1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4711 20";
        for (state, has_ended) in [("S", false), ("Z", true), ("X", true)] {
            let stat = format!("7 (a) Z 1 (b) {state} {rest}");
            let start = 4711;
            assert_eq!(parse(&stat), Some(ProcessStat { start, has_ended }));
        }
        assert_eq!(parse("7 (a) S 1 2 3"), None);
    }
}
