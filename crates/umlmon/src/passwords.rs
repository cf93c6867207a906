//! The passwords of the VM: what they are checked with, and how often a source may try (umlmon, the monitor process).
//!
//! A login and a change of the password are the same thing here: an attempt. It counts as a wrong one unless it is
//! known that the password was right, whatever becomes of its connection.

mod penalties;

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use config::Password;
use rpc_xdr::auth::Key;
use rpc_xdr::pake::{Offered, Verifier, stretch_of};
use rpc_xdr::umlmonctrl::AuthStretch;
use tokio::time::Instant;

use penalties::{Penalties, Refusal};

use crate::shares::Caller;

/// Passwords, and who has tried them.
#[derive(Debug, Default)]
pub struct Passwords {
    penalties: RefCell<Penalties>,
    known: RefCell<[Option<Known>; 2]>,
}

/// Which password.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// That of the VM.
    Vm = 0,
    /// The master password.
    Master = 1,
}

/// A password as it was configured at the last attempt, and its verifier.
#[derive(Debug)]
struct Known {
    configured: Option<Password>,
    verifier: Rc<Verifier>,
}

impl Passwords {
    /// By what a password is checked that is configured like this; the verifier of no password if it is not set. None
    /// if it is a faulty one.
    pub fn verifier(&self, which: Which, configured: Option<&Password>) -> Option<Rc<Verifier>> {
        let mut known = self.known.borrow_mut();
        let known = known.get_mut(which as usize)?;
        if let Some(known) = known
            && known.configured.as_ref() == configured
        {
            return Some(Rc::clone(&known.verifier));
        }
        let verifier = Rc::new(match configured {
            None => Verifier::unset(),
            // Stretching would not help here: who reads the configuration has the key.
            Some(Password::Md5(sum)) => Verifier::new(&Key::from_md5(*sum), AuthStretch::None),
            Some(Password::Verifier(stored)) => {
                Verifier::from_bytes(stretch_of(stored.stretch)?, &stored.bytes)?
            }
        });
        *known = Some(Known {
            configured: configured.cloned(),
            verifier: Rc::clone(&verifier),
        });
        Some(verifier)
    }

    /// Why a source may not try a password now, as text for people.
    pub fn wait(&self, who: Caller) -> Option<String> {
        let wait = self.penalties.borrow().wait(who, Instant::now())?;
        Some(too_many(wait))
    }

    /// Begins an attempt; an error is why there must be none now, for people.
    pub fn attempt(self: &Rc<Self>, who: Caller) -> Result<Attempt, String> {
        let begun = self.penalties.borrow_mut().begin(who, Instant::now());
        begun.map_err(|refusal| match refusal {
            Refusal::Wait(wait) => too_many(wait),
            Refusal::AtOnce => {
                "too many logins from your address at the same time; try again in a second".into()
            }
        })?;
        Ok(Attempt {
            passwords: Rc::clone(self),
            who,
            decided: false,
        })
    }
}

fn too_many(wait: Duration) -> String {
    let seconds = wait.as_secs() + 1;
    format!("too many wrong passwords from your address; try again in {seconds} seconds")
}

/// A change of the password that has begun on a connection.
#[derive(Debug)]
pub struct Change {
    /// The old password, as it was configured.
    pub old: Option<Password>,
    /// What proves that the client knows it, if it is set.
    pub tried: Option<(Attempt, Offered)>,
}

/// An attempt that is under way. If it is dropped undecided, it was a wrong one.
#[derive(Debug)]
pub struct Attempt {
    passwords: Rc<Passwords>,
    who: Caller,
    decided: bool,
}

impl Attempt {
    /// The password is right: nothing that was before counts.
    pub fn right(mut self) {
        self.decided = true;
        self.passwords.penalties.borrow_mut().succeed(self.who);
    }

    /// The password is wrong, or the client has gone without a proof; gives how many such there have been in a row.
    pub fn wrong(mut self) -> u32 {
        self.decided = true;
        self.fail()
    }

    fn fail(&self) -> u32 {
        let mut penalties = self.passwords.penalties.borrow_mut();
        penalties.fail(self.who, Instant::now())
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if !self.decided {
            self.fail();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verifier_is_made_once_and_anew_when_the_password_changes() {
        let passwords = Passwords::default();
        let of = |password: Option<&Password>| passwords.verifier(Which::Vm, password).unwrap();
        let (abc, abd) = (
            Password::from_clear("abc").unwrap(),
            Password::from_clear("abd").unwrap(),
        );
        let first = of(Some(&abc));
        assert!(Rc::ptr_eq(&first, &of(Some(&abc))));
        let other = of(Some(&abd));
        assert!(!Rc::ptr_eq(&first, &other));
        assert!(!Rc::ptr_eq(&other, &of(None)));
        // The passwords do not get mixed up.
        let master = passwords.verifier(Which::Master, Some(&abd)).unwrap();
        assert!(Rc::ptr_eq(
            &master,
            &passwords.verifier(Which::Master, Some(&abd)).unwrap()
        ));
    }

    #[test]
    fn a_stored_verifier_is_taken_if_it_is_one() {
        let passwords = Passwords::default();
        let key = Key::from_password("abc");
        let bytes = Verifier::new(&key, AuthStretch::None).to_bytes().unwrap();
        let stored =
            |stretch, bytes| Password::Verifier(Box::new(config::Verifier { stretch, bytes }));
        let verifier = |password| passwords.verifier(Which::Vm, Some(&password));
        assert!(verifier(stored(0, bytes)).is_some());
        assert!(verifier(stored(9, bytes)).is_none());
        assert!(verifier(stored(1, [0xff; 320])).is_none());
    }

    #[test]
    fn an_attempt_that_is_broken_off_is_a_wrong_one() {
        let passwords = Rc::new(Passwords::default());
        let who = Caller::User(7);
        for _ in 0..3 {
            drop(passwords.attempt(who).unwrap());
        }
        assert_eq!(passwords.attempt(who).unwrap().wrong(), 4);
        assert!(passwords.wait(who).unwrap().contains("too many wrong"));
        assert!(passwords.attempt(who).is_err());
        assert!(passwords.wait(Caller::User(8)).is_none());
        let right = passwords.attempt(Caller::User(8)).unwrap();
        right.right();
        assert_eq!(passwords.attempt(Caller::User(8)).unwrap().wrong(), 1);
    }
}
