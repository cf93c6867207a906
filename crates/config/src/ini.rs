//! The ini grammar of the configuration files: bytes to sections of `parameter = value` with line numbers. Used by
//! every program that reads a configuration.
//!
//! A first pass is done here: it limits all sizes, joins values whose parentheses are open over line ends, refuses
//! every line that is ambiguous, and records line numbers. The ini parser then gets text that it cannot misread, one
//! line per header or entry.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use ini::{Ini, ParseOption};

use crate::error::{Error, Place, Result, quoted};
use crate::params;

/// Largest file in bytes.
const MAX_FILE: usize = 1 << 20;
/// Longest line, also after joining, in bytes.
const MAX_LINE: usize = 1 << 16;
/// Most sections in a file.
const MAX_SECTIONS: usize = 4096;
/// The bytes that some editors put before text in UTF-8.
const BYTE_ORDER_MARK: char = '\u{feff}';

/// A section with its entries in file order.
pub(crate) struct Section {
    pub(crate) name: String,
    pub(crate) place: Place,
    pub(crate) entries: Vec<Entry>,
}

/// `key = value`; neither is empty, the value has no blanks around it and no control characters but tabs.
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) value: String,
    pub(crate) place: Place,
}

/// Opens a configuration, which must be a file that others, and this program again, find under the same name: not a
/// pipe, and not a descriptor of the caller's, that only he has.
fn regular(path: &Path) -> io::Result<File> {
    let is_descriptor = ["/dev/fd", "/dev/stdin", "/proc/self"]
        .iter()
        .any(|place| path.starts_with(place));
    // Checked first: opening a FIFO could block without end.
    if is_descriptor || !path.metadata()?.is_file() {
        let why = "not a regular file with a name of its own, which a configuration must be, as it is read again";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
    }
    File::open(path)
}

/// The text of a configuration file.
pub(crate) fn read(path: &Path) -> Result<String> {
    let mut text = read_whole(path)?;
    let mark = text.len() - without_mark(&text).len();
    text.drain(..mark);
    Ok(text)
}

/// A text without the mark at its beginning.
pub(crate) fn without_mark(text: &str) -> &str {
    text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text)
}

/// The text of a configuration file with the mark, if it begins with one.
pub(crate) fn read_whole(path: &Path) -> Result<String> {
    let unreadable = |error| Error::Read {
        path: path.to_owned(),
        error,
    };
    let mut bytes = Vec::new();
    let file = regular(path).map_err(unreadable)?;
    file.take(MAX_FILE as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    String::from_utf8(bytes).map_err(|e| {
        let good = e
            .as_bytes()
            .get(..e.utf8_error().valid_up_to())
            .unwrap_or_default();
        let place = Place {
            file: path.into(),
            line: good.iter().filter(|b| **b == b'\n').count() + 1,
        };
        Error::Conflict("this is not UTF-8 text".into()).at(&place)
    })
}

/// Parses the text of a file; the path is for messages.
pub(crate) fn parse(text: &str, path: &Path) -> Result<Vec<Section>> {
    if text.len() > MAX_FILE {
        return Err(Error::File {
            path: path.to_owned(),
            why: "the file is larger than 1 MiB".into(),
        });
    }
    let outline = Outline::of(text, path)?;
    let options = ParseOption {
        enabled_quote: false,
        enabled_escape: false,
        enabled_indented_mutiline_value: false,
        enabled_preserve_key_leading_whitespace: false,
    };
    let unreadable = |why: String| Error::File {
        path: path.to_owned(),
        why,
    };
    let ini = Ini::load_from_str_opt(&outline.text, options)
        .map_err(|e| unreadable(e.msg.to_string()))?;

    let mut places = outline.places.into_iter();
    let mut place = || {
        places
            .next()
            .ok_or_else(|| unreadable("the sections are not clear".into()))
    };
    let mut sections = Vec::new();
    for (name, properties) in ini.iter() {
        // The text before the first header is a section without a name, which is empty.
        let Some(name) = name else { continue };
        let mut section = Section {
            name: name.to_owned(),
            place: place()?,
            entries: Vec::new(),
        };
        for (key, value) in properties.iter() {
            section.entries.push(Entry {
                key: key.to_owned(),
                value: value.to_owned(),
                place: place()?,
            });
        }
        sections.push(section);
    }
    match places.next() {
        None => Ok(sections),
        Some(_) => Err(unreadable("the sections are not clear".into())),
    }
}

/// The text reduced to headers and entries, and where these were.
struct Outline {
    text: String,
    places: Vec<Place>,
}

/// A line of the file that is neither empty nor a comment, without blanks around it.
type Line<'a> = (usize, &'a str);

impl Outline {
    fn of(text: &str, path: &Path) -> Result<Outline> {
        let file: Arc<Path> = path.into();
        let place = |line| Place {
            file: Arc::clone(&file),
            line,
        };
        let mut outline = Outline {
            text: String::with_capacity(text.len()),
            places: Vec::new(),
        };
        let mut names = std::collections::HashSet::new();
        let mut lines = text
            .lines()
            .enumerate()
            .map(|(n, line)| (n + 1, line))
            .filter_map(|(n, line)| {
                let checked = check_line(line).map_err(|e| e.at(&place(n)));
                checked.transpose().map(|line| line.map(|line| (n, line)))
            });
        while let Some((n, line)) = lines.next().transpose()? {
            let here = |e: Error| e.at(&place(n));
            if let Some(header) = line.strip_prefix('[') {
                let name = section_name(header).map_err(here)?;
                if !names.insert(name) {
                    return Err(here(Error::Conflict(format!(
                        "there is already a section [{name}]"
                    ))));
                }
                if names.len() > MAX_SECTIONS {
                    return Err(here(Error::Conflict(
                        "there are more than 4096 sections".into(),
                    )));
                }
                outline.push(format_args!("[{name}]"));
            } else {
                let (key, value) = key_and_value(line).map_err(here)?;
                if names.is_empty() {
                    return Err(here(Error::Conflict(format!(
                        "{key} is not in a section; begin one with [name]"
                    ))));
                }
                let wraps = params::takes_form(key);
                let value = if wraps {
                    join(value, &mut lines, &here)?
                } else {
                    value.to_owned()
                };
                // A backslash at the end would make the parser continue the value on the next line.
                let end = if value.ends_with('\\') { " " } else { "" };
                outline.push(format_args!("{key}={value}{end}"));
            }
            outline.places.push(place(n));
        }
        Ok(outline)
    }

    fn push(&mut self, line: std::fmt::Arguments<'_>) {
        self.text.push_str(&line.to_string());
        self.text.push('\n');
    }
}

/// The line without blanks around it; nothing if it is empty or a comment.
fn check_line(line: &str) -> Result<Option<&str>> {
    if line.len() > MAX_LINE {
        return Err(Error::Conflict("the line is longer than 64 KiB".into()));
    }
    let line = line.trim();
    if line.is_empty() || line.starts_with(['#', ';']) {
        return Ok(None);
    }
    match line.chars().find(|c| c.is_control() && *c != '\t') {
        None => Ok(Some(line)),
        Some(c) => Err(Error::Conflict(format!(
            "the line contains the control character {c:?}"
        ))),
    }
}

/// The name of a section from what follows the opening bracket.
fn section_name(header: &str) -> Result<&str> {
    match header.strip_suffix(']').map(str::trim) {
        Some(name) if !name.is_empty() && !name.contains(['[', ']', '\\']) => Ok(name),
        _ => Err(Error::Conflict(format!(
            "{} is not a section header of the form [name]",
            quoted(&format!("[{header}"))
        ))),
    }
}

fn key_and_value(line: &str) -> Result<(&str, &str)> {
    let Some((key, value)) = line
        .split_once('=')
        .map(|(key, value)| (key.trim(), value.trim()))
    else {
        // No more of it: the rest may be a password.
        let line = quoted(line.split_whitespace().next().unwrap_or_default());
        return Err(Error::Conflict(format!(
            "{line} does not begin a [section], a # comment or parameter = value"
        )));
    };
    if key.is_empty() || !key.chars().all(|c| c == '_' || c.is_ascii_alphanumeric()) {
        return Err(Error::Conflict(format!(
            "{} is not the name of a parameter",
            quoted(key)
        )));
    }
    if value.is_empty() {
        return Err(Error::Conflict(format!(
            "{key} has no value; to leave it unset, remove the line"
        )));
    }
    Ok((key, value))
}

/// Appends lines to a value until no parenthesis is open any more.
fn join<'a>(
    value: &str,
    lines: &mut impl Iterator<Item = Result<Line<'a>>>,
    here: &impl Fn(Error) -> Error,
) -> Result<String> {
    let open = |text: &str| text.matches('(').count() > text.matches(')').count();
    let unclosed = || here(Error::Conflict("'(' is not closed".into()));
    let mut value = value.to_owned();
    while open(&value) {
        let (_, line) = lines.next().ok_or_else(unclosed)??;
        if line.starts_with('[') {
            return Err(unclosed());
        }
        value.push(' ');
        value.push_str(line);
        if value.len() > MAX_LINE {
            return Err(here(Error::Conflict(
                "the value is longer than 64 KiB".into(),
            )));
        }
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(text: &str) -> Vec<(String, String, usize)> {
        let sections = parse(text, Path::new("f")).unwrap();
        let entries = sections.into_iter().flat_map(|s| s.entries);
        entries.map(|e| (e.key, e.value, e.place.line)).collect()
    }

    fn problem(text: &str) -> String {
        parse(text, Path::new("f"))
            .err()
            .expect("should be refused")
            .to_string()
    }

    #[test]
    fn values_are_taken_as_they_are() {
        let text = "# c\r\n; c\n\n [a]\r\n k1 = x # y ; z\r\nk2=\"q\\n'\nk3=c:\\\nk4=a=b:c\nk5 = [x]\n\tk6\t=\té\t\nk7=a\\\\\n[ b ]\nk=1";
        let want = [
            ("k1", "x # y ; z", 5),
            ("k2", "\"q\\n'", 6),
            ("k3", "c:\\", 7),
            ("k4", "a=b:c", 8),
            ("k5", "[x]", 9),
            ("k6", "é", 10),
            ("k7", "a\\\\", 11),
            ("k", "1", 13),
        ];
        assert_eq!(
            entries(text),
            want.map(|(k, v, n)| (k.to_owned(), v.to_owned(), n))
        );
        assert!(
            entries("").is_empty()
                && entries("# only\n").is_empty()
                && entries("[a]\n[b]").is_empty()
        );
    }

    #[test]
    fn open_parentheses_continue() {
        let text = "[a]\neth0 = bridged(bridge_if=br0,\nproxy_if=p,\n\n   # why\n\tguest_hwaddr=pool)\nmem=1";
        let value = "bridged(bridge_if=br0, proxy_if=p, guest_hwaddr=pool)";
        assert_eq!(
            entries(text),
            [
                ("eth0".into(), value.into(), 2),
                ("mem".into(), "1".into(), 7)
            ]
        );
        // Only where a form is expected: a password may have any characters.
        assert_eq!(entries("[a]\npassword=a(b\nmem=1").len(), 2);
        assert_eq!(
            problem("[a]\n\neth0=bridged(\nmem=1"),
            "f:3: '(' is not closed"
        );
        assert_eq!(
            problem("[a]\neth0=bridged(\n[b]\nmem=1"),
            "f:2: '(' is not closed"
        );
    }

    #[test]
    fn unclear_lines_are_refused() {
        assert_eq!(
            problem("[a]\nx"),
            "f:2: \"x\" does not begin a [section], a # comment or parameter = value"
        );
        assert_eq!(
            problem("mem=1"),
            "f:1: mem is not in a section; begin one with [name]"
        );
        assert_eq!(
            problem("[a]\nmem="),
            "f:2: mem has no value; to leave it unset, remove the line"
        );
        assert_eq!(
            problem("[a]\n[b]\n[a]"),
            "f:3: there is already a section [a]"
        );
        for header in ["[a", "[a]]", "[a] # c", "[]", "[a[b]", "[a]x=1"] {
            assert!(problem(header).starts_with("f:1: "), "{header}");
        }
        for line in ["=1", "a b=1", "a:b=1", "a: b", "é=1", "\u{feff}[a]"] {
            assert!(
                problem(&format!("[a]\n{line}")).starts_with("f:2: "),
                "{line}"
            );
        }
        assert_eq!(
            problem("[a]\nx=a\x1bb"),
            r"f:2: the line contains the control character '\u{1b}'"
        );
        assert_eq!(
            problem("[a]\nx=a\rb=1"),
            r"f:2: the line contains the control character '\r'"
        );
        assert_eq!(
            problem("[a]\nx=a\0b"),
            r"f:2: the line contains the control character '\0'"
        );
    }

    #[test]
    fn sizes_are_bounded() {
        assert_eq!(
            problem(&"#\n".repeat(MAX_FILE)),
            "f: the file is larger than 1 MiB"
        );
        assert_eq!(
            problem(&format!("#{}", "x".repeat(MAX_LINE))),
            "f:1: the line is longer than 64 KiB"
        );
        let lines = format!("[a]\neth0=x(\n{}", "y=1234567890,\n".repeat(10_000));
        assert_eq!(problem(&lines), "f:2: the value is longer than 64 KiB");
        let sections: String = (0..=MAX_SECTIONS).map(|n| format!("[{n}]\n")).collect();
        assert_eq!(
            problem(&sections),
            "f:4097: there are more than 4096 sections"
        );
    }

    #[test]
    fn files_are_bounded_utf8() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), b"[a]\nx=1\ny=\xff\n").unwrap();
        let name = file.path().display();
        assert_eq!(
            read(file.path()).unwrap_err().to_string(),
            format!("{name}:3: this is not UTF-8 text")
        );
        let missing = read(Path::new("/nonexistent")).unwrap_err().to_string();
        assert!(
            missing.starts_with("cannot read /nonexistent: No such file"),
            "{missing}"
        );
    }

    #[test]
    fn a_byte_order_mark_is_skipped() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "\u{feff}[a]\nx = 1\n").unwrap();
        assert_eq!(read(file.path()).unwrap(), "[a]\nx = 1\n");
    }

    #[test]
    fn only_regular_files_are_read() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("socket");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        for path in [
            directory.path(),
            &socket,
            Path::new("/dev/fd/0"),
            Path::new("/dev/zero"),
        ] {
            let refused = read(path).map(|_| ()).unwrap_err().to_string();
            let wanted = format!("cannot read {}: not a regular file", path.display());
            assert!(refused.starts_with(&wanted), "{refused}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "([\\[\\]=(), \\\\\"'#;:\n\r\ta-c\u{1b}\u{feff}]|eth0=f\\(|\\[a\\]\n){0,60}") {
            if let Ok(sections) = parse(&text, Path::new("f")) {
                for entry in sections.iter().flat_map(|s| &s.entries) {
                    let line = text.lines().nth(entry.place.line - 1).unwrap();
                    assert!(line.trim().starts_with(&entry.key));
                }
            }
        }
    }
}
