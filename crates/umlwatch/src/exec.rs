//! `-exec`: a command in the guest, with the standard descriptors of this program, or in a terminal like its own.

use cli::{Exit, Failure};
use client::exec::{CANNOT, End};
use client::{Client, exec, signals};

/// The exit status as if the program had written to a reader that has gone.
const UNHEARD: u8 = 128 + 13;

/// Runs a command in the guest.
///
/// # Errors
/// If it ends with another status than 0, without a message; if it cannot be run.
pub(crate) fn exec(client: &Client, words: &[u8]) -> Result<(), Failure> {
    let ended = run(client, words).map_err(|failure| Failure {
        exit: Exit::Command(CANNOT),
        ..failure
    });
    match ended? {
        0 => Ok(()),
        status => Err(Failure::new(Exit::Command(status), "")),
    }
}

/// Runs a command; returns its exit status, as a shell gives it.
fn run(client: &Client, words: &[u8]) -> Result<u8, Failure> {
    match exec::run(client, words_of(words), Vec::new(), None)? {
        End::Command(status) => Ok(status),
        End::Signal(signal) => signals::obey(signal).map(|()| CANNOT),
        End::Unheard => Ok(UNHEARD),
        End::Late => Ok(CANNOT),
    }
}

/// The words of a command; a single one with blanks is for the guest's shell.
fn words_of(words: &[u8]) -> Vec<Vec<u8>> {
    match words.contains(&0) || !words.contains(&b' ') {
        true => words.split(|byte| *byte == 0).map(<[u8]>::to_vec).collect(),
        false => vec![b"/bin/sh".to_vec(), b"-c".to_vec(), words.to_vec()],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_single_word_with_blanks_is_for_the_shell() {
        assert_eq!(words_of(b"ls"), [b"ls"]);
        assert_eq!(words_of(b"ls\0-l x"), [&b"ls"[..], b"-l x"]);
        assert_eq!(words_of(b"ls -l"), [&b"/bin/sh"[..], b"-c", b"ls -l"]);
    }
}
