//! Version 2 of the authentication, between client and server; and what a listener, a thief and a host in between have
//! of it.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};

use rpc_xdr::auth::{Key, Transcript};
use rpc_xdr::client::{
    Authenticated, Login, LoginError, Stream, StrongLogin, authenticate, log_in,
};
use rpc_xdr::server::DoorError;
use rpc_xdr::umlmonctrl::*;

use crate::kit_rpc::*;
use crate::remote::{End, client, rest, run};

const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

fn login<'a>(key: &'a Key) -> StrongLogin<'a> {
    StrongLogin {
        vm: "vm1",
        host: "good.example",
        address: ADDRESS,
        key,
        binding: b"",
    }
}

fn enter<S: Stream>(stream: S, password: &str) -> Result<Authenticated<S>, LoginError> {
    log_in(stream, &login(&Key::from_password(password)))
}

#[test]
fn who_knows_a_password_may_call() {
    for password in ["secret", "master"] {
        let end = run(1, move |stream| {
            let mut client = client(enter(stream, password).unwrap());
            assert_eq!(client.kit_add(1, "one").unwrap(), 1);
        });
        assert!(matches!(end, End::Inside(Ok(()))), "{end:?}");
    }
}

/// The client notices first, and says no more: the server has not got anything that belongs to the password.
#[test]
fn a_wrong_password_is_noticed_by_the_client() {
    for password in ["Secret", "", "900150983cd24fb0d6963f7d28e17f72"] {
        let end = run(1, move |stream| {
            let error = enter(stream, password).unwrap_err();
            assert!(
                matches!(&error, LoginError::Disproved(why) if why.code == CtlCode::NotAuthorised),
                "{error}"
            );
        });
        assert!(matches!(end, End::Outside(DoorError::Broken(_))), "{end:?}");
    }
}

#[test]
fn an_attempt_counts_before_it_is_answered() {
    let end = run(0, |stream| {
        let error = enter(stream, "secret").unwrap_err();
        assert!(matches!(&error, LoginError::Refused(why) if why.text == "too often"));
    });
    assert!(
        matches!(end, End::Outside(DoorError::Refused(_))),
        "{end:?}"
    );
}

#[test]
fn a_made_up_proof_is_refused() {
    for password in [0, 1, 2, u32::MAX] {
        let end = run(1, move |mut stream| {
            let key = Key::from_password("secret");
            let request = rpc_xdr::pake::Guess::new(&key).unwrap().1;
            let mut server = UmlmonauthV2Client::new(&mut stream);
            let start = AuthStartArgs {
                vm: "vm1".into(),
                host: "good.example".into(),
                address: [0; 16],
                requests: [request; 2],
            };
            server.auth_start(&start).unwrap().into_result().unwrap();
            let proof = [7; 64];
            let finish = AuthFinishArgs { password, proof };
            let refused = server.auth_finish(&finish).unwrap().into_result();
            assert_eq!(refused.unwrap_err().code, CtlCode::NotAuthorised);
            drop(server);
            assert_eq!(rest(stream), b"");
        });
        assert!(
            matches!(end, End::Outside(DoorError::Refused(_))),
            "{end:?}"
        );
    }
}

/// A stream that writes down everything that goes over it.
struct Tapped(UnixStream, Arc<Mutex<Vec<u8>>>);

impl Stream for Tapped {}

impl Read for Tapped {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.0.read(buffer)?;
        self.1.lock().unwrap().extend_from_slice(&buffer[..read]);
        Ok(read)
    }
}

impl Write for Tapped {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.1.lock().unwrap().extend_from_slice(buffer);
        self.0.write(buffer)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// What is heard of a login with "secret", and of a call.
fn overheard(strong: bool) -> Vec<u8> {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let wire = Arc::clone(&heard);
    let end = run(1, move |stream| {
        let stream = Tapped(stream, wire);
        let admitted = match strong {
            true => enter(stream, "secret"),
            false => {
                let login = Login {
                    vm: "vm1",
                    key: &Key::from_password("secret"),
                    seal: true,
                    binding: b"",
                };
                authenticate(stream, &login)
            }
        };
        let admitted = admitted.unwrap();
        let mut client = KitV1Client::new(admitted.stream);
        client.rpc.seal(admitted.seal.unwrap());
        client.kit_add(1, "one").unwrap();
    });
    assert!(matches!(end, End::Inside(Ok(()))), "{end:?}");
    heard.lock().unwrap().clone()
}

/// What a listener can do with version 1: try a password with all nonces that may be there, and look whether a proof or
/// the sum is there.
fn fits(wire: &[u8], password: &str) -> bool {
    let key = Key::from_password(password);
    let is_there = |wanted: &[u8; 16]| wire.windows(16).any(|part| part == wanted);
    let places: Vec<AuthNonce> = wire
        .windows(16)
        .step_by(4)
        .map(|part| part.try_into().unwrap())
        .collect();
    let pairs = places.iter().enumerate().flat_map(|(at, client)| {
        let later = places[at..].iter();
        later.map(move |server| (*client, *server))
    });
    is_there(key.md5())
        || pairs.take(60_000).any(|(client, server)| {
            let transcript = Transcript::new("vm1", client, server, true, b"");
            is_there(&transcript.client_proof(&key)) || is_there(&transcript.server_proof(&key))
        })
}

/// A63
#[test]
fn a_listener_has_nothing_to_try_passwords_on() {
    // So the trial works where there is something.
    let weak = overheard(false);
    assert!(fits(&weak, "secret") && !fits(&weak, "wrong"));
    let strong = overheard(true);
    assert!(!fits(&strong, "secret") && !fits(&strong, "wrong"));
    // Two logins have nothing in common but what is no secret: who is asked for what.
    let other = overheard(true);
    let common = strong.windows(16).filter(|part| {
        let is_plain = part.iter().filter(|byte| **byte == 0).count() > 4;
        !is_plain && other.windows(16).any(|it| it == *part)
    });
    let common: Vec<&[u8]> = common.collect();
    let named = b"\0\0\0\x0cgood.example\0\0";
    assert!(
        common.iter().all(|part| {
            named
                .windows(4)
                .any(|it| part.starts_with(it) || part.ends_with(it))
        }),
        "{common:?}"
    );
}

/// A63: a host that passes on what its visitor says, but tells the other host that it was meant.
#[test]
fn a_login_that_was_meant_for_another_host_fails() {
    let end = run(1, |good| {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let evil = std::thread::spawn(move || relay(theirs, good));
        let key = Key::from_password("secret");
        let meant = StrongLogin {
            host: "evil.example",
            ..login(&key)
        };
        let error = log_in(ours, &meant).unwrap_err();
        assert!(matches!(error, LoginError::Disproved(_)), "{error}");
        evil.join().unwrap();
    });
    assert!(matches!(end, End::Outside(DoorError::Broken(_))), "{end:?}");
}

/// Passes all on, with the name of the host changed, which is as long.
fn relay(mut visitor: UnixStream, mut good: UnixStream) {
    let mut call = [0; 4096];
    let length = visitor.read(&mut call).unwrap();
    let mut call = call[..length].to_vec();
    let at = call.windows(12).position(|it| it == b"evil.example");
    let at = at.unwrap();
    call[at..at + 12].copy_from_slice(b"good.example");
    good.write_all(&call).unwrap();
    let mut answer = [0; 4096];
    let length = good.read(&mut answer).unwrap();
    visitor.write_all(&answer[..length]).unwrap();
    // There is nothing more to pass on.
    assert_eq!(visitor.read(&mut answer).unwrap(), 0);
}
