//! What `-help WORD` prints: the entry of a word in the program's manual page, as plain text. The pages use few macros
//! of mdoc(7), and only those are known here.

/// The columns of a line, and by how many an entry and what is within it are indented.
const WIDTH: usize = 80;
const STEP: usize = 4;

/// The text of the first entry `.It MACRO NAME` of a page, Fl for an option or Cm for a keyword; None if it has none.
pub(crate) fn entry(page: &str, program: &str, kind: &str, name: &str) -> Option<String> {
    let mut lines = page.lines();
    let is_it = |line: &&str| {
        let mut words = line.split_whitespace();
        [".It", kind, name].iter().all(|w| words.next() == Some(w))
    };
    lines.find(is_it)?;
    let mut page = Page::new(program);
    let mut depth = 0_usize;
    for line in lines {
        match line.split_whitespace().next() {
            Some(".Bl") => depth += 1,
            Some(".El") if depth > 0 => depth -= 1,
            Some(".It" | ".El") if depth == 0 => break,
            _ => {}
        }
        page.take(line, depth);
    }
    page.paragraph();
    Some(page.text)
}

/// A text that grows by the lines of a page.
struct Page<'a> {
    program: &'a str,
    text: String,
    /// The words of the present paragraph.
    words: Words,
    indent: usize,
    is_literal: bool,
}

impl Page<'_> {
    fn new(program: &str) -> Page<'_> {
        Page {
            program,
            text: String::new(),
            words: Words::default(),
            indent: STEP,
            is_literal: false,
        }
    }

    fn take(&mut self, line: &str, depth: usize) {
        let Some(rest) = line.strip_prefix('.') else {
            return match self.is_literal {
                true => self.literal(line),
                false => line
                    .split_whitespace()
                    .for_each(|word| self.words.push(word)),
            };
        };
        let (name, arguments) = rest.split_once(' ').unwrap_or((rest, ""));
        match name {
            "Bl" => self.paragraph(),
            "El" | "Pp" => {
                self.paragraph();
                self.indent = STEP * (depth + 1);
                self.blank();
            }
            "It" => {
                self.paragraph();
                self.indent = STEP * depth;
                self.line(arguments);
                self.paragraph();
                self.indent = STEP * (depth + 1);
            }
            "Bd" | "Ed" => {
                self.paragraph();
                self.is_literal = name == "Bd";
            }
            "Dl" => {
                self.paragraph();
                self.literal(arguments);
            }
            _ => self.line(rest),
        }
    }

    /// A line of macros and their arguments.
    fn line(&mut self, line: &str) {
        let mut before = "";
        let mut ends = Vec::new();
        let mut words = line.split_whitespace().peekable();
        while let Some(word) = words.next() {
            match word {
                "Fl" => before = "-",
                "Ar" => before = "ARG",
                "Cm" | "Pa" | "Dv" | "Ev" | "Ic" | "No" | "Sx" | "Sy" | "Vt" => before = "",
                "Ns" => self.words.glue = true,
                "Nm" if words.peek().is_none_or(|next| is_closing(next)) => {
                    self.words.push(self.program);
                }
                "Nm" => {}
                "Xr" => {
                    let (page, section) = (words.next(), words.next());
                    let name = format!("{}({})", page.unwrap_or(""), section.unwrap_or(""));
                    self.words.push(&name);
                }
                "Dq" | "Ql" => ends.push(self.words.open("\"", "\"")),
                "Pq" => ends.push(self.words.open("(", ")")),
                "Op" | "Bq" => ends.push(self.words.open("[", "]")),
                "Po" => drop(self.words.open("(", ")")),
                "Pc" => self.words.close(")"),
                _ if is_closing(word) && words.peek().is_none() => {
                    ends.drain(..).rev().for_each(|end| self.words.close(end));
                    self.words.close(word);
                }
                _ if before == "ARG" => self.words.push(&word.to_uppercase()),
                _ => self.words.push(&format!("{before}{word}")),
            }
        }
        ends.drain(..).rev().for_each(|end| self.words.close(end));
    }

    /// A line as it is.
    fn literal(&mut self, line: &str) {
        let line = plain(line);
        self.text
            .push_str(&format!("{:1$}{line}\n", "", self.indent + STEP));
    }

    /// Ends the present paragraph.
    fn paragraph(&mut self) {
        let mut column = WIDTH;
        for (n, word) in std::mem::take(&mut self.words.all).iter().enumerate() {
            let length = word.chars().count();
            if n > 0 && column + 1 + length <= WIDTH {
                self.text.push(' ');
                column += 1 + length;
            } else {
                let end = if n > 0 { "\n" } else { "" };
                self.text.push_str(&format!("{end}{:1$}", "", self.indent));
                column = self.indent + length;
            }
            self.text.push_str(word);
        }
        if column < WIDTH || !self.text.ends_with('\n') && !self.text.is_empty() {
            self.text.push('\n');
        }
    }

    fn blank(&mut self) {
        if !self.text.is_empty() && !self.text.ends_with("\n\n") {
            self.text.push('\n');
        }
    }
}

/// Words that are put together again where macros have split them.
#[derive(Default)]
struct Words {
    all: Vec<String>,
    /// The next word belongs to the last one.
    glue: bool,
}

impl Words {
    fn push(&mut self, word: &str) {
        let word = plain(word);
        match self.all.last_mut().filter(|_| self.glue) {
            Some(last) => last.push_str(&word),
            None => self.all.push(word),
        }
        self.glue = false;
    }

    fn open(&mut self, begin: &str, end: &'static str) -> &'static str {
        self.push(begin);
        self.glue = true;
        end
    }

    fn close(&mut self, end: &str) {
        self.glue = true;
        self.push(end);
    }
}

fn is_closing(word: &str) -> bool {
    matches!(word, "." | "," | ";" | ":" | ")" | "?" | "!")
}

/// Text without the escapes of roff.
fn plain(text: &str) -> String {
    text.replace("\\&", "")
        .replace("\\-", "-")
        .replace("\\e", "\\")
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "\
.Bl -tag
.It Fl info
Shows it.
.It Fl tail Ar file Ns Op , Ns Ar n
Shows the last
.Ar n
lines
.Pq Fl json No or not ,
see
.Xr umlmon 5 .
.Pp
.Nm
says
.Dq nothing .
.Bl -tag
.It Cm con Ns Ar n
A console
.Po
of it
.Pc .
.El
.Pp
Or:
.Dl a\\e  b
.El
.It Fl tail
Not this.
";

    #[test]
    fn an_entry_becomes_text() {
        let text = entry(PAGE, "umlwatch", "Fl", "tail").unwrap();
        let expected = "    Shows the last N lines (-json or not, see umlmon(5).\n";
        // The closing bracket of a line comes before its last comma.
        let expected = expected.replace("not, see", "not), see");
        let rest = "\n    umlwatch says \"nothing\".\n    conN\n        A console (of it).\n\n    Or:\n        a\\  b\n";
        assert_eq!(text, expected + rest);
        assert_eq!(entry(PAGE, "umlwatch", "Cm", "tail"), None);
    }

    #[test]
    fn lines_end_in_time() {
        let page = format!(".It Fl x\n{}\n.El\n", "word ".repeat(100));
        let text = entry(&page, "p", "Fl", "x").unwrap();
        assert!(text.lines().all(|line| line.len() <= WIDTH), "{text}");
        assert_eq!(text.split_whitespace().count(), 100);
    }
}
