//! XDR (RFC 4506) under limits, in every process that speaks RPC.
//!
//! The traits and the numbers are those of the crate xdr-codec. Its helpers for arrays trust the sender: plain readers
//! make them hang, cut data short or allocate what a length announces. Generated types can therefore be decoded from
//! [`Strict`] alone, and their strings, opaque data and arrays by the functions here, each with its bound.

use std::io;

use xdr_codec::{Error, Pack, Result, Unpack};

/// Bytes to decode. Less than asked for is an error, never a short read.
#[derive(Debug, Clone)]
pub struct Strict<'a>(&'a [u8]);

impl<'a> Strict<'a> {
    /// Decodes `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Number of bytes that are not decoded yet.
    pub fn remaining(&self) -> usize {
        self.0.len()
    }

    /// Fails unless everything has been decoded.
    pub fn finish(self) -> Result<()> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(Error::invalidlen(self.0.len()))
        }
    }

    /// The next `count` bytes.
    fn bytes(&mut self, count: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self
            .0
            .split_at_checked(count)
            .ok_or_else(|| Error::invalidlen(count))?;
        self.0 = rest;
        Ok(taken)
    }

    /// The next `count` bytes and the zeros that fill them up to a multiple of four.
    fn padded(&mut self, count: usize) -> Result<&'a [u8]> {
        let taken = self.bytes(count)?;
        let padding = self.bytes(xdr_codec::padding(count).len())?;
        if padding.iter().any(|byte| *byte != 0) {
            return Err(Error::invalidlen(count));
        }
        Ok(taken)
    }

    /// A length, which must not be above `max`.
    fn length(&mut self, max: usize) -> Result<usize> {
        let length = take::<u32>(self)? as usize;
        if length > max {
            Err(Error::invalidlen(length))
        } else {
            Ok(length)
        }
    }
}

impl io::Read for Strict<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.0.is_empty() && !buffer.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        io::Read::read(&mut self.0, buffer)
    }
}

/// Decodes one value.
pub fn take<T: for<'a> Unpack<Strict<'a>>>(input: &mut Strict<'_>) -> Result<T> {
    T::unpack(input).map(|(value, _)| value)
}

/// Decodes `opaque<max>`.
pub fn unpack_opaque(input: &mut Strict<'_>, max: usize) -> Result<Vec<u8>> {
    let length = input.length(max)?;
    Ok(input.padded(length)?.to_vec())
}

/// Decodes `string<max>`, which must be UTF-8.
pub fn unpack_string(input: &mut Strict<'_>, max: usize) -> Result<String> {
    Ok(String::from_utf8(unpack_opaque(input, max)?)?)
}

/// Decodes `opaque[N]`.
pub fn unpack_fixed_opaque<const N: usize>(input: &mut Strict<'_>) -> Result<[u8; N]> {
    input
        .padded(N)?
        .try_into()
        .map_err(|_| Error::invalidlen(N))
}

/// Decodes `T<max>`; memory is taken for what is there, not for what is announced.
pub fn unpack_list<T>(
    input: &mut Strict<'_>,
    max: usize,
    mut element: impl FnMut(&mut Strict<'_>) -> Result<T>,
) -> Result<Vec<T>> {
    let length = input.length(max)?;
    // No element is shorter than four bytes.
    let mut list = Vec::with_capacity(length.min(input.remaining() / 4));
    for _ in 0..length {
        list.push(element(input)?);
    }
    Ok(list)
}

/// Decodes `T[N]`.
pub fn unpack_array<T, const N: usize>(
    input: &mut Strict<'_>,
    mut element: impl FnMut(&mut Strict<'_>) -> Result<T>,
) -> Result<[T; N]> {
    let list = (0..N).map(|_| element(input)).collect::<Result<Vec<T>>>()?;
    list.try_into().map_err(|_| Error::invalidlen(N))
}

/// Decodes `T *`.
pub fn unpack_optional<T>(
    input: &mut Strict<'_>,
    content: impl FnOnce(&mut Strict<'_>) -> Result<T>,
) -> Result<Option<T>> {
    if take::<bool>(input)? {
        content(input).map(Some)
    } else {
        Ok(None)
    }
}

/// Encodes `opaque<max>`; fails if there is more.
pub fn pack_opaque(value: &[u8], max: usize, out: &mut Vec<u8>) -> Result<usize> {
    let start = out.len();
    pack_length(value.len(), max, out)?;
    pack_fixed_opaque(value, out)?;
    Ok(out.len() - start)
}

/// Encodes `string<max>`; fails if there is more.
pub fn pack_string(value: &str, max: usize, out: &mut Vec<u8>) -> Result<usize> {
    pack_opaque(value.as_bytes(), max, out)
}

/// Encodes `opaque[n]`.
pub fn pack_fixed_opaque(value: &[u8], out: &mut Vec<u8>) -> Result<usize> {
    let start = out.len();
    out.extend_from_slice(value);
    out.extend_from_slice(xdr_codec::padding(value.len()));
    Ok(out.len() - start)
}

/// Encodes `T<max>`; fails if there is more.
pub fn pack_list<T>(
    list: &[T],
    max: usize,
    out: &mut Vec<u8>,
    element: impl FnMut(&T, &mut Vec<u8>) -> Result<usize>,
) -> Result<usize> {
    let start = out.len();
    pack_length(list.len(), max, out)?;
    pack_array(list, out, element)?;
    Ok(out.len() - start)
}

/// Encodes `T[n]`.
pub fn pack_array<T>(
    list: &[T],
    out: &mut Vec<u8>,
    mut element: impl FnMut(&T, &mut Vec<u8>) -> Result<usize>,
) -> Result<usize> {
    let start = out.len();
    for item in list {
        element(item, out)?;
    }
    Ok(out.len() - start)
}

/// Encodes `T *`.
pub fn pack_optional<T>(
    value: &Option<T>,
    out: &mut Vec<u8>,
    content: impl FnOnce(&T, &mut Vec<u8>) -> Result<usize>,
) -> Result<usize> {
    let start = out.len();
    value.is_some().pack(out)?;
    if let Some(value) = value {
        content(value, out)?;
    }
    Ok(out.len() - start)
}

fn pack_length(length: usize, max: usize, out: &mut Vec<u8>) -> Result<usize> {
    match u32::try_from(length) {
        Ok(wire) if length <= max => wire.pack(out),
        _ => Err(Error::invalidlen(length)),
    }
}
