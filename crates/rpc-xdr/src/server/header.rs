//! The header of a call (RFC 5531 section 9), in the daemons.
//!
//! Credentials and verifier may have 400 bytes each, whatever is in them: what a client says of itself
//! proves nothing.

use crate::record::{MARK, MAX_AUTH};
use crate::xdr::{Strict, XdrError, skip_opaque, take};

/// The version of RPC.
const RPC: u32 = 2;
/// The type of a message that is a call.
const CALL: u32 = 0;

/// A call.
#[derive(Debug)]
pub(super) struct Header<'a> {
    pub(super) xid: u32,
    pub(super) program: u32,
    pub(super) version: u32,
    pub(super) procedure: u32,
    /// The flavor of the credentials.
    pub(super) flavor: u32,
    pub(super) arguments: Strict<'a>,
}

/// Why a record is no call that can be answered like others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HeaderError {
    /// It is for another version of RPC.
    RpcVersion {
        /// The number of the message.
        xid: u32,
    },
    /// It is of another type.
    NoCall(u32),
    /// It cannot be read.
    Damaged(XdrError),
}

impl From<XdrError> for HeaderError {
    fn from(error: XdrError) -> Self {
        Self::Damaged(error)
    }
}

impl std::fmt::Display for HeaderError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::RpcVersion { .. } => f.write_str("it is of another version of RPC"),
            Self::NoCall(kind) => write!(f, "it is a message of type {kind}"),
            Self::Damaged(error) => error.fmt(f),
        }
    }
}

/// Reads the header of the call in a record, which begins with its mark.
pub(super) fn header(record: &[u8]) -> Result<Header<'_>, HeaderError> {
    let mut input = Strict::new(record.get(MARK..).unwrap_or_default());
    let xid = take(&mut input)?;
    match take(&mut input)? {
        CALL => {}
        other => return Err(HeaderError::NoCall(other)),
    }
    if take::<u32>(&mut input)? != RPC {
        return Err(HeaderError::RpcVersion { xid });
    }
    let program = take(&mut input)?;
    let version = take(&mut input)?;
    let procedure = take(&mut input)?;
    let flavor = take(&mut input)?;
    skip_opaque(&mut input, MAX_AUTH)?;
    let _verifier: u32 = take(&mut input)?;
    skip_opaque(&mut input, MAX_AUTH)?;
    Ok(Header {
        xid,
        program,
        version,
        procedure,
        flavor,
        arguments: input,
    })
}
