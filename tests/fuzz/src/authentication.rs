//! The authentication of both versions and the seals, on both sides: whatever a peer says who does not know the
//! password, he is not let in, not believed, and does no harm.

use std::io::{self, Read, Write};
use std::net::Ipv4Addr;
use std::rc::Rc;

use rpc_xdr::auth::{Key, Transcript};
use rpc_xdr::client::{Login, Stream, StrongLogin, authenticate, log_in, start_tls};
use rpc_xdr::pake::{Context, Guess, VERIFIER_LENGTH, Verifier};
use rpc_xdr::seal::Seal;
use rpc_xdr::server::{Asked, Door, DoorError, Gate};
use rpc_xdr::umlmonctrl::{
    AuthBeginArgs, AuthStartArgs, AuthStretch, CtlError, UMLMONAUTH, UMLMONAUTH_V1, UMLMONAUTH_V2,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// Says `data` to a server, to a client, and as a message that is sealed.
pub fn target(data: &[u8]) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime");
    runtime.block_on(stranger(data));
    impostor(data);
    forger(data);
    verifier(data);
}

fn key() -> Key {
    Key::from_password("secret")
}

/// Any attempt will do, if the password is right.
struct Open;

impl Gate for Open {
    async fn keys(&self, _: &AuthBeginArgs) -> Result<Vec<Key>, CtlError> {
        Ok(vec![key()])
    }

    async fn verifiers(&self, _: &AuthStartArgs) -> Result<[Rc<Verifier>; 2], CtlError> {
        let verifier = Verifier::new(&key(), AuthStretch::None);
        Ok([verifier, Verifier::unset()].map(Rc::new))
    }

    fn attempt(&self) -> Result<(), CtlError> {
        Ok(())
    }

    async fn failed(&self) -> CtlError {
        CtlError {
            code: rpc_xdr::umlmonctrl::CtlCode::NotAuthorised,
            text: "wrong".into(),
        }
    }
}

/// A client that says `data`: the first record, and once there may be an answer, the rest.
async fn stranger(data: &[u8]) {
    let (mut client, server) = tokio::io::duplex(1 << 16);
    let serve = async {
        let mut door = Door::new(server);
        loop {
            match door.asked().await? {
                Asked::Tls(xid) => door.refuse_tls(xid).await?,
                Asked::Begin(begin) => return door.admit(begin, b"", &Open).await.map(drop),
            }
        }
    };
    let talk = async {
        let length = data
            .first_chunk::<4>()
            .map_or(0, |mark| u32::from_be_bytes(*mark) & 0x7fff_ffff);
        let cut = data.len().min((length as usize).saturating_add(4));
        let (first, rest) = data.split_at(cut);
        // A server that has closed takes no more.
        let _ = client.write_all(first).await;
        // Whether there is an answer or not; more turns than the server needs for it.
        for _ in 0..8 {
            tokio::task::yield_now().await;
        }
        let _ = client.write_all(rest).await;
        let _ = client.shutdown().await;
        let _ = client.read_to_end(&mut Vec::new()).await;
    };
    let (served, ()): (Result<(), DoorError>, ()) = tokio::join!(serve, talk);
    assert!(served.is_err(), "somebody without a password is in");
}

/// A server that says `.0`, whatever it is told.
struct Answering<'a>(&'a [u8]);

impl Stream for Answering<'_> {}

impl Read for Answering<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        Read::read(&mut self.0, buffer)
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

fn impostor(data: &[u8]) {
    let login = Login {
        vm: "vm1",
        key: &key(),
        seal: true,
        binding: b"",
    };
    let believed = authenticate(Answering(data), &login).is_ok();
    assert!(!believed, "somebody without a password is believed");
    let login = StrongLogin {
        vm: "vm1",
        host: "host",
        address: Ipv4Addr::LOCALHOST.into(),
        key: &key(),
        binding: b"",
    };
    let believed = log_in(Answering(data), &login).is_ok();
    assert!(!believed, "somebody without a verifier is believed");
    let _ = start_tls(&mut Answering(data));
}

/// A stored verifier: whatever it is, it lets nobody in who does not know its password.
fn verifier(data: &[u8]) {
    let Some(bytes) = data.first_chunk::<VERIFIER_LENGTH>() else {
        return;
    };
    let Some(verifier) = Verifier::from_bytes(AuthStretch::None, bytes) else {
        return;
    };
    let context = Context::password("vm1");
    let (guess, request) = Guess::new(&key()).expect("a request");
    if let Some((_, offer)) = verifier.offer(&request, &context) {
        let believed = guess.finish(&offer, &context).is_some();
        assert!(!believed, "a made-up verifier fits");
    }
}

fn forger(data: &[u8]) {
    let transcript = Transcript::new("vm1", [1; 16], [2; 16], true, b"");
    let server = || Seal::server(&transcript, &key());
    assert!(server().check(data).is_err(), "a seal is forged");
    let mut sealed = data.to_vec();
    match Seal::client(&transcript, &key()).seal(&mut sealed) {
        Ok(()) => assert_eq!(server().check(&sealed), Ok(())),
        Err(_) => assert_eq!(sealed, data),
    }
}

/// Both steps of a login, a call for TLS, and what a server would answer.
pub fn seeds() -> Vec<Vec<u8>> {
    let begin = [
        &[0, 0, 0, 3, b'v', b'm', b'1', 0][..],
        &[7; 16],
        &[0, 0, 0, 1],
    ]
    .concat();
    let begin = record(&[1, 0, 2, UMLMONAUTH, UMLMONAUTH_V1, 1, 0, 0, 0, 0], &begin);
    let prove = record(
        &[2, 0, 2, UMLMONAUTH, UMLMONAUTH_V1, 2, 0, 0, 0, 0],
        &[7; 16],
    );
    let (_, request) = Guess::new(&key()).expect("a request");
    let start = [
        &[
            0, 0, 0, 3, b'v', b'm', b'1', 0, 0, 0, 0, 4, b'h', b'o', b's', b't',
        ][..],
        &[0; 16],
        &request,
        &request,
    ]
    .concat();
    let start = record(&[1, 0, 2, UMLMONAUTH, UMLMONAUTH_V2, 1, 0, 0, 0, 0], &start);
    let finish = record(
        &[2, 0, 2, UMLMONAUTH, UMLMONAUTH_V2, 2, 0, 0, 0, 0],
        &[7; 68],
    );
    let offers = record(&[1, 1, 0, 0, 0, 0, 0], &[0; 648]);
    let stored = Verifier::new(&Key::from_password("other"), AuthStretch::None);
    let stored = stored.to_bytes().expect("a verifier").to_vec();
    let tls = record(&[1, 0, 2, UMLMONAUTH, UMLMONAUTH_V1, 0, 7, 0, 0, 0], &[]);
    let answer = |xid| record(&[xid, 1, 0, 0, 0, 0, 0], &[7; 16]);
    let token = record(&[1, 1, 0, 0, 8, 0x5354_4152, 0x5454_4c53, 0], &[]);
    vec![
        [begin.clone(), prove.clone()].concat(),
        [tls, begin.clone(), prove.clone()].concat(),
        [answer(1), answer(2)].concat(),
        [start.clone(), finish.clone()].concat(),
        token,
        start,
        finish,
        offers,
        stored,
        begin,
        prove,
    ]
}

fn record(header: &[u32], rest: &[u8]) -> Vec<u8> {
    let length = 4 * header.len() + rest.len();
    let mark = (1 << 31) | u32::try_from(length).expect("a short record");
    let words = [mark].into_iter().chain(header.iter().copied());
    let mut record: Vec<u8> = words.flat_map(u32::to_be_bytes).collect();
    record.extend_from_slice(rest);
    record
}
