//! Interface file to tokens, and its comments with the places they stand at. Runs in `cargo xtask gen`.

use super::error::{Error, Result};

/// What a file consists of, besides blanks and comments.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token {
    /// A name or keyword.
    Word(String),
    /// A number: decimal, octal (leading 0) or hexadecimal (leading 0x), perhaps negative.
    Number(i64),
    /// One of `{ } ( ) [ ] < > , ; : = *`.
    Sign(char),
}

/// A comment, which documents the item beside it.
#[derive(Debug)]
pub(super) struct Comment {
    /// The text, joined to paragraphs.
    pub(super) text: String,
    /// Line of its begin.
    first: u32,
    /// Line of its end.
    last: u32,
    /// Nothing stands before it on its first line, so it belongs to what follows.
    leads: bool,
}

/// The tokens with their lines, and the comments beside them.
#[derive(Debug, Default)]
pub(super) struct Tokens {
    /// Each token with its line.
    pub(super) tokens: Vec<(Token, u32)>,
    /// In the order of the file.
    comments: Vec<Comment>,
}

impl Tokens {
    /// What is said about an item: the comment behind it on its last line, else the one that ends on the line above.
    pub(super) fn doc(&self, first: u32, last: u32) -> Option<String> {
        let behind = self
            .comments
            .iter()
            .find(|comment| !comment.leads && comment.first == last);
        let above = || {
            self.comments
                .iter()
                .find(|comment| comment.leads && comment.last + 1 == first)
        };
        behind.or_else(above).map(|comment| comment.text.clone())
    }
}

/// Splits `text`.
pub(super) fn tokens(text: &str) -> Result<Tokens> {
    let mut scanner = Scanner {
        rest: text,
        line: 1,
        line_has_token: false,
        out: Tokens::default(),
    };
    while scanner.step()? {}
    Ok(scanner.out)
}

struct Scanner<'a> {
    rest: &'a str,
    line: u32,
    line_has_token: bool,
    out: Tokens,
}

impl<'a> Scanner<'a> {
    /// Takes one token, comment or blank; false at the end.
    fn step(&mut self) -> Result<bool> {
        let Some(first) = self.rest.chars().next() else {
            return Ok(false);
        };
        match first {
            '\n' => {
                self.take(1);
                self.line += 1;
                self.line_has_token = false;
            }
            _ if first.is_whitespace() => drop(self.take(first.len_utf8())),
            '/' => self.comment()?,
            // Lines that rpcgen copies into its output; nothing for us.
            '%' if !self.line_has_token => drop(self.take_while(|c| c != '\n')),
            '#' => return Err(self.error("lines for the C preprocessor are not understood")),
            '{' | '}' | '(' | ')' | '[' | ']' | '<' | '>' | ',' | ';' | ':' | '=' | '*' => {
                self.take(1);
                self.push(Token::Sign(first));
            }
            _ if first == '_' || first.is_ascii_alphabetic() => {
                let word = self.take_while(|c| c == '_' || c.is_ascii_alphanumeric());
                self.push(Token::Word(word.to_owned()));
            }
            _ if first == '-' || first.is_ascii_digit() => self.number()?,
            _ => return Err(self.error(&format!("{first:?} has no meaning here"))),
        }
        Ok(true)
    }

    fn number(&mut self) -> Result<()> {
        let negative = self.rest.starts_with('-');
        if negative {
            self.take(1);
        }
        let word = self.take_while(|c| c.is_ascii_alphanumeric());
        let lower = word.to_ascii_lowercase();
        let value = if let Some(hex) = lower.strip_prefix("0x") {
            i64::from_str_radix(hex, 16)
        } else if lower.len() > 1 && lower.starts_with('0') {
            i64::from_str_radix(&lower, 8)
        } else {
            lower.parse()
        };
        let value = value.map_err(|_| self.error(&format!("{word:?} is not a number")))?;
        self.push(Token::Number(if negative { -value } else { value }));
        Ok(())
    }

    fn comment(&mut self) -> Result<()> {
        let Some(body) = self.rest.strip_prefix("/*") else {
            return Err(self.error("'/' has no meaning here; comments are /* like this */"));
        };
        let Some(length) = body.find("*/") else {
            return Err(self.error("this comment has no end"));
        };
        let body = self.take(length + 4);
        let body = body.trim_start_matches("/*").trim_end_matches("*/");
        let (first, leads) = (self.line, !self.line_has_token);
        self.line += u32::try_from(body.matches('\n').count()).unwrap_or(u32::MAX);
        let text = paragraphs(body);
        self.out.comments.push(Comment {
            text,
            first,
            last: self.line,
            leads,
        });
        Ok(())
    }

    fn push(&mut self, token: Token) {
        self.line_has_token = true;
        self.out.tokens.push((token, self.line));
    }

    fn take(&mut self, length: usize) -> &'a str {
        let (taken, rest) = self
            .rest
            .split_at_checked(length)
            .unwrap_or((self.rest, ""));
        self.rest = rest;
        taken
    }

    fn take_while(&mut self, wanted: impl Fn(char) -> bool) -> &'a str {
        self.take(self.rest.find(|c| !wanted(c)).unwrap_or(self.rest.len()))
    }

    fn error(&self, text: &str) -> Error {
        Error::new(self.line, text)
    }
}

/// The lines of a comment without the stars before them.
fn paragraphs(body: &str) -> String {
    let lines: Vec<&str> = body
        .lines()
        .map(|line| line.trim().trim_start_matches('*').trim())
        .collect();
    lines.join("\n").trim().to_owned()
}
