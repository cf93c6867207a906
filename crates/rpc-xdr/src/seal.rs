//! Seals: after the authentication every message of a remote connection proves in its verifier who made it, and that
//! none is missing. Used by umlmon and by the clients. `umlmonctrl.x` describes it, at the program UMLMONAUTH.

use std::fmt;

use hmac::Mac as _;

use crate::auth::{Key, MacState, Transcript, hmac, verify};
use crate::pake::SessionKey;
use crate::record::{self, MARK};
use crate::umlmonctrl::{AUTH_FLAVOR_SEAL, AuthMac};

/// Bytes of the flavor and the length in front of the body of credentials or a verifier.
const AUTH_HEADER: usize = 8;

/// Where the credentials of a call begin: behind xid, CALL, RPC version, program, version, procedure.
const CREDENTIALS: usize = MARK + 24;

/// Where the verifier of an accepted reply begins: behind xid, REPLY, MSG_ACCEPTED.
const REPLY_VERIFIER: usize = MARK + 12;

/// A message that the peer has not sealed, or that is not the next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// The seal is missing or wrong, or one before was.
    #[error("a message has no valid seal: it was changed, repeated or forged")]
    Wrong,
    /// A message to be sent that has no verifier.
    #[error("the message cannot be sealed")]
    NoVerifier,
}

/// The seals of one side of a connection.
pub struct Seal {
    out: Direction,
    /// None after a message with a wrong seal: no further message is accepted.
    inward: Option<Direction>,
}

struct Direction {
    /// An HMAC that has processed the key.
    key: MacState,
    number: u64,
}

impl fmt::Debug for Seal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seal(..)")
    }
}

impl Seal {
    /// For the client, after this authentication of version 1.
    pub fn client(transcript: &Transcript, key: &Key) -> Seal {
        let (calls, replies) = transcript.seal_keys(key);
        Seal::new(calls, replies)
    }

    /// For the server, after this authentication of version 1.
    pub fn server(transcript: &Transcript, key: &Key) -> Seal {
        let (calls, replies) = transcript.seal_keys(key);
        Seal::new(replies, calls)
    }

    /// For the client, after an authentication of version 2 that gave this key.
    pub fn client_of(session: &SessionKey) -> Seal {
        let (calls, replies) = session.directions();
        Seal::new(hmac(&calls), hmac(&replies))
    }

    /// For the server, after an authentication of version 2 that gave this key.
    pub fn server_of(session: &SessionKey) -> Seal {
        let (calls, replies) = session.directions();
        Seal::new(hmac(&replies), hmac(&calls))
    }

    fn new(out: MacState, inward: MacState) -> Seal {
        let direction = |key| Direction { key, number: 0 };
        Seal {
            out: direction(out),
            inward: Some(direction(inward)),
        }
    }

    /// Seals the next message to be sent: puts the seal in place of the verifier of `record`, which has its mark.
    ///
    /// # Errors
    /// [`SealError::NoVerifier`]; nothing has been changed then.
    pub fn seal(&mut self, record: &mut Vec<u8>) -> Result<(), SealError> {
        let (start, end) = verifier(record).ok_or(SealError::NoVerifier)?;
        let mut blank = [0; AUTH_HEADER + 16];
        if let Some(header) = blank.first_chunk_mut::<AUTH_HEADER>() {
            *header = header_of_seal();
        }
        record.splice(start..end, blank);
        record::finish(record);
        let body = start + AUTH_HEADER;
        let mac = self.out.mac(record, body).finalize().into_bytes();
        if let Some(place) = record.get_mut(body..body + mac.len()) {
            place.copy_from_slice(&mac);
        }
        self.out.number += 1;
        Ok(())
    }

    /// Checks that `record`, which has its mark, is the next message of the peer.
    ///
    /// # Errors
    /// [`SealError::Wrong`], now and for every later message.
    pub fn check(&mut self, record: &[u8]) -> Result<(), SealError> {
        let mut direction = self.inward.take().ok_or(SealError::Wrong)?;
        let (start, end) = verifier(record).ok_or(SealError::Wrong)?;
        let sealed = record.get(start..end).ok_or(SealError::Wrong)?;
        let (header, mac) = sealed
            .split_first_chunk::<AUTH_HEADER>()
            .ok_or(SealError::Wrong)?;
        let mac: &AuthMac = mac.try_into().map_err(|_| SealError::Wrong)?;
        if *header != header_of_seal() || !verify(direction.mac(record, start + AUTH_HEADER), mac) {
            return Err(SealError::Wrong);
        }
        direction.number += 1;
        self.inward = Some(direction);
        Ok(())
    }
}

impl Direction {
    /// HMAC of the number and the message whose verifier's body begins at `body`, taken as zeros.
    fn mac(&self, record: &[u8], body: usize) -> MacState {
        let (before, rest) = record.split_at(body.min(record.len()));
        self.key
            .clone()
            .chain_update(self.number.to_be_bytes())
            .chain_update(before.get(MARK..).unwrap_or_default())
            .chain_update([0; 16])
            .chain_update(rest.get(16..).unwrap_or_default())
    }
}

fn header_of_seal() -> [u8; AUTH_HEADER] {
    (u64::from(AUTH_FLAVOR_SEAL) << 32 | 16).to_be_bytes()
}

/// Begin and end of the verifier of a message, if it is one that has a verifier and is long enough.
fn verifier(record: &[u8]) -> Option<(usize, usize)> {
    let start = match (word(record, MARK + 4)?, word(record, MARK + 8)?) {
        (0, _) => auth_end(record, CREDENTIALS)?,
        (1, 0) => REPLY_VERIFIER,
        _ => return None,
    };
    Some((start, auth_end(record, start)?))
}

/// Where credentials or a verifier end that begin at `start`.
fn auth_end(record: &[u8], start: usize) -> Option<usize> {
    let length = word(record, start + 4)? as usize;
    let end = start
        .checked_add(AUTH_HEADER)?
        .checked_add(length.checked_next_multiple_of(4)?)?;
    (end <= record.len()).then_some(end)
}

fn word(record: &[u8], at: usize) -> Option<u32> {
    let bytes = record.get(at..)?.first_chunk::<4>()?;
    Some(u32::from_be_bytes(*bytes))
}

#[cfg(test)]
mod tests;
