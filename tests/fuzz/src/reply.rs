//! The client side of the interface: whatever a server answers is decoded, or is an error.

use std::io::{self, Read, Write};

use rpc_xdr::client::Stream;
use rpc_xdr::umlmonctrl::{ConReadArgs, UmlmonctrlV1Client};

/// Makes calls that are answered with `data`.
pub fn target(data: &[u8]) {
    let client = || UmlmonctrlV1Client::new(Answering(data));
    let _ = client().vm_info();
    let _ = client().config_get();
    let _ = client().con_read(&ConReadArgs {
        channel: "con1".into(),
        offset: 0,
        max: 100,
        wait_ms: 0,
    });
}

/// A server that says `.0`, whatever it is told.
struct Answering<'a>(&'a [u8]);

impl Stream for Answering<'_> {}

impl Read for Answering<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for Answering<'_> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        Ok(buffer.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Accepted replies to the first call of a connection, with results of zeros.
pub fn seeds() -> Vec<Vec<u8>> {
    [0u32, 1, 2, 16, 64, 200]
        .iter()
        .flat_map(|words| {
            [0u32, 1, 2].map(|xid| {
                // RFC 5531: xid, REPLY, MSG_ACCEPTED, verifier of no kind, SUCCESS
                let header = [xid, 1, 0, 0, 0, 0];
                let mark = (1 << 31) | (4 * (6 + words));
                let all = [mark]
                    .into_iter()
                    .chain(header)
                    .chain((0..*words).map(|_| 0));
                all.flat_map(u32::to_be_bytes).collect()
            })
        })
        .collect()
}
