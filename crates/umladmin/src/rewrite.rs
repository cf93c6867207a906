//! A change of the main configuration file: made in its text, checked, and written as a whole, or shown (umladmin).

use std::path::{Path, PathBuf};

use cli::{Failure, printable};
use config::{Config, Document};
use files::Replacement;
use similar::TextDiff;

use crate::report::Report;
use crate::selection::bad_config;

/// A change that has begun. Until it is dropped or written, no other umladmin changes the file.
pub(crate) struct Rewrite {
    path: PathBuf,
    /// The right to write it; none if the change is only shown.
    replacement: Option<Replacement>,
    pub(crate) document: Document,
}

impl Rewrite {
    /// Begins a change of this file, or of an empty one if there is none.
    pub(crate) fn begin(path: &Path, is_dry_run: bool) -> Result<Rewrite, Failure> {
        let begun = match is_dry_run {
            true => Ok(None),
            false => Replacement::begin(path).map(Some),
        };
        let replacement = begun.map_err(|error| cannot_write(path, error))?;
        let document = match path.exists() {
            true => Document::load(path).map_err(bad_config)?,
            false => Document::new("", path),
        };
        Ok(Rewrite {
            path: path.to_owned(),
            replacement,
            document,
        })
    }

    /// What the file will say.
    pub(crate) fn check(&self) -> Result<Config, Failure> {
        self.document.check().map_err(bad_config)
    }

    /// Writes the file if that is right, or shows on stdout what would be different. Returns what it says then.
    pub(crate) fn finish(self, report: &Report) -> Result<Config, Failure> {
        let config = self.check()?;
        self.put(report)?;
        Ok(config)
    }

    /// The same, whether it is right or not.
    pub(crate) fn put(self, report: &Report) -> Result<(), Failure> {
        match self.replacement {
            Some(replacement) => {
                let put = replacement.put(self.document.text().as_bytes());
                put.map_err(|error| cannot_write(&self.path, error))
            }
            None => report.print(&difference(&self.document, &self.path)),
        }
    }
}

fn cannot_write(path: &Path, error: std::io::Error) -> Failure {
    Failure::from(error).about(format_args!("cannot write {}", path.display()))
}

/// The lines that are different, as of diff(1) with `-u`. Passwords are not shown.
pub(crate) fn difference(document: &Document, path: &Path) -> String {
    let name = path.display().to_string();
    let (old, new) = (document.original(), document.text());
    let lines = TextDiff::from_lines(old, &new);
    let shown = lines.unified_diff().header(&name, &name).to_string();
    let shown = shown.lines().map(|line| match line.split_once('=') {
        Some((param, _)) if is_password(param) => format!("{param}= (not shown)\n"),
        _ => format!("{}\n", printable(line.as_bytes())),
    });
    shown.collect()
}

/// Whether this is what stands before the value in a line of a difference.
fn is_password(param: &str) -> bool {
    let name = param.get(1..).unwrap_or_default();
    name.trim_start_matches(['#', ';', ' ', '\t']).trim_end() == "password"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_difference_has_no_password() {
        let path = Path::new("umlmon");
        let mut document = Document::new("[a]\npassword = secret\nmem = 32\n", path);
        document.set("a", "password", "other").unwrap();
        let shown = difference(&document, path);
        let hidden = "-password = (not shown)\n+password = (not shown)\n mem = 32\n";
        assert_eq!(
            shown,
            format!("--- umlmon\n+++ umlmon\n@@ -1,3 +1,3 @@\n [a]\n{hidden}")
        );
    }

    #[test]
    fn a_dry_run_writes_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("umlmon");
        let values = [("vmuser", "1000"), ("mem", "32")];
        for is_dry_run in [true, false] {
            let mut rewrite = Rewrite::begin(&file, is_dry_run).unwrap();
            rewrite.document.add("a", &values).unwrap();
            rewrite.finish(&Report::new()).unwrap();
            assert_eq!(file.exists(), !is_dry_run);
        }
        let mut rewrite = Rewrite::begin(&file, false).unwrap();
        rewrite.document.set("a", "mem", "much").unwrap();
        assert!(rewrite.finish(&Report::new()).is_err());
        let text = std::fs::read_to_string(&file).unwrap();
        assert_eq!(text, "[a]\nvmuser = 1000\nmem = 32\n");
    }
}
