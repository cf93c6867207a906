//! The files of the front end, which are part of the program (umlweb).

use crate::http::Answer;
use crate::sessions::secret;

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const MODULE: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";

/// What a file that is packed has at the end of its name.
const PACKED: &str = ".gz";

/// Where the page has the nonce of its styles.
const NONCE: &str = "@NONCE@";
const PAGE: &str = include_str!("../web/index.html");

/// A file: its path, type and content. One whose name ends in `.gz` is sent as it is, under the name without that; all
/// browsers unpack it.
type Asset = (&'static str, &'static str, &'static [u8]);

macro_rules! asset {
    ($path:literal, $kind:expr) => {
        (
            concat!("/", $path),
            $kind,
            include_bytes!(concat!("../web/", $path)),
        )
    };
}

const ASSETS: &[Asset] = &[
    asset!("app.css", CSS),
    asset!("app.js", MODULE),
    asset!("connection.js", MODULE),
    asset!("console.js", MODULE),
    asset!("dom.js", MODULE),
    asset!("icon.svg", SVG),
    asset!("list.js", MODULE),
    asset!("login.js", MODULE),
    asset!("styles.js", MODULE),
    asset!("terminal.js", MODULE),
    asset!("vm.js", MODULE),
    asset!("wall.js", MODULE),
    asset!("vendor/xterm.css", CSS),
    asset!("vendor/xterm.mjs.gz", MODULE),
];

/// The file at this path, and the nonce of its styles if it is a page. Files of another version of the program are not
/// used: browsers ask each time.
pub fn find(path: &str, known: Option<&str>) -> Option<(Answer, Option<String>)> {
    if path == "/" {
        let nonce = secret()?;
        let page = PAGE.replace(NONCE, &nonce);
        let answer = Answer::new(200, HTML, page).with("Cache-Control", "no-store");
        return Some((answer, Some(nonce)));
    }
    let mut all = ASSETS.iter();
    let (name, kind, content) = all.find(|(name, ..)| name.trim_end_matches(PACKED) == path)?;
    let tag = format!("\"{:016x}\"", sum(content));
    let answer = match known == Some(&tag) {
        true => Answer::new(304, kind, ""),
        false => Answer::new(200, kind, *content),
    };
    let answer = answer.with("Cache-Control", "no-cache").with("ETag", tag);
    let answer = match name.ends_with(PACKED) {
        true => answer.with("Content-Encoding", "gzip"),
        false => answer,
    };
    Some((answer, None))
}

/// A number that another content hardly has (FNV-1a). It protects from nothing.
fn sum(content: &[u8]) -> u64 {
    content.iter().fold(0xcbf2_9ce4_8422_2325, |sum, byte| {
        (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn what_is_of_others_is_what_its_table_says() {
        let vendor = concat!(env!("CARGO_MANIFEST_DIR"), "/web/vendor");
        let table = include_str!("../web/vendor/README.md");
        for file in ["xterm.mjs", "xterm.css"] {
            let script = "{ gzip -dc $0.gz 2>/dev/null || cat $0; } | sha256sum";
            let mut sum = Command::new("sh");
            sum.args(["-c", script, file]).current_dir(vendor);
            let sum = sum.output().unwrap();
            let sum = String::from_utf8(sum.stdout).unwrap();
            let sum = sum.split(' ').next().unwrap();
            let row = format!("| sha256 of `{file}`");
            let mut rows = table.lines().filter(|line| line.starts_with(&row));
            assert!(rows.any(|row| row.contains(sum)), "{file}: {sum}");
        }
    }

    #[test]
    fn pages_have_each_a_nonce_of_their_own() {
        let nonce = || find("/", None).unwrap().1.unwrap();
        assert_ne!(nonce(), nonce());
        assert!(find("/../Cargo.toml", None).is_none());
        let (answer, _) = find("/app.js", None).unwrap();
        let tag = answer.headers.iter().find(|(name, _)| *name == "ETag");
        let again = find("/app.js", Some(&tag.unwrap().1)).unwrap().0;
        assert_eq!((again.status, again.body.len()), (304, 0));
        let (packed, _) = find("/vendor/xterm.mjs", None).unwrap();
        let encoding = ("Content-Encoding", "gzip".to_owned());
        assert!(packed.headers.contains(&encoding) && !answer.headers.contains(&encoding));
    }
}
