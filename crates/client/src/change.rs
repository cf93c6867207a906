//! The change of the password of a VM. Runs in the clients.

use cli::{Exit, Failure};
use rpc_xdr::auth::Key;
use rpc_xdr::pake::{Context, Guess, Proved, Verifier};
use rpc_xdr::umlmonctrl::{AuthStretch, PasswordFinishArgs, PasswordStartArgs};

use crate::client::Client;

impl Client {
    /// Changes the password; `old` is the one that counts until now, if there is one. Neither goes to the monitor: it
    /// keeps a verifier of the new one, with which nobody can log in.
    ///
    /// # Errors
    /// As for [`Client::call`]; the password is as it was before then.
    pub fn change_password(&mut self, old: Option<&Key>, new: &Key) -> Result<(), Failure> {
        let session = match &self.connection()?.proved {
            None => None,
            Some(Proved::V2(session)) => Some(session.clone()),
            Some(Proved::V1(_)) => {
                let text = "the password cannot be changed with -legacy: who listens could learn the new one";
                return Err(Failure::new(Exit::Failed, text));
            }
        };
        let impossible = || Failure::new(Exit::Failed, "this password cannot be used");
        // Whether there is an old one, the monitor says.
        let unset = Key::from_password("");
        let (guess, request) = Guess::new(old.unwrap_or(&unset)).ok_or_else(impossible)?;
        let start = PasswordStartArgs { request };
        let challenge = self.call(|monitor| Ok(monitor.password_start(&start)?.into_result()))?;
        let context = Context::password(self.vm().as_str());
        // Without a proof the monitor says that the old password is wrong.
        let proof = challenge
            .offer
            .and_then(|offer| Some(guess.finish(&offer, &context)?.1));
        let verifier = Verifier::new(new, AuthStretch::Argon2id);
        let mut bytes = verifier.to_bytes().ok_or_else(impossible)?;
        if let Some(session) = session {
            session.mask(&mut bytes);
        }
        let finish = PasswordFinishArgs {
            old_proof: proof,
            stretch: verifier.stretch(),
            verifier: bytes,
        };
        self.call(|monitor| Ok(monitor.password_finish(&finish)?.into_result()))?;
        self.change_key(new.clone());
        Ok(())
    }
}
