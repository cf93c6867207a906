//! Runs every fuzz target for some seconds: `smoke [SECONDS [SEED]]`. Prints results in the way of `cargo test`.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use fuzz::mutate::Mutator;
use fuzz::{TARGETS, Target};

fn main() -> ExitCode {
    let mut numbers = std::env::args()
        .skip(1)
        .map(|word| word.parse::<u64>().expect("smoke [SECONDS [SEED]]"));
    let time = Duration::from_secs(numbers.next().unwrap_or(5));
    // Another one each time, so that many short runs make a long one.
    let today = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(1, |time| time.as_secs());
    let seed = numbers.next().unwrap_or(today);
    println!("seed {seed}");
    let failed = TARGETS
        .iter()
        .filter(|target| !survives(target, time, seed))
        .count();
    let passed = TARGETS.len() - failed;
    let word = if failed == 0 { "ok" } else { "FAILED" };
    println!(
        "\ntest result: {word}. {passed} passed; {failed} failed; 0 ignored; 0 measured; 0 filtered out"
    );
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Runs a target for some time; false if an input broke it, which is then shown.
fn survives((name, target, seeds): &Target, time: Duration, seed: u64) -> bool {
    let seeds = seeds();
    let mut mutator = Mutator::new(seed);
    let end = Instant::now() + time;
    let mut inputs = 0_u64;
    let mut next = seeds.iter().cloned();
    while Instant::now() < end {
        let input = next.next().unwrap_or_else(|| mutator.mutate(&seeds));
        if catch_unwind(AssertUnwindSafe(|| target(&input))).is_err() {
            println!(
                "test {name} ... FAILED with this input:\n{}",
                input.escape_ascii()
            );
            return false;
        }
        inputs += 1;
    }
    println!("test {name} ... ok ({inputs} inputs)");
    true
}
