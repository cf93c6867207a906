//! The change of the password of a VM. Runs in the clients: what leaves them is a verifier of the new one.

use cli::{Exit, Failure};
use config::Password;
use rpc_xdr::auth::Key;
use rpc_xdr::pake::{Context, Guess, Proved, Verifier};
use rpc_xdr::umlmonctrl::{AuthStretch, ConfigSetArgs, PasswordFinishArgs, PasswordStartArgs};

use crate::client::Client;

/// A password as the configuration is to keep it, so that nobody can log in with what is kept.
///
/// # Errors
/// If there is too little memory for it.
pub fn verifier_of(password: &Password) -> Result<Password, Failure> {
    let made = match password {
        Password::Md5(sum) => Verifier::new(&Key::from_md5(*sum), AuthStretch::Argon2id),
        Password::Verifier(_) => return Ok(password.clone()),
    };
    let bytes = made.to_bytes().ok_or_else(|| {
        let text = "a verifier cannot be made: is there too little memory?";
        Failure::new(Exit::Failed, text)
    })?;
    let stretch = made.stretch() as u32;
    let verifier = config::Verifier { stretch, bytes };
    Ok(Password::Verifier(Box::new(verifier)))
}

/// The value with a verifier in place of a password in clear text. Any other one is left to the monitor, which knows
/// what is wrong with it.
fn without_clear_password(args: ConfigSetArgs) -> Result<ConfigSetArgs, Failure> {
    let text = std::str::from_utf8(&args.value).ok();
    let text = text.filter(|text| args.param == "password" && *text == text.trim());
    match text.map(|text| (text, Password::from_config(text))) {
        Some((text, Ok(password))) if !password.to_text().eq_ignore_ascii_case(text) => {
            let value = verifier_of(&password)?.to_text().into_bytes();
            Ok(ConfigSetArgs { value, ..args })
        }
        _ => Ok(args),
    }
}

impl Client {
    /// Sets a parameter from the next start on. A password in clear text does not go to the monitor, which keeps a
    /// verifier.
    ///
    /// # Errors
    /// As for [`Client::call`].
    pub fn set(&mut self, args: ConfigSetArgs) -> Result<(), Failure> {
        let args = without_clear_password(args)?;
        self.call(|monitor| Ok(monitor.config_set(&args)?.into_result()))
    }

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_password_is_set_in_clear_text() {
        let set = |param: &str, value: &str| {
            let (param, value) = (param.to_owned(), value.as_bytes().to_vec());
            let sent = without_clear_password(ConfigSetArgs { param, value }).unwrap();
            String::from_utf8(sent.value).unwrap()
        };
        let kept = set("password", "secret");
        assert!(kept.starts_with("$opaque$1$"), "{kept}");
        let sum = "900150983CD24fb0d6963f7d28e17f72";
        for value in [sum, &kept, " blank", "", "$opaque$1$faulty"] {
            assert_eq!(set("password", value), value);
        }
        assert_eq!(set("mem", "64"), "64");
    }
}
