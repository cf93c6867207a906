//! With how little memory does a kernel boot? (umladmin)

use super::boot::boot;
use super::installation::{Installation, MEMORY};
use super::talk::Talk;
use super::trial::Found;

/// The sizes that are tried, in megabytes.
const LOWEST: u32 = 12;
const STEP: u32 = 4;

/// Halves the range between too little and enough until it is one step.
pub(super) fn least(installation: &Installation, talk: &mut Talk) -> Found {
    let enough = search(LOWEST, MEMORY, |megabytes| {
        installation.set(megabytes, "")?;
        let booted = boot(talk, &[]).is_ok();
        talk.kill()?;
        Ok(booted)
    })?;
    Ok(format!("{enough} MB, for this guest, which is very small"))
}

/// The least that boots, where `enough` does and sizes below `little` do not.
fn search(
    little: u32,
    enough: u32,
    mut boots: impl FnMut(u32) -> Result<bool, String>,
) -> Result<u32, String> {
    let (mut low, mut high) = (little / STEP - 1, enough.div_ceil(STEP));
    while high - low > 1 {
        let middle = u32::midpoint(low, high);
        match boots(middle * STEP)? {
            true => high = middle,
            false => low = middle,
        }
    }
    Ok(high * STEP)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_is_found_in_a_few_boots() {
        for least in (12..=64).step_by(4) {
            let mut boots = 0;
            let found = search(12, 64, |megabytes| {
                boots += 1;
                Ok(megabytes >= least)
            });
            assert_eq!(found, Ok(least));
            assert!(boots <= 4, "{boots}");
        }
    }
}
