//! XDR (RFC 4506) with limits, in every process that speaks RPC.
//!
//! Types are decoded from [`Strict`] only. The functions here decode strings, opaque data and arrays, each with its
//! bound: the length that a peer sends is not trusted, and fewer bytes than announced are an error.

/// Why a value cannot be encoded or decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum XdrError {
    /// A length is out of bounds, or there are more or fewer bytes.
    #[error("a length is wrong: {0}")]
    Length(usize),
    /// A number that is no value of the enumeration, or no boolean.
    #[error("there is no value {0} here")]
    Value(i64),
    /// A union has no such case.
    #[error("there is no such case")]
    Case,
    /// The padding to a multiple of four is not all zeros.
    #[error("the padding is not zero")]
    Padding,
    /// A string is not UTF-8.
    #[error("a string is not UTF-8")]
    Text,
}

/// The result of encoding and decoding.
pub type Result<T> = std::result::Result<T, XdrError>;

/// What can be encoded.
pub trait Pack {
    /// Appends the value to `out`; fails if it exceeds a bound, after which `out` is of no use.
    fn pack(&self, out: &mut Vec<u8>) -> Result<()>;
}

/// What can be decoded.
pub trait Unpack: Sized {
    /// Takes the value from the beginning of `input`.
    fn unpack(input: &mut Strict<'_>) -> Result<Self>;
}

macro_rules! numbers {
    ($($type:ty)*) => {$(
        impl Pack for $type {
            fn pack(&self, out: &mut Vec<u8>) -> Result<()> {
                out.extend_from_slice(&self.to_be_bytes());
                Ok(())
            }
        }

        impl Unpack for $type {
            fn unpack(input: &mut Strict<'_>) -> Result<Self> {
                input.array().map(<$type>::from_be_bytes)
            }
        }
    )*};
}

numbers!(i32 u32 i64 u64 f32 f64);

impl Pack for bool {
    fn pack(&self, out: &mut Vec<u8>) -> Result<()> {
        u32::from(*self).pack(out)
    }
}

impl Unpack for bool {
    fn unpack(input: &mut Strict<'_>) -> Result<Self> {
        match take::<u32>(input)? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(XdrError::Value(other.into())),
        }
    }
}

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
            Err(XdrError::Length(self.0.len()))
        }
    }

    /// The next `count` bytes.
    fn bytes(&mut self, count: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self
            .0
            .split_at_checked(count)
            .ok_or(XdrError::Length(count))?;
        self.0 = rest;
        Ok(taken)
    }

    /// The next `N` bytes.
    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        self.bytes(N)?.try_into().map_err(|_| XdrError::Length(N))
    }

    /// The next `count` bytes and the zeros that fill them up to a multiple of four.
    fn padded(&mut self, count: usize) -> Result<&'a [u8]> {
        let taken = self.bytes(count)?;
        match self.bytes(padding(count).len())? == padding(count) {
            true => Ok(taken),
            false => Err(XdrError::Padding),
        }
    }

    /// A length, which must not be above `max`.
    fn length(&mut self, max: usize) -> Result<usize> {
        let length = take::<u32>(self)? as usize;
        if length > max {
            Err(XdrError::Length(length))
        } else {
            Ok(length)
        }
    }
}

/// The zeros that follow `length` bytes, so that a multiple of four is full.
fn padding(length: usize) -> &'static [u8] {
    match length % 4 {
        0 => &[],
        1 => &[0; 3],
        2 => &[0; 2],
        _ => &[0],
    }
}

/// Decodes one value.
pub fn take<T: Unpack>(input: &mut Strict<'_>) -> Result<T> {
    T::unpack(input)
}

/// Decodes `opaque<max>`.
pub fn unpack_opaque(input: &mut Strict<'_>, max: usize) -> Result<Vec<u8>> {
    let length = input.length(max)?;
    Ok(input.padded(length)?.to_vec())
}

/// Passes over `opaque<max>`.
#[cfg(feature = "server")]
pub(crate) fn skip_opaque(input: &mut Strict<'_>, max: usize) -> Result<()> {
    let length = input.length(max)?;
    input.padded(length).map(|_| ())
}

/// Decodes `string<max>`, which must be UTF-8.
pub fn unpack_string(input: &mut Strict<'_>, max: usize) -> Result<String> {
    String::from_utf8(unpack_opaque(input, max)?).map_err(|_| XdrError::Text)
}

/// Decodes `opaque[N]`.
pub fn unpack_fixed_opaque<const N: usize>(input: &mut Strict<'_>) -> Result<[u8; N]> {
    input.padded(N)?.try_into().map_err(|_| XdrError::Length(N))
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
    list.try_into().map_err(|_| XdrError::Length(N))
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
pub fn pack_opaque(value: &[u8], max: usize, out: &mut Vec<u8>) -> Result<()> {
    pack_length(value.len(), max, out)?;
    pack_fixed_opaque(value, out)
}

/// Encodes `string<max>`; fails if there is more.
pub fn pack_string(value: &str, max: usize, out: &mut Vec<u8>) -> Result<()> {
    pack_opaque(value.as_bytes(), max, out)
}

/// Encodes `opaque[n]`.
pub fn pack_fixed_opaque(value: &[u8], out: &mut Vec<u8>) -> Result<()> {
    out.extend_from_slice(value);
    out.extend_from_slice(padding(value.len()));
    Ok(())
}

/// Encodes `T<max>`; fails if there is more.
pub fn pack_list<T>(
    list: &[T],
    max: usize,
    out: &mut Vec<u8>,
    element: impl FnMut(&T, &mut Vec<u8>) -> Result<()>,
) -> Result<()> {
    pack_length(list.len(), max, out)?;
    pack_array(list, out, element)
}

/// Encodes `T[n]`.
pub fn pack_array<T>(
    list: &[T],
    out: &mut Vec<u8>,
    mut element: impl FnMut(&T, &mut Vec<u8>) -> Result<()>,
) -> Result<()> {
    for item in list {
        element(item, out)?;
    }
    Ok(())
}

/// Encodes `T *`.
pub fn pack_optional<T>(
    value: &Option<T>,
    out: &mut Vec<u8>,
    content: impl FnOnce(&T, &mut Vec<u8>) -> Result<()>,
) -> Result<()> {
    value.is_some().pack(out)?;
    if let Some(value) = value {
        content(value, out)?;
    }
    Ok(())
}

fn pack_length(length: usize, max: usize, out: &mut Vec<u8>) -> Result<()> {
    match u32::try_from(length) {
        Ok(wire) if length <= max => wire.pack(out),
        _ => Err(XdrError::Length(length)),
    }
}
