//! What both sides of a remote connection compute from the password in version 1 of the authentication: proofs, and the
//! keys of the seals. Pure; used by umlmon and by the clients. `umlmonctrl.x` describes it, at the program UMLMONAUTH.

use std::fmt;

use hmac::{Hmac, KeyInit as _, Mac as _};
use md5::{Digest as _, Md5};
use zeroize::Zeroizing;

use crate::umlmonctrl::{
    AuthMac, AuthNonce, AuthPurpose, AuthTranscript, PasswordSetArgs, UMLMONAUTH, UMLMONAUTH_V1,
};
use crate::xdr::Pack as _;

/// The label with which TLS exports what binds a proof to its connection (RFC 8446 section 7.5).
pub const BINDING_LABEL: &[u8] = b"EXPORTER-umlmon-auth";

/// Bytes that TLS exports for this.
pub const BINDING_LENGTH: usize = 32;

/// The MD5 sum of a password. Wiped from memory when dropped, and not shown by `Debug`.
#[derive(Clone)]
pub struct Key(Zeroizing<[u8; 16]>);

impl Key {
    /// The key of a password as a person types it.
    pub fn from_password(clear: &str) -> Key {
        Key::from_md5(Md5::digest(clear.as_bytes()).into())
    }

    /// The key of a password of which the MD5 sum is known.
    pub fn from_md5(sum: [u8; 16]) -> Key {
        Key(Zeroizing::new(sum))
    }

    /// Replaces the old password in PASSWORD_SET if none is set.
    pub fn unset() -> Key {
        Key::from_md5([0; 16])
    }

    /// The MD5 sum, for storing it.
    pub fn md5(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(..)")
    }
}

/// A key of HMAC-MD5 that seals the messages of one direction.
pub(crate) type MacState = Hmac<Md5>;

/// What the proofs of an authentication cover: the VM, the nonces, whether seals follow, and the TLS connection.
#[derive(Debug, Clone)]
pub struct Transcript(AuthTranscript);

impl Transcript {
    /// The transcript of a connection. `binding` is what its TLS exports ([`BINDING_LABEL`]), else empty.
    pub fn new(vm: &str, client: AuthNonce, server: AuthNonce, seal: bool, binding: &[u8]) -> Self {
        Transcript(AuthTranscript {
            prog: UMLMONAUTH,
            vers: UMLMONAUTH_V1,
            purpose: AuthPurpose::ClientProof,
            vm: vm.to_owned(),
            client_nonce: client,
            server_nonce: server,
            seal,
            binding: binding.to_vec(),
        })
    }

    /// The client's proof that it knows the password.
    pub fn client_proof(&self, key: &Key) -> AuthMac {
        self.mac(key, AuthPurpose::ClientProof)
    }

    /// The server's proof that it knows the password.
    pub fn server_proof(&self, key: &Key) -> AuthMac {
        self.mac(key, AuthPurpose::ServerProof)
    }

    /// Whether `proof` is the client's. The comparison takes constant time.
    pub fn is_client_proof(&self, key: &Key, proof: &AuthMac) -> bool {
        verify(self.state(key, AuthPurpose::ClientProof), proof)
    }

    /// Whether `proof` is the server's.
    pub fn is_server_proof(&self, key: &Key, proof: &AuthMac) -> bool {
        verify(self.state(key, AuthPurpose::ServerProof), proof)
    }

    /// Keys of the seals of calls and of replies.
    pub(crate) fn seal_keys(&self, key: &Key) -> (MacState, MacState) {
        let direction = |purpose| hmac(&Key::from_md5(self.mac(key, purpose)));
        (
            direction(AuthPurpose::CallKey),
            direction(AuthPurpose::ReplyKey),
        )
    }

    fn mac(&self, key: &Key, purpose: AuthPurpose) -> AuthMac {
        self.state(key, purpose).finalize().into_bytes().into()
    }

    /// HMAC-MD5 of the transcript in XDR.
    fn state(&self, key: &Key, purpose: AuthPurpose) -> MacState {
        let mut bytes = Vec::new();
        let transcript = AuthTranscript {
            purpose,
            ..self.0.clone()
        };
        let mut state = hmac(key);
        match transcript.pack(&mut bytes) {
            Ok(_) => state.update(&bytes),
            // Longer than the interface allows. No peer can have such a transcript, so nothing matches this one.
            Err(_) => state.update(format!("{transcript:?}").as_bytes()),
        }
        state
    }
}

/// The change of a password (PASSWORD_SET): only a party that knows the old password can read the new one.
#[derive(Debug)]
pub struct PasswordChange(Transcript);

impl PasswordChange {
    /// For a call with `nonce`, on a connection on which the server used the nonce `server`; zeros on the local socket.
    pub fn new(vm: &str, nonce: AuthNonce, server: AuthNonce) -> Self {
        PasswordChange(Transcript::new(vm, nonce, server, true, &[]))
    }

    /// The arguments of the call.
    pub fn hide(&self, old: &Key, new: &Key) -> PasswordSetArgs {
        let new_password = self.mask(old, new.md5());
        PasswordSetArgs {
            nonce: self.0.0.client_nonce,
            old_proof: self
                .bound(new_password)
                .mac(old, AuthPurpose::PasswordProof),
            new_password,
        }
    }

    /// The new password, if the caller knows the old one.
    pub fn reveal(&self, old: &Key, args: &PasswordSetArgs) -> Option<Key> {
        let state = self
            .bound(args.new_password)
            .state(old, AuthPurpose::PasswordProof);
        verify(state, &args.old_proof).then(|| Key::from_md5(self.mask(old, &args.new_password)))
    }

    fn mask(&self, old: &Key, bytes: &[u8; 16]) -> [u8; 16] {
        let mut masked = self.0.mac(old, AuthPurpose::PasswordMask);
        for (byte, other) in masked.iter_mut().zip(bytes) {
            *byte ^= other;
        }
        masked
    }

    fn bound(&self, new_password: [u8; 16]) -> Transcript {
        let mut transcript = self.0.clone();
        transcript.0.binding = new_password.to_vec();
        transcript
    }
}

/// A random nonce.
///
/// # Errors
/// If the kernel gives no random bytes.
pub fn nonce() -> std::io::Result<AuthNonce> {
    let mut nonce = AuthNonce::default();
    getrandom::fill(&mut nonce).map_err(std::io::Error::other)?;
    Ok(nonce)
}

/// HMAC-MD5 with a key, before any data.
pub(crate) fn hmac(key: &Key) -> MacState {
    // Shorter than a block of the hash, so it is padded with zeros (RFC 2104).
    let mut block = Zeroizing::new([0; 64]);
    if let Some(start) = block.first_chunk_mut::<16>() {
        *start = *key.0;
    }
    Hmac::new((&*block).into())
}

/// Compares in constant time.
pub(crate) fn verify(state: MacState, mac: &AuthMac) -> bool {
    state.verify_slice(mac).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn transcript(vm: &str, client: u8, server: u8, seal: bool, binding: &[u8]) -> Transcript {
        Transcript::new(vm, [client; 16], [server; 16], seal, binding)
    }

    #[test]
    fn hmac_is_that_of_rfc_2202() {
        // Test cases 1 and 3, those with keys of 16 bytes.
        let of = |key, data: &[u8]| hmac(&Key::from_md5(key)).chain_update(data);
        let cases = [
            (
                of([0x0b; 16], b"Hi There"),
                0x9294_727a_3638_bb1c_13f4_8ef8_158b_fc9d_u128,
            ),
            (
                of([0xaa; 16], &[0xdd; 50]),
                0x56be_3452_1d14_4c88_dbb8_c733_f0e8_b3f6,
            ),
        ];
        for (state, expected) in cases {
            assert!(verify(state, &expected.to_be_bytes()));
        }
    }

    #[test]
    fn the_key_is_the_md5_sum() {
        // RFC 1321, A.5
        let sum = 0x9001_5098_3cd2_4fb0_d696_3f7d_28e1_7f72_u128.to_be_bytes();
        assert_eq!(Key::from_password("abc").md5(), &sum);
        assert_eq!(format!("{:?}", Key::from_password("abc")), "Key(..)");
    }

    #[test]
    fn everything_in_the_transcript_counts() {
        let key = Key::from_password("abc");
        let base = transcript("vm1", 1, 2, true, b"");
        let proof = base.client_proof(&key);
        assert!(base.is_client_proof(&key, &proof));
        let others = [
            transcript("vm2", 1, 2, true, b""),
            transcript("vm1", 3, 2, true, b""),
            transcript("vm1", 1, 3, true, b""),
            transcript("vm1", 2, 1, true, b""),
            transcript("vm1", 1, 2, false, b""),
            transcript("vm1", 1, 2, true, b"tls"),
            transcript("vm1", 1, 2, true, &[0; 65]),
        ];
        for other in others {
            assert!(!other.is_client_proof(&key, &proof), "{other:?}");
        }
        assert!(!base.is_client_proof(&Key::from_password("abd"), &proof));
        let mut wrong = proof;
        wrong[15] ^= 1;
        assert!(!base.is_client_proof(&key, &wrong));
    }

    #[test]
    fn a_proof_is_good_for_one_direction() {
        let key = Key::from_password("abc");
        let transcript = transcript("vm1", 1, 1, true, b"");
        assert!(!transcript.is_server_proof(&key, &transcript.client_proof(&key)));
        assert!(!transcript.is_client_proof(&key, &transcript.server_proof(&key)));
        assert!(transcript.is_server_proof(&key, &transcript.server_proof(&key)));
    }

    #[test]
    fn a_new_password_is_revealed_to_who_knows_the_old_one() {
        let (old, new) = (Key::from_password("old"), Key::from_password("new"));
        let change = PasswordChange::new("vm1", [1; 16], [2; 16]);
        let mut args = change.hide(&old, &new);
        assert_ne!(&args.new_password, new.md5());
        assert_eq!(change.reveal(&old, &args).unwrap().md5(), new.md5());
        assert!(change.reveal(&new, &args).is_none());
        assert!(change.reveal(&Key::unset(), &args).is_none());
        let elsewhere = PasswordChange::new("vm1", [1; 16], [3; 16]);
        assert!(elsewhere.reveal(&old, &args).is_none());
        args.new_password[0] ^= 1;
        assert!(change.reveal(&old, &args).is_none());
    }

    #[test]
    fn nonces_differ() {
        assert_ne!(nonce().unwrap(), nonce().unwrap());
    }
}
