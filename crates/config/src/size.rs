//! Sizes of memory, disks and logs: a number in the unit of its place, or one with K, M, G or T. Used by every program
//! but umldir.

use crate::error::{Error, Result};
use crate::names::number;

/// The letters, and what they stand for as a power of two, in bytes.
const LETTERS: [(char, u32); 4] = [('K', 10), ('M', 20), ('G', 30), ('T', 40)];

/// What a number without a letter counts.
#[derive(Clone, Copy)]
struct Unit {
    name: &'static str,
    power: u32,
}

const KILOBYTES: Unit = Unit {
    name: "kilobytes",
    power: 10,
};
const MEGABYTES: Unit = Unit {
    name: "megabytes",
    power: 20,
};

/// A size in megabytes of 1048576 bytes: `512`, `512M` and `524288K` are the same; `2G` is 2048.
///
/// # Errors
/// If it has another form, or is not a whole number of megabytes.
pub fn megabytes(text: &str) -> Result<u64> {
    size(text, MEGABYTES, 0, u64::MAX).map_err(|why| Error::value("a size", text, why))
}

/// A size in megabytes within limits, which are megabytes, too.
pub(crate) fn megabytes_from(min: u32, max: u32, text: &str) -> Result<u32> {
    within(text, MEGABYTES, min, max)
}

/// A size in kilobytes within limits, which are kilobytes, too.
pub(crate) fn kilobytes_from(min: u32, max: u32, text: &str) -> Result<u32> {
    within(text, KILOBYTES, min, max)
}

fn within(text: &str, unit: Unit, min: u32, max: u32) -> Result<u32> {
    let found = size(text, unit, min.into(), max.into());
    let found = found.and_then(|size| u32::try_from(size).map_err(|_| how(unit)));
    found.map_err(|why| {
        Error::value(
            format!("a size from {min} to {max} {}", unit.name),
            text,
            why,
        )
    })
}

fn how(unit: Unit) -> String {
    format!(
        "it must be a number of {}, or a number with K, M, G or T, such as 2G",
        unit.name
    )
}

/// The size in this unit, or why it is none.
fn size(text: &str, unit: Unit, min: u64, max: u64) -> Result<u64, String> {
    let letter = LETTERS
        .iter()
        .find_map(|(letter, power)| Some((text.strip_suffix(*letter)?, *power)));
    let (digits, power) = letter.unwrap_or((text, unit.power));
    let count = number::<u64>(digits, 0, u64::MAX).map_err(|_| how(unit))?;
    let bytes = u128::from(count) << power;
    if bytes % (1 << unit.power) != 0 {
        return Err(format!("it is not a whole number of {}", unit.name));
    }
    let size = u64::try_from(bytes >> unit.power).map_err(|_| how(unit))?;
    match min <= size && size <= max {
        true => Ok(size),
        false => Err(String::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_are_powers_of_1024() {
        for (text, expected) in [
            ("0", 0),
            ("64", 64),
            ("64M", 64),
            ("2048K", 2),
            ("2G", 2048),
            ("3T", 3 << 20),
            ("18446744073709551615", u64::MAX),
        ] {
            assert_eq!(megabytes(text).unwrap(), expected, "{text}");
        }
        for bad in [
            "",
            "G",
            "-1",
            "+1",
            "01",
            "1g",
            "1 G",
            "1.5G",
            "1GB",
            "1GiB",
            "1e3",
            "2K",
            "0x10",
            "99999999999999999999",
            "18446744073709551615T",
        ] {
            assert!(megabytes(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn limits_are_told_in_the_unit_of_the_place() {
        assert_eq!(kilobytes_from(16, 65536, "64M").unwrap(), 65536);
        assert_eq!(megabytes_from(1, 1 << 20, "1T").unwrap(), 1 << 20);
        let why = |refused: Result<u32>| refused.unwrap_err().to_string();
        assert_eq!(
            why(megabytes_from(1, 1 << 20, "2T")),
            "\"2T\" is not a size from 1 to 1048576 megabytes"
        );
        assert_eq!(
            why(kilobytes_from(16, 65536, "1.5M")),
            "\"1.5M\" is not a size from 16 to 65536 kilobytes: it must be a number of kilobytes, or a number with K, M, \
             G or T, such as 2G"
        );
        assert_eq!(
            why(megabytes_from(1, 64, "1500K")),
            "\"1500K\" is not a size from 1 to 64 megabytes: it is not a whole number of megabytes"
        );
    }
}
