//! Where in the configuration file something is set (umladmin).

use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// The lines of a file by section and parameter.
pub(crate) struct Places {
    path: PathBuf,
    lines: HashMap<(String, String), Vec<usize>>,
}

impl Places {
    /// Finds them in a text that has been parsed as a configuration before.
    pub(crate) fn of(path: &Path, text: &str) -> Places {
        let mut lines: HashMap<_, Vec<usize>> = HashMap::new();
        let mut section = String::new();
        for (n, line) in text.lines().enumerate() {
            let line = line.trim();
            if let Some(header) = line.strip_prefix('[') {
                section = header.trim_end_matches(']').trim().to_owned();
                lines.insert((section.clone(), String::new()), vec![n + 1]);
            } else if let Some((param, _)) = line.split_once('=') {
                let key = (section.clone(), param.trim().to_owned());
                lines.entry(key).or_default().push(n + 1);
            }
        }
        Places {
            path: path.to_owned(),
            lines,
        }
    }

    /// Whether the section has this parameter.
    pub(crate) fn has(&self, section: &str, param: &str) -> bool {
        let key = (section.to_owned(), param.to_owned());
        self.lines.contains_key(&key)
    }

    /// `FILE:LINE` of a parameter or else of the header of its section; the file if there is neither.
    pub(crate) fn param(&self, section: &str, param: &str) -> String {
        self.nth(section, param, 0)
    }

    /// The same of one that is given several times, which are counted from 0.
    pub(crate) fn nth(&self, section: &str, param: &str, n: usize) -> String {
        let key = |param: &str| (section.to_owned(), param.to_owned());
        let line = self
            .lines
            .get(&key(param))
            .and_then(|lines| lines.get(n))
            .or_else(|| self.lines.get(&key(""))?.first());
        match line {
            Some(line) => format!("{}:{line}", self.path.display()),
            None => self.path.display().to_string(),
        }
    }

    /// The file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_found_in_their_section() {
        let text =
            "# x = y\n[GLOBAL]\ntcp=yes\n\n[ vm1 ]\nmem = 64\nkernelarg = a=b\nkernelarg = c\n";
        let places = Places::of(Path::new("f"), text);
        let line = |section, param| places.param(section, param);
        assert_eq!(line("GLOBAL", "tcp"), "f:3");
        assert_eq!(line("vm1", "kernelarg"), "f:7");
        assert_eq!(places.nth("vm1", "kernelarg", 1), "f:8");
        assert_eq!(line("vm1", "tcp"), "f:5");
        assert_eq!(line("vm2", "mem"), "f");
    }
}
