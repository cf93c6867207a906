//! JSON for programs that is safe to show on a terminal. Runs in the clients.

use std::fmt::Write as _;

use serde_json::Value;

/// A value on several lines, in ASCII, so that it cannot contain control sequences for a terminal.
pub fn ascii(object: &Value) -> String {
    escape(&format!("{object:#}\n"))
}

/// A value on a line, in ASCII.
pub fn line(object: &Value) -> String {
    escape(&format!("{object}\n"))
}

fn escape(json: &str) -> String {
    let mut text = String::new();
    // Nothing outside ASCII, and no control character but the newline, occurs outside the strings.
    for c in json.chars() {
        if c == '\n' || c == ' ' || c.is_ascii_graphic() {
            text.push(c);
        } else {
            for unit in c.encode_utf16(&mut [0; 2]) {
                // Writing to a String cannot fail.
                let _ = write!(text, "\\u{unit:04x}");
            }
        }
    }
    text
}

/// Bytes that are not UTF-8 become U+FFFD.
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
