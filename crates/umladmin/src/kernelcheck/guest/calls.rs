//! What a system call takes (umladmin, in the guest).

use std::time::{Duration, Instant};

/// How many calls a round has, and how many rounds there are. A round is short, so that one of them has a processor of
/// the host for itself, even if the host is busy.
const CALLS: u32 = 100;
const ROUNDS: u32 = 200;

/// The time of a getpid(2) in the fastest round.
pub(super) fn time() -> Duration {
    let rounds = (0..ROUNDS).map(|_| {
        let begin = Instant::now();
        for _ in 0..CALLS {
            let _ = rustix::process::getpid();
        }
        begin.elapsed() / CALLS
    });
    rounds.min().unwrap_or_default()
}
