//! The change of the password (umlmon, the monitor process). A try of the old one counts like a login.

use config::{Config, Password};
use rpc_xdr::auth::{Key, PasswordChange};
use rpc_xdr::pake::{Context, Proved, Verifier};
use rpc_xdr::umlmonctrl::{
    AuthNonce, AuthStretch, PasswordChallenge, PasswordFinishArgs, PasswordSetArgs,
    PasswordStartArgs,
};

use crate::failure::Failure;
use crate::passwords::{Attempt, Change, Which};
use crate::service::Service;
use crate::service::session::{Session, Trust};

impl Service {
    /// PASSWORD_START
    pub(super) fn start_password(
        &self,
        session: &Session,
        args: &PasswordStartArgs,
    ) -> Result<PasswordChallenge, Failure> {
        if let Trust::Remote {
            proved: Proved::V1(_),
            ..
        } = session.trust()
        {
            let text =
                "this connection is not safe enough for a new password: log in without -legacy";
            return Err(Failure::NotAuthorised(text.into()));
        }
        let name = self.setup.name();
        let old = Config::load(&self.setup.configured.file)?
            .vm(name)?
            .password;
        let mut change = Change { old, tried: None };
        let Some(old) = &change.old else {
            session.begin_change(change);
            return Ok(PasswordChallenge { offer: None });
        };
        let attempt = self.try_password(session)?;
        let verifier = self.passwords.verifier(Which::Vm, Some(old));
        let verifier = verifier.ok_or_else(|| {
            Failure::Failed("the old password cannot be checked: its verifier is faulty".into())
        })?;
        let offered = verifier.offer(&args.request, &Context::password(name.as_str()));
        let (offered, offer) = offered.ok_or_else(|| Failure::Invalid("no request".into()))?;
        change.tried = Some((attempt, offered));
        session.begin_change(change);
        Ok(PasswordChallenge { offer: Some(offer) })
    }

    /// PASSWORD_FINISH
    pub(super) fn finish_password(
        &self,
        session: &Session,
        args: PasswordFinishArgs,
    ) -> Result<(), Failure> {
        let change = session.take_change().ok_or_else(|| {
            Failure::Invalid("PASSWORD_FINISH without PASSWORD_START before".into())
        })?;
        if let Some((attempt, offered)) = change.tried {
            let proved = args.old_proof.and_then(|proof| offered.finish(&proof));
            decide(session, attempt, proved.is_some())?;
        }
        let name = self.setup.name();
        if Config::load(&self.setup.configured.file)?
            .vm(name)?
            .password
            != change.old
        {
            let text = "somebody else has changed the password meanwhile";
            return Err(Failure::Busy(text.into()));
        }
        let mut bytes = args.verifier;
        if let Trust::Remote {
            proved: Proved::V2(key),
            ..
        } = session.trust()
        {
            key.mask(&mut bytes);
        }
        if args.stretch == AuthStretch::None || Verifier::from_bytes(args.stretch, &bytes).is_none()
        {
            return Err(Failure::Invalid("the verifier makes no sense".into()));
        }
        let stretch = args.stretch as u32;
        self.store_password(&Password::Verifier(Box::new(config::Verifier {
            stretch,
            bytes,
        })))
    }

    /// PASSWORD_SET, for clients of version 1.
    pub(super) fn set_password(
        &self,
        session: &Session,
        args: &PasswordSetArgs,
    ) -> Result<(), Failure> {
        let nonce = match session.trust() {
            Trust::Local => AuthNonce::default(),
            Trust::Remote {
                proved: Proved::V1(nonce),
                ..
            } => *nonce,
            Trust::Remote { .. } => {
                let text = "who logs in with version 2 changes the password by PASSWORD_START";
                return Err(Failure::NotAuthorised(text.into()));
            }
        };
        let name = self.setup.name();
        // Without an old password there would be nothing to hide the new one with.
        let Some(Password::Md5(old)) = Config::load(&self.setup.configured.file)?
            .vm(name)?
            .password
        else {
            let text = "the password is not set, or kept as a verifier: umlwatch -change-password changes it";
            return Err(Failure::NotAuthorised(text.into()));
        };
        let attempt = self.try_password(session)?;
        let change = PasswordChange::new(name.as_str(), args.nonce, nonce);
        let new = change.reveal(&Key::from_md5(old), args);
        decide(session, attempt, new.is_some())?;
        new.map_or(Ok(()), |new| {
            self.store_password(&Password::Md5(*new.md5()))
        })
    }

    fn try_password(&self, session: &Session) -> Result<Attempt, Failure> {
        self.passwords
            .attempt(session.caller())
            .map_err(Failure::Busy)
    }

    fn store_password(&self, password: &Password) -> Result<(), Failure> {
        let name = self.setup.name();
        self.change(|changes, config| changes.set(config, name, "password", &password.to_text()))
    }
}

/// The end of an attempt.
fn decide(session: &Session, attempt: Attempt, is_right: bool) -> Result<(), Failure> {
    if is_right {
        attempt.right();
        return Ok(());
    }
    let (peer, count) = (session.peer(), attempt.wrong());
    tracing::warn!("{peer} does not know the old password, attempt {count} from there");
    Err(Failure::NotAuthorised("the old password is wrong".into()))
}
