//! Remote connections: the authentication and the seals between client and server, and who does not get through.

use std::cell::Cell;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::time::Duration;

use rpc_xdr::auth::{Key, PasswordChange, Transcript};
use rpc_xdr::client::{Authenticated, ClientError, Login, LoginError, authenticate, start_tls};
use rpc_xdr::pake::Verifier;
use rpc_xdr::seal::{Seal, SealError};
use rpc_xdr::server::{Asked, Door, DoorError, Gate, ServeError, serve_sealed};
use rpc_xdr::umlmonctrl::*;

use crate::kit::*;

/// Echoes numbers.
struct Service;

impl KitV1 for Service {
    type Session = ();

    async fn kit_echo(&self, _: &(), args: KitAll) -> KitAll {
        args
    }

    async fn kit_add(&self, _: &(), number: i32, _: KitName) -> i32 {
        // Replies are sealed in the order in which they are sent, not in that of the calls.
        tokio::time::sleep(Duration::from_millis(number.unsigned_abs().into())).await;
        number
    }

    async fn kit_swallow(&self, _: &(), _: KitNames) {}

    async fn kit_data(&self, _: &(), args: u32) -> KitData {
        vec![7; args as usize]
    }
}

/// Lets in who knows "secret" or "master", as often as attempts are left.
struct Secret {
    attempts: Cell<u32>,
}

fn error<T>(code: CtlCode, text: &str) -> Result<T, CtlError> {
    let text = text.into();
    Err(CtlError { code, text })
}

impl Gate for Secret {
    async fn keys(&self, begin: &AuthBeginArgs) -> Result<Vec<Key>, CtlError> {
        match begin.vm.as_str() {
            "vm1" => Ok(["secret", "master"].map(Key::from_password).into()),
            _ => error(CtlCode::NotFound, "another VM"),
        }
    }

    async fn verifiers(&self, start: &AuthStartArgs) -> Result<[Rc<Verifier>; 2], CtlError> {
        let verifier = |password| Verifier::new(&Key::from_password(password), AuthStretch::None);
        match start.vm.as_str() {
            "vm1" => Ok(["secret", "master"].map(|password| Rc::new(verifier(password)))),
            _ => error(CtlCode::NotFound, "another VM"),
        }
    }

    fn attempt(&self) -> Result<(), CtlError> {
        match self.attempts.get().checked_sub(1) {
            Some(left) => self.attempts.set(left),
            None => return error(CtlCode::Busy, "too often"),
        }
        Ok(())
    }

    async fn failed(&self) -> CtlError {
        error::<()>(CtlCode::NotAuthorised, "wrong password").unwrap_err()
    }
}

/// How a connection ended for the server.
#[derive(Debug)]
pub(crate) enum End {
    Outside(DoorError),
    Inside(Result<(), ServeError>),
}

/// Serves one connection as a daemon without TLS does.
async fn serve(stream: tokio::net::UnixStream, attempts: u32) -> End {
    let gate = Secret {
        attempts: Cell::new(attempts),
    };
    let mut door = Door::new(stream);
    let admitted = async {
        loop {
            match door.asked().await? {
                Asked::Tls(xid) => door.refuse_tls(xid).await?,
                Asked::Begin(begin) => return door.admit(begin, b"", &gate).await,
            }
        }
    };
    let admitted = match admitted.await {
        Ok(admitted) => admitted,
        Err(error) => return End::Outside(error),
    };
    let limits = KIT_V1_LIMITS;
    let (stream, seal) = (admitted.stream, admitted.seal);
    End::Inside(
        serve_sealed::<KitV1Program, _, _>(stream, Rc::new(Service), (), limits, seal).await,
    )
}

/// Runs a blocking client against a server; how the connection ended for the server.
pub(crate) fn run(attempts: u32, client: impl FnOnce(UnixStream) + Send + 'static) -> End {
    let (ours, theirs) = UnixStream::pair().unwrap();
    ours.set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    let thread = std::thread::spawn(move || client(ours));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let end = runtime.block_on(async {
        theirs.set_nonblocking(true).unwrap();
        let stream = tokio::net::UnixStream::from_std(theirs).unwrap();
        tokio::time::timeout(Duration::from_secs(30), serve(stream, attempts))
            .await
            .expect("the deadline passed")
    });
    thread.join().unwrap();
    end
}

fn log_in(
    stream: UnixStream,
    password: &str,
    seal: bool,
) -> Result<Authenticated<UnixStream>, LoginError> {
    let login = Login {
        vm: "vm1",
        key: &Key::from_password(password),
        seal,
        binding: b"",
    };
    authenticate(stream, &login)
}

pub(crate) fn client(admitted: Authenticated<UnixStream>) -> KitV1Client<UnixStream> {
    let mut client = KitV1Client::new(admitted.stream);
    if let Some(seal) = admitted.seal {
        client.rpc.seal(seal);
    }
    client
}

/// Waits until the server closes; whatever it said before.
pub(crate) fn rest(mut stream: UnixStream) -> Vec<u8> {
    let mut rest = Vec::new();
    // Closed with something unread, a socket says "reset" in place of an end.
    let _ = stream.read_to_end(&mut rest);
    rest
}

/// A record with a call of a program, without credentials, which has this verifier.
fn call(program: u32, procedure: u32, verifier: &[u32], arguments: &[u8]) -> Vec<u8> {
    let header = [&[1, 0, 2, program, 1, procedure, 0, 0], verifier].concat();
    let mark = 1 << 31 | u32::try_from(4 * header.len() + arguments.len()).unwrap();
    let words = [mark].into_iter().chain(header);
    let mut record: Vec<u8> = words.flat_map(u32::to_be_bytes).collect();
    record.extend_from_slice(arguments);
    record
}

const NO_VERIFIER: &[u32] = &[0, 0];

#[test]
fn who_knows_the_password_may_call() {
    for (password, seal) in [("secret", true), ("master", true), ("secret", false)] {
        let end = run(1, move |stream| {
            let mut client = client(log_in(stream, password, seal).unwrap());
            assert_eq!(client.kit_add(1, "one").unwrap(), 1);
            assert_eq!(client.kit_data(60_000).unwrap().len(), 60_000);
            // Several under way, answered out of order.
            let slow = client.send_kit_add(20, "").unwrap();
            let fast = client.send_kit_add(2, "").unwrap();
            assert_eq!(client.rpc.wait(fast).unwrap(), 2);
            assert_eq!(client.rpc.wait(slow).unwrap(), 20);
        });
        assert!(matches!(end, End::Inside(Ok(()))), "{end:?}");
    }
}

#[test]
fn a_wrong_password_is_refused() {
    for password in ["Secret", "", "900150983cd24fb0d6963f7d28e17f72"] {
        let end = run(1, move |stream| {
            let copy = stream.try_clone().unwrap();
            let error = log_in(stream, password, true).unwrap_err();
            assert!(
                matches!(&error, LoginError::Disproved(why) if why.code == CtlCode::NotAuthorised),
                "{error}"
            );
            assert!(rest(copy).is_empty());
        });
        assert!(
            matches!(end, End::Outside(DoorError::Refused(_))),
            "{end:?}"
        );
    }
}

#[test]
fn refusals_of_the_gate_are_told() {
    let end = run(0, |stream| {
        let error = log_in(stream, "secret", true).unwrap_err();
        assert!(matches!(&error, LoginError::Disproved(why) if why.text == "too often"));
    });
    assert!(
        matches!(end, End::Outside(DoorError::Refused(_))),
        "{end:?}"
    );
    let end = run(1, |stream| {
        let login = Login {
            vm: "vm2",
            key: &Key::from_password("secret"),
            seal: true,
            binding: b"",
        };
        let error = authenticate(stream, &login).unwrap_err();
        assert!(matches!(&error, LoginError::Refused(why) if why.code == CtlCode::NotFound));
    });
    assert!(
        matches!(end, End::Outside(DoorError::Refused(_))),
        "{end:?}"
    );
}

#[test]
fn another_tls_connection_is_another_binding() {
    let end = run(1, |stream| {
        let login = Login {
            vm: "vm1",
            key: &Key::from_password("secret"),
            seal: true,
            binding: b"what a man in the middle has",
        };
        let error = authenticate(stream, &login).unwrap_err();
        assert!(matches!(error, LoginError::Disproved(_)));
    });
    assert!(
        matches!(end, End::Outside(DoorError::Refused(_))),
        "{end:?}"
    );
}

/// A server that does not know the password can only guess or reflect.
#[test]
fn an_impostor_is_not_believed() {
    for reflect in [true, false] {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let server = std::thread::spawn(move || {
            let mut record = [0; 256];
            let length = theirs.read(&mut record).unwrap();
            // xid, accepted, no verifier, success, CTL_OK, the client's own nonce
            let begin = record[..length].to_vec();
            let nonce = &begin[length - 20..length - 4];
            let reply = |bytes: &[u8]| {
                let mut reply = vec![0x80, 0, 0, 44];
                let words = [1u32, 1, 0, 0, 0, 0, 0];
                reply.extend(words.iter().flat_map(|word| word.to_be_bytes()));
                reply.extend_from_slice(bytes);
                reply
            };
            theirs.write_all(&reply(nonce)).unwrap();
            let length = theirs.read(&mut record).unwrap();
            let proof = record[length - 16..length].to_vec();
            let mut answer = reply(if reflect { &proof } else { &[0; 16] });
            answer[7] = 2;
            theirs.write_all(&answer).unwrap();
        });
        let error = log_in(ours, "secret", true).unwrap_err();
        assert!(matches!(error, LoginError::Impostor), "{error}");
        server.join().unwrap();
    }
}

#[test]
fn nothing_but_the_authentication_can_be_called_before_it() {
    let programs = [
        (UMLMONCTRL, UMLMONCTRL_V1_PROCEDURES),
        (UMLMONAUTH, UMLMONAUTH_V1_PROCEDURES),
        (UMLMONAUTH, UMLMONAUTH_V2_PROCEDURES),
        (KIT, KIT_V1_PROCEDURES),
    ];
    let begin = UMLMONAUTH_V1_PROCEDURES[0].number;
    let every = programs.iter().flat_map(|(program, procedures)| {
        let numbers = procedures.iter().map(|procedure| procedure.number);
        numbers.chain([0, 999]).map(|number| (*program, number))
    });
    for (program, number) in every.filter(|call| *call != (UMLMONAUTH, begin)) {
        let end = run(1, move |mut stream| {
            let arguments = [0; 64];
            stream
                .write_all(&call(program, number, NO_VERIFIER, &arguments))
                .unwrap();
            assert_eq!(rest(stream), b"", "{program:x} {number}");
        });
        assert!(
            matches!(end, End::Outside(DoorError::Uninvited(_))),
            "{end:?}"
        );
    }
}

/// AUTH_BEGIN as bytes, of the right VM.
fn begin() -> Vec<u8> {
    let mut arguments = vec![0, 0, 0, 3, b'v', b'm', b'1', 0];
    arguments.extend_from_slice(&[1; 16]);
    arguments.extend_from_slice(&[0, 0, 0, 1]);
    call(UMLMONAUTH, 1, NO_VERIFIER, &arguments)
}

#[test]
fn only_the_next_step_is_taken() {
    let wrong: Vec<(&str, Vec<u8>)> = vec![
        ("a second begin", begin()),
        ("a call", call(KIT, 2, NO_VERIFIER, &[0; 8])),
        ("a short proof", call(UMLMONAUTH, 2, NO_VERIFIER, &[0; 12])),
        ("a long proof", call(UMLMONAUTH, 2, NO_VERIFIER, &[0; 20])),
        ("a large record", vec![0x80, 0, 0x10, 1]),
        ("rpcbomb", vec![0x7f, 0xff, 0xff, 0xff]),
        ("an empty fragment", vec![0; 4]),
        ("fragments without end", [0, 0, 0, 1, 7].repeat(9)),
    ];
    for (what, bytes) in wrong {
        let end = run(1, move |mut stream| {
            stream.write_all(&begin()).unwrap();
            let mut challenge = [0; 4 + 44];
            stream.read_exact(&mut challenge).unwrap();
            stream.write_all(&bytes).unwrap();
            assert_eq!(rest(stream), b"", "{what}");
        });
        assert!(
            matches!(
                end,
                End::Outside(DoorError::Uninvited(_) | DoorError::Record(_))
            ),
            "{what}: {end:?}"
        );
    }
}

#[test]
fn a_client_that_does_not_wait_is_refused() {
    let end = run(1, |mut stream| {
        let both = [begin(), call(UMLMONAUTH, 2, NO_VERIFIER, &[0; 16])].concat();
        stream.write_all(&both).unwrap();
        assert_eq!(rest(stream), b"");
    });
    assert!(
        matches!(end, End::Outside(DoorError::Uninvited(_))),
        "{end:?}"
    );
}

#[test]
fn a_captured_login_cannot_be_repeated() {
    let key = Key::from_password("secret");
    let first = Transcript::new("vm1", [1; 16], [2; 16], true, b"");
    let captured = first.client_proof(&key);
    let end = run(1, move |mut stream| {
        // The same begin; but the server's nonce is another one.
        stream.write_all(&begin()).unwrap();
        let mut challenge = [0; 4 + 44];
        stream.read_exact(&mut challenge).unwrap();
        stream
            .write_all(&call(UMLMONAUTH, 2, NO_VERIFIER, &captured))
            .unwrap();
        let answer = rest(stream);
        assert_eq!(answer[28..36], [0, 0, 0, 1, 0, 0, 0, 4], "{answer:?}");
    });
    assert!(
        matches!(end, End::Outside(DoorError::Refused(_))),
        "{end:?}"
    );
}

#[test]
fn without_tls_the_client_may_go_on() {
    let end = run(1, |mut stream| {
        assert!(!start_tls(&mut stream).unwrap());
        assert!(!start_tls(&mut stream).unwrap());
        client(log_in(stream, "secret", true).unwrap())
            .kit_add(1, "")
            .unwrap();
    });
    assert!(matches!(end, End::Inside(Ok(()))), "{end:?}");
}

#[test]
fn calls_that_are_not_sealed_close_a_sealed_connection() {
    const ZEROS: &[u32] = &[AUTH_FLAVOR_SEAL, 16, 0, 0, 0, 0];
    for verifier in [NO_VERIFIER, ZEROS] {
        let end = run(1, move |stream| {
            let mut admitted = log_in(stream, "secret", true).unwrap();
            admitted
                .stream
                .write_all(&call(KIT, 2, verifier, &[0; 8]))
                .unwrap();
            assert_eq!(rest(admitted.stream), b"");
        });
        assert!(
            matches!(end, End::Inside(Err(ServeError::Seal(SealError::Wrong)))),
            "{end:?}"
        );
    }
}

#[test]
fn what_somebody_injects_closes_the_connection() {
    let end = run(1, |stream| {
        let mut wire = stream.try_clone().unwrap();
        let mut client = client(log_in(stream, "secret", true).unwrap());
        assert_eq!(client.kit_add(1, "").unwrap(), 1);
        wire.write_all(&call(KIT, 2, NO_VERIFIER, &[0; 8])).unwrap();
        assert!(client.kit_add(2, "").is_err());
    });
    assert!(
        matches!(end, End::Inside(Err(ServeError::Seal(SealError::Wrong)))),
        "{end:?}"
    );
}

#[test]
fn a_truncated_call_is_not_carried_out() {
    let end = run(1, |stream| {
        let mut admitted = log_in(stream, "secret", true).unwrap();
        let mut record = call(KIT, 2, NO_VERIFIER, &[0; 8]);
        admitted.seal.as_mut().unwrap().seal(&mut record).unwrap();
        // Shorter, with a mark that says so.
        record.truncate(record.len() - 4);
        record[3] -= 4;
        admitted.stream.write_all(&record).unwrap();
        assert_eq!(rest(admitted.stream), b"");
    });
    assert!(
        matches!(end, End::Inside(Err(ServeError::Seal(SealError::Wrong)))),
        "{end:?}"
    );
}

/// A server whose replies are not sealed, or with the seal of a call, is not believed.
#[test]
fn the_client_checks_the_replies() {
    let key = Key::from_password("secret");
    let transcript = || Transcript::new("vm1", [1; 16], [2; 16], true, b"");
    let words = [0x8000_001cu32, 1, 1, 0, 0, 0, 0, 1];
    let plain: Vec<u8> = words.iter().flat_map(|word| word.to_be_bytes()).collect();
    let mut of_the_wrong_side = plain.clone();
    let mut wrong_side = Seal::client(&transcript(), &key);
    wrong_side.seal(&mut of_the_wrong_side).unwrap();
    let mut right = plain.clone();
    let mut server = Seal::server(&transcript(), &key);
    server.seal(&mut right).unwrap();
    for (reply, believed) in [(plain, false), (of_the_wrong_side, false), (right, true)] {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let mut client = KitV1Client::new(ours);
        client.rpc.seal(Seal::client(&transcript(), &key));
        let ticket = client.send_kit_add(1, "").unwrap();
        theirs.write_all(&reply).unwrap();
        match client.rpc.wait(ticket) {
            Ok(result) => assert!(believed && result == 1),
            Err(error) => assert!(
                !believed && matches!(error, ClientError::Seal(_)),
                "{error}"
            ),
        }
    }
}

#[test]
fn the_wire_never_carries_a_password() {
    let (old, new) = (Key::from_password("secret"), Key::from_password("next"));
    let args = PasswordChange::new("vm1", [3; 16], [4; 16]).hide(&old, &new);
    let sent = format!("{args:?}");
    for key in [old, new] {
        assert!(!sent.contains(&format!("{:?}", key.md5())));
    }
}
