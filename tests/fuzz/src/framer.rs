//! Record marking: how a stream is cut into reads must not matter.

use bytes::BytesMut;
use rpc_xdr::record::{Bounds, Framer};

const BOUNDS: Bounds = Bounds {
    max_record: 4096,
    max_fragments: 16,
};

/// Reads `data` as a stream, at once and byte by byte.
pub fn target(data: &[u8]) {
    let at_once = records(std::iter::once(data));
    assert_eq!(at_once, records(data.chunks(1)));
    assert!(
        at_once
            .0
            .iter()
            .all(|record| record.len() <= 4 + BOUNDS.max_record)
    );
}

/// The records of the stream, and whether it broke.
fn records<'a>(reads: impl Iterator<Item = &'a [u8]>) -> (Vec<Vec<u8>>, bool) {
    let (mut framer, mut input, mut records) = (Framer::default(), BytesMut::new(), Vec::new());
    for read in reads {
        input.extend_from_slice(read);
        loop {
            match framer.next(&mut input, &BOUNDS) {
                Ok(Some(record)) => records.push(record.to_vec()),
                Ok(None) => break,
                Err(_) => return (records, true),
            }
        }
    }
    (records, false)
}
