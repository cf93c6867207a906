//! The change of the password (umlmon, the monitor process).

use config::{Config, Vm};
use rpc_xdr::auth::{Key, PasswordChange};
use rpc_xdr::umlmonctrl::{AuthNonce, PasswordSetArgs};

use crate::failure::Failure;
use crate::service::Service;
use crate::service::session::{Session, Trust};

impl Service {
    pub(super) fn set_password(
        &self,
        session: &Session,
        args: &PasswordSetArgs,
    ) -> Result<(), Failure> {
        let nonce = match session.trust() {
            Trust::Local => AuthNonce::default(),
            Trust::Remote {
                sealed: true,
                nonce,
            } => nonce,
            Trust::Remote { .. } => {
                return Err(Failure::NotAuthorised(
                    "the password can be changed over a sealed connection only".into(),
                ));
            }
        };
        let name = self.setup.name();
        let config = Config::load(&self.setup.configured.file)?;
        let change = PasswordChange::new(name.as_str(), args.nonce, nonce);
        let new = old_passwords(&config, &config.vm(name)?)
            .iter()
            .find_map(|old| change.reveal(old, args))
            .ok_or_else(|| Failure::NotAuthorised("the old password is wrong".into()))?;
        let password = config::Password::from_md5(*new.md5());
        self.change(|changes, config| changes.set(config, name, "password", &password.to_hex()))
    }
}

/// What counts as the old password: that of the VM, or the master password; for a VM without a password of its own,
/// none.
fn old_passwords(config: &Config, vm: &Vm) -> Vec<Key> {
    let set = [&vm.password, &config.global.password];
    let mut keys: Vec<Key> = set
        .into_iter()
        .flatten()
        .map(|password| Key::from_md5(*password.key()))
        .collect();
    if vm.password.is_none() {
        keys.push(Key::unset());
    }
    keys
}
