//! The server side of the interfaces: whatever a client sends is answered, or the connection is closed.

use std::fmt::Debug;
use std::rc::Rc;

use rpc_xdr::server::{Limits, Program, serve};
use rpc_xdr::umldir::*;
use rpc_xdr::umlmonctrl::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// Serves a connection on which `data` arrives: of a monitor, of the directory service, and of the redirector.
pub fn target(data: &[u8]) {
    answer::<UmlmonctrlV1Program>(data, Limits::new(UMLMONCTRL_V1_MAX_ARGS));
    answer::<UmldirV1Program>(data, UMLDIR_V1_LIMITS);
    answer::<UmlredirV1Program>(data, UMLREDIR_V1_LIMITS);
}

/// Serves it as one of them.
fn answer<P: Program<Refusing, Session = ()>>(data: &[u8], limits: Limits) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let (mut client, server) = tokio::io::duplex(1 << 16);
        let serve = serve::<P, _, _>(server, Rc::new(Refusing), (), limits);
        let talk = async {
            let (mut replies, mut calls) = tokio::io::split(&mut client);
            let send = async {
                // A server that has closed takes no more.
                let _ = calls.write_all(data).await;
                let _ = calls.shutdown().await;
            };
            let mut received = Vec::new();
            let (_, read) = tokio::join!(send, replies.read_to_end(&mut received));
            read.map(|_| received)
        };
        let (_, received) = tokio::join!(serve, talk);
        let received = received.expect("a pipe in memory does not break");
        assert_eq!(received.len() % 4, 0, "replies consist of words");
    });
}

/// A service that decodes every call and refuses it, telling what it was asked.
struct Refusing;

fn text(args: &dyn Debug) -> String {
    let mut text = format!("{args:?}");
    text.truncate(text.floor_char_boundary(1000));
    text
}

impl PartialUmlmonctrlV1 for Refusing {
    type Session = ();

    fn refusal(&self, _: &'static str, args: &dyn Debug) -> CtlError {
        let (code, text) = (CtlCode::Failed, text(args));
        CtlError { code, text }
    }
}

impl PartialUmldirV1 for Refusing {
    type Session = ();

    fn refusal(&self, _: &'static str, args: &dyn Debug) -> DirError {
        let (code, text) = (DirCode::Failed, text(args));
        DirError { code, text }
    }
}

impl PartialUmlredirV1 for Refusing {
    type Session = ();

    fn refusal(&self, _: &'static str, args: &dyn Debug) -> DirError {
        let (code, text) = (DirCode::Failed, text(args));
        DirError { code, text }
    }
}

/// A call of each procedure, with arguments that some of them take.
pub fn seeds() -> Vec<Vec<u8>> {
    let interfaces = [
        (UMLMONCTRL, UMLMONCTRL_V1, UMLMONCTRL_V1_PROCEDURES),
        (UMLDIR, UMLDIR_V1, UMLDIR_V1_PROCEDURES),
        (UMLREDIR, UMLREDIR_V1, UMLREDIR_V1_PROCEDURES),
    ];
    let calls = interfaces
        .iter()
        .flat_map(|(program, version, procedures)| {
            let numbers = procedures.iter().map(|procedure| procedure.number);
            numbers.map(|number| [*program, *version, number])
        });
    calls
        .flat_map(|which| {
            // "con1", a number of 64 bits, two small ones
            let arguments = [
                [0, 0, 0, 4],
                *b"con1",
                [0, 0, 0, 0],
                [0, 0, 0, 9],
                [0, 0, 0, 2],
                [0, 0, 0, 1],
            ];
            [0, 1, 2, 3, 4, 6].map(|words| call(which, &arguments[..words].concat()))
        })
        .collect()
}

/// RFC 5531: a record with xid, CALL, RPC version, program, version, procedure, and no credentials.
fn call([program, version, procedure]: [u32; 3], arguments: &[u8]) -> Vec<u8> {
    let header = [7, 0, 2, program, version, procedure, 0, 0, 0, 0];
    let mut record: Vec<u8> = header.iter().flat_map(|word| word.to_be_bytes()).collect();
    record.extend_from_slice(arguments);
    let mark = (1 << 31) | u32::try_from(record.len()).expect("a short record");
    [mark.to_be_bytes().as_slice(), &record].concat()
}
