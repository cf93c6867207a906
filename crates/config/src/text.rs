//! Which characters may be shown to people when the text comes from others (all programs).

/// Invisible characters that change how others are read: they reorder text, hide in it, or make two names look alike.
/// Of general category Cf and Zl/Zp in Unicode, except those that are visible.
const INVISIBLE: &[std::ops::RangeInclusive<char>] = &[
    '\u{ad}'..='\u{ad}',       // soft hyphen
    '\u{61c}'..='\u{61c}',     // Arabic letter mark: turns the direction of text
    '\u{180e}'..='\u{180e}',   // Mongolian vowel separator
    '\u{200b}'..='\u{200f}',   // spaces and joiners without width, marks of direction
    '\u{2028}'..='\u{202e}',   // ends of line and paragraph, directions
    '\u{2060}'..='\u{206f}',   // joiners, invisible operators, isolated directions
    '\u{feff}'..='\u{feff}',   // byte order mark
    '\u{fff9}'..='\u{fffb}',   // annotations
    '\u{1d173}'..='\u{1d17a}', // musical marks
    '\u{e0000}'..='\u{e0fff}', // tags, with which whole texts can be hidden
];

/// Whether a character of text from others may go to a terminal or into a log as it is: it is no control character, and
/// it is visible. Others must be shown as escapes.
pub fn is_printable(c: char) -> bool {
    !c.is_control() && !INVISIBLE.iter().any(|range| range.contains(&c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_seen_is_not_printable() {
        for c in [
            '\0',
            '\x1b',
            '\x7f',
            '\u{9b}',
            '\u{61c}',
            '\u{200b}',
            '\u{202e}',
            '\u{e0041}',
        ] {
            assert!(!is_printable(c), "{c:?}");
        }
        for c in ['a', ' ', 'é', '中', '\u{1f600}', '\u{fffd}', '\u{301}'] {
            assert!(is_printable(c), "{c:?}");
        }
    }
}
