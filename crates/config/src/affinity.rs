//! The parameter `affinity`: on which processors of the host a VM runs. Used by every program.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};
use crate::names::number;

/// The highest number of a processor: sched_setaffinity(2) with a set of fixed size knows 1024 of them.
const MAX_PROCESSOR: u16 = 1023;

/// The processors of the host on which a VM runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Affinity {
    /// One at a time, which the monitor chooses.
    Auto,
    /// Any.
    None,
    /// Any of these, of which there is at least one.
    On(BTreeSet<u16>),
}

impl FromStr for Affinity {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        match text {
            "auto" => Ok(Affinity::Auto),
            "none" => Ok(Affinity::None),
            _ => {
                let mut processors = BTreeSet::new();
                for part in text.split(',') {
                    processors.extend(range(part)?);
                }
                Ok(Affinity::On(processors))
            }
        }
    }
}

/// `3`, or `0-3`.
fn range(part: &str) -> Result<std::ops::RangeInclusive<u16>> {
    let processor = |text: &str| number(text.trim(), 0, MAX_PROCESSOR).ok();
    let (first, last) = part.split_once('-').unwrap_or((part, part));
    match (processor(first), processor(last)) {
        (Some(first), Some(last)) if first <= last => Ok(first..=last),
        _ => Err(Error::value(
            "processors",
            part,
            format!(
                "it must be auto, none, or numbers from 0 to {MAX_PROCESSOR} and ranges of them, as in 0-3,8"
            ),
        )),
    }
}

impl fmt::Display for Affinity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Affinity::Auto => f.write_str("auto"),
            Affinity::None => f.write_str("none"),
            Affinity::On(processors) => f.write_str(&processor_list(processors)),
        }
    }
}

/// The numbers in the form of the parameter: `0-3,8`.
pub fn processor_list(processors: &BTreeSet<u16>) -> String {
    let mut ranges: Vec<(u16, u16)> = Vec::new();
    for &processor in processors {
        match ranges.last_mut() {
            Some((_, last)) if last.checked_add(1) == Some(processor) => *last = processor,
            _ => ranges.push((processor, processor)),
        }
    }
    let words: Vec<String> = ranges
        .into_iter()
        .map(|(first, last)| match first == last {
            true => first.to_string(),
            false => format!("{first}-{last}"),
        })
        .collect();
    words.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::refusal;

    #[test]
    fn processors_are_numbers_and_ranges() {
        for (text, shown) in [
            ("auto", "auto"),
            ("none", "none"),
            ("0", "0"),
            ("8,0-3", "0-3,8"),
            ("1, 2", "1-2"),
            ("3-3,1023", "3,1023"),
        ] {
            assert_eq!(text.parse::<Affinity>().unwrap().to_string(), shown);
        }
        for bad in ["", ",", "1,", "-1", "3-1", "1024", "all", "0x1", "1-2-3"] {
            assert!(refusal::<Affinity>(bad).contains("as in 0-3,8"), "{bad}");
        }
    }
}
