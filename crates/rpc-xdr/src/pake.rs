//! Version 2 of the authentication: OPAQUE (RFC 9807), and the verifiers by which a server checks a password that it
//! does not know. Used by umlmon, and by the clients. `umlmonctrl.x` describes it, at the program UMLMONAUTH.

use std::fmt;

use opaque_ke::argon2::Argon2;
use opaque_ke::errors::{InternalError, ProtocolError};
use opaque_ke::generic_array::{ArrayLength, GenericArray};
use opaque_ke::ksf::{Identity, Ksf};
use opaque_ke::{
    CipherSuite, ClientLogin, ClientLoginFinishParameters, ClientRegistration,
    ClientRegistrationFinishParameters, CredentialFinalization, CredentialRequest,
    CredentialResponse, Identifiers, Ristretto255, ServerLogin, ServerLoginParameters,
    ServerRegistration, ServerSetup, TripleDh,
};
use rand_core::OsRng;
use sha2::{Digest as _, Sha512};
use zeroize::Zeroizing;

use crate::auth::Key;
use crate::umlmonctrl::{
    AuthContext, AuthKe1, AuthKe3, AuthNonce, AuthOffer, AuthStretch, AuthVerifier, UMLMONAUTH,
    UMLMONAUTH_V2, UMLMONCTRL, UMLMONCTRL_V1,
};
use crate::xdr::Pack as _;

/// Bytes of a [`Verifier`].
pub const VERIFIER_LENGTH: usize = 320;

/// Bytes of the part of a verifier that is not the record: OPRF seed, private key, a public key that is not used.
const SETUP_LENGTH: usize = 128;

/// The credential identifier: a verifier is about one password only.
const CREDENTIAL: &[u8] = b"umlmon";

/// The algorithms of OPAQUE.
#[derive(Debug)]
struct Suite;

impl CipherSuite for Suite {
    type OprfCs = Ristretto255;
    type KeyExchange = TripleDh<Ristretto255, Sha512>;
    type Ksf = Stretching;
}

/// The key stretching function with which a verifier was made.
struct Stretching(AuthStretch);

impl Default for Stretching {
    fn default() -> Self {
        Stretching(AuthStretch::Argon2id)
    }
}

impl Ksf for Stretching {
    fn hash<L: ArrayLength<u8>>(
        &self,
        input: GenericArray<u8, L>,
    ) -> Result<GenericArray<u8, L>, InternalError> {
        match self.0 {
            AuthStretch::None => Identity.hash(input),
            // Version 0x13, 19456 KiB, 2 passes, 1 lane: what RFC 9106 and OWASP recommend for little memory.
            AuthStretch::Argon2id => Ksf::hash(&Argon2::default(), input),
        }
    }
}

/// The key stretching function of this number, as it is stored with a verifier.
pub fn stretch_of(number: u32) -> Option<AuthStretch> {
    [AuthStretch::None, AuthStretch::Argon2id]
        .into_iter()
        .find(|stretch| *stretch as u32 == number)
}

/// The context of a run of OPAQUE, in XDR. Client and server must use the same one.
#[derive(Debug, Clone)]
pub struct Context(Vec<u8>);

impl Context {
    /// Of a login to `vm`. `host` is the host as the user named it, `address` the address that the client has
    /// connected to. `binding` is what TLS exports ([`crate::auth::BINDING_LABEL`]), empty without TLS.
    pub fn login(vm: &str, host: &str, address: [u8; 16], binding: &[u8]) -> Context {
        Context::pack(&AuthContext {
            prog: UMLMONAUTH,
            vers: UMLMONAUTH_V2,
            vm: vm.to_owned(),
            host: host.to_owned(),
            address,
            binding: binding.to_vec(),
        })
    }

    /// Of a change of the password of `vm`.
    pub fn password(vm: &str) -> Context {
        Context::pack(&AuthContext {
            prog: UMLMONCTRL,
            vers: UMLMONCTRL_V1,
            vm: vm.to_owned(),
            host: String::new(),
            address: [0; 16],
            binding: Vec::new(),
        })
    }

    fn pack(context: &AuthContext) -> Context {
        let mut bytes = Vec::new();
        match context.pack(&mut bytes) {
            Ok(_) => Context(bytes),
            // Longer than the interface allows. No peer can have such a context, so nothing matches this one.
            Err(_) => Context(format!("{context:?}").into_bytes()),
        }
    }
}

/// The key that client and server share after a login. It stays secret even if the password becomes known later.
#[derive(Clone)]
pub struct SessionKey(Zeroizing<[u8; 64]>);

impl SessionKey {
    /// The keys of the seals of calls and of replies.
    pub(crate) fn directions(&self) -> (Key, Key) {
        let (calls, rest) = self.0.split_at(16);
        let (replies, _) = rest.split_at(16);
        (Key::from_md5(fixed(calls)), Key::from_md5(fixed(replies)))
    }

    /// Hides a verifier for PASSWORD_FINISH; the second time, reveals it.
    pub fn mask(&self, verifier: &mut AuthVerifier) {
        let (_, secret) = self.0.split_at(32);
        for (number, block) in (0u8..).zip(verifier.chunks_mut(64)) {
            let mask = Sha512::new()
                .chain_update(secret)
                .chain_update([number])
                .finalize();
            for (byte, other) in block.iter_mut().zip(mask) {
                *byte ^= other;
            }
        }
    }
}

impl fmt::Debug for SessionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionKey(..)")
    }
}

/// What a change of the password needs of the authentication of its connection.
#[derive(Debug, Clone)]
pub enum Proved {
    /// Of version 1: the server's nonce, for [`crate::auth::PasswordChange`].
    V1(AuthNonce),
    /// Of version 2: the key that hides the new verifier.
    V2(SessionKey),
}

/// What a server stores of a password, to check it and to prove that it is the right server. It is salted. Somebody who
/// steals it can impersonate the server and test guesses of the password, each as slow as the key stretching, but he
/// cannot log in with it.
pub struct Verifier {
    setup: ServerSetup<Suite>,
    /// None if no password is set.
    record: Option<ServerRegistration<Suite>>,
    stretch: AuthStretch,
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Verifier(..)")
    }
}

impl Verifier {
    /// Makes the verifier of a password. Argon2id takes some tens of milliseconds. If that fails, the verifier accepts
    /// no password.
    pub fn new(key: &Key, stretch: AuthStretch) -> Verifier {
        let setup = ServerSetup::new(&mut OsRng);
        let record = register(&setup, key, stretch).ok();
        Verifier {
            setup,
            record,
            stretch,
        }
    }

    /// A verifier that accepts no password. Its offers look like those of others.
    pub fn unset() -> Verifier {
        Verifier {
            setup: ServerSetup::new(&mut OsRng),
            record: None,
            stretch: AuthStretch::None,
        }
    }

    /// Reads what [`Verifier::to_bytes`] gives; None if it is not valid.
    pub fn from_bytes(stretch: AuthStretch, bytes: &[u8; VERIFIER_LENGTH]) -> Option<Verifier> {
        let (setup, record) = bytes.split_at(SETUP_LENGTH);
        Some(Verifier {
            setup: ServerSetup::deserialize(setup).ok()?,
            record: Some(ServerRegistration::deserialize(record).ok()?),
            stretch,
        })
    }

    /// The bytes to store; None if it accepts no password.
    pub fn to_bytes(&self) -> Option<[u8; VERIFIER_LENGTH]> {
        let record = self.record.as_ref()?.serialize();
        Some(fixed(&[&self.setup.serialize()[..], &record].concat()))
    }

    /// The key stretching function with which it was made.
    pub fn stretch(&self) -> AuthStretch {
        self.stretch
    }

    /// Answers a request. The client can use the offer once, if it knows the password. None if the request is not
    /// valid.
    pub fn offer(&self, request: &AuthKe1, context: &Context) -> Option<(Offered, AuthOffer)> {
        let started = ServerLogin::start(
            &mut OsRng,
            &self.setup,
            self.record.clone(),
            CredentialRequest::deserialize(request).ok()?,
            CREDENTIAL,
            server_parameters(context),
        );
        let started = started.ok()?;
        let offer = AuthOffer {
            stretch: self.stretch,
            response: fixed(&started.message.serialize()),
        };
        let offered = Offered {
            state: started.state,
            context: context.clone(),
        };
        Some((offered, offer))
    }
}

/// Both sides of the registration.
fn register(
    setup: &ServerSetup<Suite>,
    key: &Key,
    stretch: AuthStretch,
) -> Result<ServerRegistration<Suite>, ProtocolError> {
    let client = ClientRegistration::<Suite>::start(&mut OsRng, key.md5())?;
    let server = ServerRegistration::start(setup, client.message, CREDENTIAL)?;
    let stretching = Stretching(stretch);
    let parameters =
        ClientRegistrationFinishParameters::new(Identifiers::default(), Some(&stretching));
    let record = client
        .state
        .finish(&mut OsRng, key.md5(), server.message, parameters)?;
    Ok(ServerRegistration::finish(record.message))
}

/// What the server keeps of an offer until the client answers.
pub struct Offered {
    state: ServerLogin<Suite>,
    context: Context,
}

impl fmt::Debug for Offered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Offered(..)")
    }
}

impl Offered {
    /// The key, if the client knows the password.
    pub fn finish(self, proof: &AuthKe3) -> Option<SessionKey> {
        let message = CredentialFinalization::deserialize(proof).ok()?;
        let finished = self.state.finish(message, server_parameters(&self.context));
        Some(SessionKey(Zeroizing::new(fixed(
            &finished.ok()?.session_key,
        ))))
    }
}

fn server_parameters(context: &Context) -> ServerLoginParameters<'_, '_> {
    ServerLoginParameters {
        context: Some(&context.0),
        identifiers: Identifiers::default(),
    }
}

/// A client that tries a password.
pub struct Guess {
    state: ClientLogin<Suite>,
    key: Key,
}

impl fmt::Debug for Guess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Guess(..)")
    }
}

impl Guess {
    /// Begins a login, and gives the request to send; None if OPAQUE does not accept this key.
    pub fn new(key: &Key) -> Option<(Guess, AuthKe1)> {
        let started = ClientLogin::start(&mut OsRng, key.md5()).ok()?;
        let guess = Guess {
            state: started.state,
            key: key.clone(),
        };
        Some((guess, fixed(&started.message.serialize())))
    }

    /// The key, and the proof to send; None if the server does not know this password, or uses another
    /// context.
    pub fn finish(self, offer: &AuthOffer, context: &Context) -> Option<(SessionKey, AuthKe3)> {
        let stretching = Stretching(offer.stretch);
        let finished = self.state.finish(
            &mut OsRng,
            self.key.md5(),
            CredentialResponse::deserialize(&offer.response).ok()?,
            ClientLoginFinishParameters::new(
                Some(&context.0),
                Identifiers::default(),
                Some(&stretching),
            ),
        );
        let finished = finished.ok()?;
        let key = SessionKey(Zeroizing::new(fixed(&finished.session_key)));
        Some((key, fixed(&finished.message.serialize())))
    }
}

/// The bytes as an array. The suite decides their number; a test compares it with the interface.
fn fixed<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut fixed = [0; N];
    fixed.copy_from_slice(bytes);
    fixed
}

#[cfg(test)]
mod tests;
