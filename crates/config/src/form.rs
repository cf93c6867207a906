//! Values of the form `name(key=value,key=value)`: devices, MAC pools, schedulers, networks. Used by every program.

use std::str::FromStr;

use crate::error::{Error, Result, did_you_mean, quoted};

/// The keys that may be given more than once.
const REPEATED: [&str; 1] = ["forward"];

/// A parsed form. Take every key, then [`Form::finish`] it, which refuses the keys that were not taken.
pub(crate) struct Form<'a> {
    pub(crate) name: &'a str,
    rest: Vec<(&'a str, &'a str)>,
    known: Vec<&'static str>,
}

impl<'a> Form<'a> {
    /// Whether a value is meant as a form: everything with a name before a parenthesis is.
    pub(crate) fn is_form(text: &str) -> bool {
        text.split_once('(').is_some_and(|(name, _)| {
            !name.is_empty()
                && name
                    .trim()
                    .chars()
                    .all(|c| c == '_' || c.is_ascii_alphanumeric())
        })
    }

    pub(crate) fn parse(text: &'a str) -> Result<Form<'a>> {
        let bad = |why: String| Error::value("of the form name(key=value,...)", text, why);
        let Some((name, tail)) = text.split_once('(') else {
            return Err(bad("the '(' is missing".into()));
        };
        let Some(args) = tail.trim_end().strip_suffix(')') else {
            return Err(bad("the ')' at the end is missing".into()));
        };
        if args.contains(['(', ')']) {
            return Err(bad("there is a second parenthesis".into()));
        }
        let mut rest: Vec<(&str, &str)> = Vec::new();
        let args = Some(args).filter(|args| !args.trim().is_empty());
        for arg in args.into_iter().flat_map(|args| args.split(',')) {
            let (key, value) = arg
                .split_once('=')
                .map_or((arg.trim(), ""), |(k, v)| (k.trim(), v.trim()));
            if key.is_empty() || value.is_empty() {
                return Err(bad(format!("{} is not key=value", quoted(arg.trim()))));
            }
            if !REPEATED.contains(&key) && rest.iter().any(|(k, _)| *k == key) {
                return Err(bad(format!("{key} is given twice")));
            }
            rest.push((key, value));
        }
        Ok(Form {
            name: name.trim(),
            rest,
            known: Vec::new(),
        })
    }

    /// The text of an optional key.
    pub(crate) fn text(&mut self, key: &'static str) -> Option<&'a str> {
        self.known.push(key);
        let at = self.rest.iter().position(|(k, _)| *k == key)?;
        Some(self.rest.remove(at).1)
    }

    /// The value of an optional key, read by a function.
    pub(crate) fn read<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&str) -> Result<T>,
    ) -> Result<Option<T>> {
        self.text(key)
            .map(|text| read(text).map_err(|e| e.of(key)))
            .transpose()
    }

    /// The value of an optional key.
    pub(crate) fn optional<T: FromStr<Err = Error>>(
        &mut self,
        key: &'static str,
    ) -> Result<Option<T>> {
        self.read(key, str::parse)
    }

    /// The values of a key that may be given more than once.
    pub(crate) fn every<T: FromStr<Err = Error>>(&mut self, key: &'static str) -> Result<Vec<T>> {
        let mut values = Vec::new();
        while let Some(value) = self.optional(key)? {
            values.push(value);
        }
        Ok(values)
    }

    /// The value of a required key.
    pub(crate) fn required<T: FromStr<Err = Error>>(&mut self, key: &'static str) -> Result<T> {
        let value = self.optional(key)?;
        self.present(key, value)
    }

    /// Refuses a missing key.
    pub(crate) fn present<T>(&self, key: &'static str, value: Option<T>) -> Result<T> {
        value.ok_or_else(|| Error::Conflict(format!("{}(...) needs {key}=", self.name)))
    }

    /// Refuses the keys that are left.
    pub(crate) fn finish(self) -> Result<()> {
        match self.rest.first() {
            None => Ok(()),
            Some((key, _)) => {
                let hint = did_you_mean(key, self.known.iter().copied());
                let key = quoted(key);
                Err(Error::Conflict(format!(
                    "{}(...) has no {key}{hint}",
                    self.name
                )))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(text: &str) -> String {
        match Form::parse(text) {
            Ok(mut form) => {
                form.text("prio");
                form.finish().unwrap_err().to_string()
            }
            Err(e) => e.to_string(),
        }
    }

    #[test]
    fn takes_blanks_everywhere() {
        let mut form = Form::parse("f ( a = 1 , b=2 ) ").unwrap();
        assert_eq!(
            (form.name, form.text("b"), form.text("a"), form.text("c")),
            ("f", Some("2"), Some("1"), None)
        );
        form.finish().unwrap();
    }

    #[test]
    fn refuses_what_it_does_not_understand() {
        assert!(problem("f(a=1").contains("')' at the end is missing"));
        assert!(problem("f(a=1)x").contains("')' at the end is missing"));
        assert!(problem("f(a=(1))").contains("second parenthesis"));
        assert!(problem("f(,)").contains("is not key=value"));
        assert!(problem("f(a=1,)").contains("is not key=value"));
        assert!(problem("f(a=)").contains("is not key=value"));
        assert!(problem("f(a=1,a=2)").contains("a is given twice"));
        assert_eq!(
            problem("f(pro=1)"),
            "f(...) has no \"pro\"; did you mean \"prio\"?"
        );
    }
}
