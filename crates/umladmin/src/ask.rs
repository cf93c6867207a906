//! A question before something is lost (umladmin).

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};

use cli::{Exit, Failure, printable};

/// Asks on the terminal whether to go on; without one, nothing is done unasked.
pub(crate) fn agreed(question: &str) -> Result<bool, Failure> {
    let stdin = io::stdin();
    if !stdin.is_terminal() {
        let why = "nothing is done: nobody can be asked here; -yes does it unasked";
        return Err(Failure::new(Exit::Failed, why));
    }
    let lines = question.lines().map(|line| printable(line.as_bytes()));
    let question = lines.collect::<Vec<_>>().join("\n");
    write!(io::stderr(), "{question} [y/N] ")?;
    let mut answer = String::new();
    stdin.lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "yes"))
}
