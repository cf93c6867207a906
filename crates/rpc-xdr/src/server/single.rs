//! Reading one call, and not a byte more: for a server that passes the connection on afterwards. In umldir.

use std::io;
use std::rc::Rc;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::{Program, ServeError, begin};
use crate::record::{Bounds, Framer, MARK};

/// Takes one call from the stream and answers it; false if the client has closed the connection instead.
///
/// What the client has sent behind the call is still in the stream afterwards. There is no limit of time.
///
/// # Errors
/// As [`super::serve`]; the stream is of no further use then.
pub async fn serve_one<P, S, IO>(
    stream: &mut IO,
    service: &Rc<S>,
    session: &Rc<P::Session>,
    bounds: &Bounds,
) -> Result<bool, ServeError>
where
    P: Program<S>,
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let Some(record) = record(stream, bounds).await? else {
        return Ok(false);
    };
    let reply = match begin::<P, S>(service, session, &record)? {
        Ok(answer) => answer.0.await,
        Err(refusal) => refusal,
    };
    stream.write_all(&reply).await.map_err(ServeError::Broken)?;
    Ok(true)
}

/// Reads to the end of a record; None if the stream ends before it.
async fn record(
    stream: &mut (impl AsyncRead + Unpin),
    bounds: &Bounds,
) -> Result<Option<BytesMut>, ServeError> {
    let (mut framer, mut input) = (Framer::default(), BytesMut::new());
    let mut missing = MARK;
    loop {
        let mut fragment = (&mut *stream).take(missing as u64);
        while fragment.limit() > 0 {
            match fragment.read_buf(&mut input).await {
                Ok(0) => return Ok(None),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(None),
                Err(error) => return Err(ServeError::Broken(error)),
            }
        }
        if let Some(record) = framer.next(&mut input, bounds)? {
            return Ok(Some(record));
        }
        // Either the fragment belonging to the mark that has come, which the framer has found short enough, or the mark
        // of the next one.
        let mark = input.first_chunk::<MARK>();
        missing = mark.map_or(MARK, |mark| (u32::from_be_bytes(*mark) << 1 >> 1) as usize);
    }
}
