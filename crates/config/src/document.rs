//! The text of the main configuration file, changed so that everything else in it stays as it is: comments, order,
//! blanks, ends of lines. Used by umladmin; what is written is another matter.
//!
//! It is changed line by line and then parsed as every program does, so that nothing here decides what is right.

use std::ops::Range;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::ini;
use crate::lint::lint_text;
use crate::main_file::Config;
use crate::names::VmName;
use crate::params;
use crate::setting::SectionKind;
use crate::sound::header;
use crate::user::UserChanges;

/// The text of a main configuration file.
///
/// ```
/// let mut document = config::Document::new("# Ours.\n[vm1]\nvmuser = nobody\nmem = 64 \n", "umlmon".as_ref());
/// document.set("vm1", "mem", "128")?;
/// assert_eq!(document.text(), "# Ours.\n[vm1]\nvmuser = nobody\nmem = 128\n");
/// # Ok::<(), config::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Document {
    path: PathBuf,
    original: String,
    /// The byte order mark, if there is one.
    mark: String,
    /// Each with its end, but for the last one, which may have none.
    lines: Vec<String>,
}

/// The lines of a section, counted from 0.
struct Section {
    /// The comment above the header, without an empty line in between, belongs to the section.
    comment: usize,
    header: usize,
    /// The line after its last parameter, or last parameter that is commented out.
    end: usize,
}

impl Document {
    /// The text of a file; the path is for messages.
    pub fn new(text: &str, path: &Path) -> Document {
        let lines = ini::without_mark(text);
        Document {
            path: path.to_owned(),
            original: text.to_owned(),
            mark: text.strip_suffix(lines).unwrap_or_default().to_owned(),
            lines: lines.split_inclusive('\n').map(str::to_owned).collect(),
        }
    }

    /// Reads a file, as [`Config::load`] does.
    pub fn load(path: &Path) -> Result<Document> {
        Ok(Document::new(&ini::read_whole(path)?, path))
    }

    /// The text with the changes.
    pub fn text(&self) -> String {
        self.mark.clone() + &self.lines.concat()
    }

    /// The text as it was given.
    pub fn original(&self) -> &str {
        &self.original
    }

    /// Replaces the whole text, as after somebody has edited it.
    pub fn rewrite(&mut self, text: &str) {
        let new = Document::new(text, &self.path);
        self.mark = new.mark;
        self.lines = new.lines;
    }

    /// All that is wrong with the text, also what was wrong before.
    pub fn faults(&self) -> Vec<Error> {
        let text = self.text();
        match lint_text(ini::without_mark(&text).to_owned(), &self.path) {
            Ok((faults, _)) => faults,
            Err(fault) => vec![fault],
        }
    }

    /// What the text says with the changes.
    ///
    /// # Errors
    /// If something is wrong that was not wrong before: what is wrong with another VM must not prevent a change.
    pub fn check(&self) -> Result<Config> {
        let parse = |text: &str| Config::parse_sound(ini::without_mark(text), &self.path);
        let after = parse(&self.text())?;
        let before = parse(&self.original);
        let was_faulty = |vm: &VmName| {
            let before = before.as_ref().ok();
            before.is_some_and(|before| {
                before.vm_names().any(|it| it == vm) && fault(before, vm).is_some()
            })
        };
        for vm in after.vm_names().filter(|vm| !was_faulty(vm)) {
            if let Some(error) = fault(&after, vm) {
                return Err(error);
            }
        }
        let known = before.map_or(0, |before| before.nameless_faults().count());
        let new = after.nameless_faults().nth(known);
        new.map_or(Ok(after), Err)
    }

    /// Whether there is a section of this name.
    pub fn has(&self, section: &str) -> bool {
        self.find(section).is_ok()
    }

    /// Adds a section at the end, with these parameters and their values.
    ///
    /// # Errors
    /// If there is one already, or if a value cannot stand in a line.
    pub fn add(&mut self, section: &str, values: &[(&str, &str)]) -> Result<()> {
        self.check_new(section)?;
        let mut lines = vec![format!("[{section}]")];
        for (param, value) in values {
            lines.push(assignment(param, value)?);
        }
        self.append(lines);
        Ok(())
    }

    /// Adds a copy of a section at the end, with the comments within it.
    ///
    /// # Errors
    /// If there is no such section, or already one of the new name.
    pub fn copy(&mut self, section: &str, new: &str) -> Result<()> {
        let Section { header, end, .. } = self.find(section)?;
        self.check_new(new)?;
        let body = self.lines.get(header + 1..end).unwrap_or_default();
        let body = body.iter().map(|line| without_end(line).to_owned());
        let lines = std::iter::once(format!("[{new}]")).chain(body).collect();
        self.append(lines);
        Ok(())
    }

    /// Removes a section with the comment above its header, the comments within it, and the parameters that are
    /// commented out at its end. A comment that may belong to another section stays.
    ///
    /// # Errors
    /// If there is no such section.
    pub fn remove(&mut self, section: &str) -> Result<()> {
        let Section {
            comment, mut end, ..
        } = self.find(section)?;
        // The empty lines before or after it, whichever there are, separated it from others.
        let is_blank = |n: usize| self.lines.get(n).is_none_or(|line| line.trim().is_empty());
        let mut begin = comment;
        if begin == 0 || is_blank(begin - 1) {
            while end < self.lines.len() && is_blank(end) {
                end += 1;
            }
        }
        while end == self.lines.len() && begin > 0 && is_blank(begin - 1) {
            begin -= 1;
        }
        self.lines.drain(begin..end);
        Ok(())
    }

    /// Gives a section another name.
    ///
    /// # Errors
    /// If there is no such section, or already one of the new name.
    pub fn rename(&mut self, section: &str, new: &str) -> Result<()> {
        let found = self.find(section)?;
        self.check_new(new)?;
        if let Some(line) = self.lines.get_mut(found.header) {
            *line = line.replacen(section, new, 1);
        }
        Ok(())
    }

    /// Sets a parameter: a repeatable one has this value in addition to others. It takes the place of the old value, or
    /// is added below the line where it is commented out, or at the end of the section.
    ///
    /// # Errors
    /// If there is no such section, or if the value cannot stand in a line.
    pub fn set(&mut self, section: &str, param: &str, value: &str) -> Result<()> {
        let found = self.find(section)?;
        let line = assignment(param, value)?;
        let last = self.entries(&found, param).pop();
        let kind = kind(section);
        let is_repeatable = params::find(kind, param).is_some_and(|(param, _)| param.repeatable);
        match last {
            Some(lines) if !is_repeatable => {
                let old = self.lines.get(lines.start).map_or("", String::as_str);
                // The name with the blanks around it as they were.
                let name = old.split_inclusive('=').next().unwrap_or_default();
                let rest = old.get(name.len()..).unwrap_or_default();
                let blanks = rest.len() - rest.trim_start_matches([' ', '\t']).len();
                let kept = old.get(..name.len() + blanks).unwrap_or_default();
                let line = format!("{kept}{}", value.trim());
                self.splice(lines, line);
            }
            Some(lines) => self.splice(lines.end..lines.end, line),
            None => {
                let at = self.place_for(&found, param);
                self.splice(at..at, line);
            }
        }
        Ok(())
    }

    /// Removes a parameter, of a repeatable one all values. It need not be set.
    ///
    /// # Errors
    /// If there is no such section.
    pub fn clear(&mut self, section: &str, param: &str) -> Result<()> {
        let found = self.find(section)?;
        for lines in self.entries(&found, param).into_iter().rev() {
            self.lines.drain(lines);
        }
        Ok(())
    }

    /// The values of a parameter in a section, in the order of the file; of one that is wrapped, its first line.
    pub fn values(&self, section: &str, param: &str) -> Vec<&str> {
        let Ok(found) = self.find(section) else {
            return Vec::new();
        };
        let entries = self.entries(&found, param).into_iter();
        let lines = entries.filter_map(|lines| self.lines.get(lines.start));
        let values = lines.filter_map(|line| Some(line.split_once('=')?.1.trim()));
        values.collect()
    }

    fn find(&self, section: &str) -> Result<Section> {
        let name = |line: &String| header(line).is_some_and(|name| name == section);
        let Some(header) = self.lines.iter().position(name) else {
            let why = format!("{}: there is no section [{section}]", self.path.display());
            return Err(Error::Conflict(why));
        };
        let next = self.next_header(header + 1);
        // The comment of the next section is not part of this one.
        let limit = match next < self.lines.len() {
            true => self.comment_above(next),
            false => next,
        };
        let (mut n, mut end) = (header + 1, header + 1);
        let mut is_own = true;
        while let Some(line) = self.lines.get(n).filter(|_| n < limit) {
            let disabled = comment(line);
            if disabled.is_none() && key(line).is_some() {
                n = self.end_of_entry(n, limit);
                (end, is_own) = (n, true);
                continue;
            }
            n += 1;
            // What is commented out with a header above it was another section.
            is_own &= disabled.is_none_or(|text| !text.starts_with('['));
            let param = disabled.and_then(key);
            if is_own && param.is_some_and(|key| params::find(kind(section), key).is_some()) {
                end = n;
            }
        }
        Ok(Section {
            comment: self.comment_above(header),
            header,
            end,
        })
    }

    fn check_new(&self, section: &str) -> Result<()> {
        match self.has(section) {
            true => Err(Error::Conflict(format!(
                "{}: there is already a section [{section}]",
                self.path.display()
            ))),
            false => Ok(()),
        }
    }

    /// The first header from this line on, or the end of the text.
    fn next_header(&self, from: usize) -> usize {
        let rest = self.lines.get(from..).unwrap_or_default();
        let found = rest.iter().position(|line| header(line).is_some());
        found.map_or(self.lines.len(), |n| from + n)
    }

    /// Where the comment directly above a header begins. One that follows a parameter of the section before, without an
    /// empty line in between, may belong to either.
    fn comment_above(&self, header: usize) -> usize {
        let above = self.lines.get(..header).unwrap_or_default();
        let comments = above.iter().rev();
        let begin = header - comments.take_while(|line| comment(line).is_some()).count();
        match begin
            .checked_sub(1)
            .and_then(|before| self.lines.get(before))
        {
            Some(before) if !before.trim().is_empty() => header,
            _ => begin,
        }
    }

    /// The lines of each value of a parameter in a section.
    fn entries(&self, section: &Section, param: &str) -> Vec<Range<usize>> {
        let mut found = Vec::new();
        let mut n = section.header + 1;
        while let Some(line) = self.lines.get(n).filter(|_| n < section.end) {
            let Some(key) = key(line) else {
                n += 1;
                continue;
            };
            let end = self.end_of_entry(n, section.end);
            if key == param {
                found.push(n..end);
            }
            n = end;
        }
        found
    }

    /// The line after an entry, whose value may be wrapped.
    fn end_of_entry(&self, begin: usize, limit: usize) -> usize {
        let (mut opened, mut closed) = (0, 0);
        for (n, line) in self.lines.iter().enumerate().take(limit).skip(begin) {
            if comment(line).is_none() {
                opened += line.matches('(').count();
                closed += line.matches(')').count();
            }
            let wraps = n > begin || key(line).is_some_and(params::takes_form);
            if opened <= closed || !wraps {
                return n + 1;
            }
        }
        limit
    }

    /// Where a parameter that is not set is to be set.
    fn place_for(&self, section: &Section, param: &str) -> usize {
        let is_disabled = |line: &String| comment(line).and_then(key) == Some(param);
        let body = section.header + 1..section.end;
        let lines = self.lines.get(body.clone()).unwrap_or_default();
        if let Some(n) = lines.iter().rposition(is_disabled) {
            return body.start + n + 1;
        }
        let last = lines
            .iter()
            .rposition(|line| comment(line).is_none() && !line.trim().is_empty());
        body.start + last.map_or(0, |n| n + 1)
    }

    /// Replaces lines by one.
    fn splice(&mut self, lines: Range<usize>, line: String) {
        self.end_last_line();
        let end = self.line_end();
        self.lines.splice(lines, [line + end]);
    }

    /// Adds lines at the end, after an empty one.
    fn append(&mut self, lines: Vec<String>) {
        self.end_last_line();
        let end = self.line_end();
        if self
            .lines
            .last()
            .is_some_and(|last| !last.trim().is_empty())
        {
            self.lines.push(end.to_owned());
        }
        self.lines.extend(lines.into_iter().map(|line| line + end));
    }

    fn end_last_line(&mut self) {
        let end = self.line_end();
        if let Some(last) = self.lines.last_mut().filter(|last| !last.ends_with('\n')) {
            last.push_str(end);
        }
    }

    /// The end that lines have here.
    fn line_end(&self) -> &'static str {
        match self
            .lines
            .first()
            .is_some_and(|line| line.ends_with("\r\n"))
        {
            true => "\r\n",
            false => "\n",
        }
    }
}

fn kind(section: &str) -> SectionKind {
    match section {
        "GLOBAL" => SectionKind::Global,
        _ => SectionKind::Vm,
    }
}

/// What is wrong with a VM, but for its user changes.
fn fault(config: &Config, vm: &VmName) -> Option<Error> {
    config.vm_with(vm, &UserChanges::default()).err()
}

/// `param = value`, which nothing else can be read from.
fn assignment(param: &str, value: &str) -> Result<String> {
    let value = value.trim();
    if value.is_empty() || value.contains(|c: char| c.is_control() && c != '\t') {
        let why = "it must be one line, and not empty";
        return Err(Error::value("a value", value, why).of(param));
    }
    Ok(format!("{param} = {value}"))
}

fn without_end(line: &str) -> &str {
    let line = line.strip_suffix('\n').unwrap_or(line);
    line.strip_suffix('\r').unwrap_or(line)
}

/// What a comment says.
fn comment(line: &str) -> Option<&str> {
    line.trim().strip_prefix(['#', ';'])
}

/// The name in a line that sets a parameter.
fn key(line: &str) -> Option<&str> {
    let (key, _) = line.split_once('=')?;
    let key = key.trim();
    let is_name = |c: char| c == '_' || c.is_ascii_alphanumeric();
    (!key.is_empty() && key.chars().all(is_name)).then_some(key)
}
