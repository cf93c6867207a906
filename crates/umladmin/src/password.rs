//! `umladmin password`: from a password to what can stand for it in the configuration (umladmin).

use std::io::{self, BufRead, IsTerminal};

use cli::{Exit, Failure};
use config::Password;

use crate::report::Report;

/// The longest input, which no user types; input from a pipe must not fill the memory.
const MAX: u64 = 4096;

/// Prints the verifier, with which nobody can log in, or the MD5 sum.
pub(crate) fn run(verifier: bool) -> Result<Exit, Failure> {
    let clear = ask()?;
    let mut password = Password::from_clear(&clear).map_err(|e| Failure::new(Exit::Failed, e))?;
    if verifier {
        password = client::verifier_of(&password)?;
    }
    Report::new().print(&format!("{}\n", password.to_text()))?;
    Ok(Exit::Done)
}

/// Asks for a password twice, or reads a line where nobody can be asked.
pub(crate) fn ask() -> Result<String, Failure> {
    let stdin = io::stdin();
    if !stdin.is_terminal() {
        return first_line(stdin.lock());
    }
    let first = rpassword::prompt_password("Password: ")?;
    match rpassword::prompt_password("Again: ")? == first {
        true => Ok(first),
        false => Err(Failure::new(Exit::Failed, "the two passwords differ")),
    }
}

/// The first line without its end.
fn first_line(input: impl BufRead) -> Result<String, Failure> {
    let mut line = String::new();
    let read = input.take(MAX).read_line(&mut line);
    read.map_err(|e| Failure::from(e).about("cannot read the password"))?;
    let clear = line.strip_suffix('\n').unwrap_or(&line);
    Ok(clear.strip_suffix('\r').unwrap_or(clear).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rpc_xdr::pake;

    #[test]
    fn the_line_end_is_not_part_of_the_password() {
        for input in ["abc\nrest\n", "abc\r\n", "abc"] {
            assert_eq!(first_line(input.as_bytes()).unwrap(), "abc");
        }
        assert_eq!(first_line(" a b \n".as_bytes()).unwrap(), " a b ");
        assert!(first_line(&b"\xff\n"[..]).is_err());
    }

    #[test]
    fn a_verifier_can_be_configured() {
        let password = Password::from_clear("abc").unwrap();
        let verifier = client::verifier_of(&password).unwrap();
        let text = verifier.to_text();
        assert_eq!(Password::from_config(&text).unwrap(), verifier);
        assert!(!text.contains(&password.to_text()));
        let Password::Verifier(stored) = verifier else {
            panic!("no verifier");
        };
        let stretch = pake::stretch_of(stored.stretch).unwrap();
        assert!(pake::Verifier::from_bytes(stretch, &stored.bytes).is_some());
    }
}
