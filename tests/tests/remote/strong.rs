//! Version 2 of the login, and the change of the password.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::net::UnixStream;

use e2e::{Vm, World};
use rpc_xdr::auth::{Key, PasswordChange};
use rpc_xdr::client::{Authenticated, LoginError, Stream, StrongLogin, log_in};
use rpc_xdr::pake::{Context, Guess, Proved, SessionKey, Verifier};
use rpc_xdr::umlmonctrl::*;

use crate::way::{LOCALHOST, Way, admitted, connection};
use crate::{log, refusal, world};

type Remote = Box<dyn Stream + Send>;

/// A login from an address to a host that the user calls like this.
fn login_to(
    vm: &Vm<'_>,
    way: Way,
    from: IpAddr,
    password: &str,
    (host, address): (&str, IpAddr),
) -> Result<Authenticated<Remote>, LoginError> {
    let login = StrongLogin {
        vm: vm.name(),
        host,
        address,
        key: &Key::from_password(password),
        binding: b"",
    };
    log_in(connection(vm, way, from), &login)
}

fn login(
    vm: &Vm<'_>,
    way: Way,
    from: IpAddr,
    password: &str,
) -> Result<Authenticated<Remote>, LoginError> {
    login_to(vm, way, from, password, ("127.0.0.1", LOCALHOST))
}

fn inside(admitted: Authenticated<Remote>) -> (UmlmonctrlV1Client<Remote>, SessionKey) {
    let mut client = UmlmonctrlV1Client::new(admitted.stream);
    client.rpc.seal(admitted.seal.unwrap());
    let Proved::V2(session) = admitted.proved else {
        panic!("another version");
    };
    (client, session)
}

/// What `umladmin -verifier password` prints.
fn verifier_of(world: &World, password: &str) -> String {
    let mut command = world.command("umladmin", &["-verifier", "password"]);
    let file = world.path().join("typed");
    fs::write(&file, format!("{password}\n")).unwrap();
    let output = command
        .stdin(fs::File::open(file).unwrap())
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[track_caller]
fn code(result: Result<Authenticated<Remote>, LoginError>) -> (CtlCode, String) {
    match result {
        Err(LoginError::Refused(why) | LoginError::Disproved(why)) => (why.code, why.text),
        Err(other) => panic!("no refusal: {other}"),
        Ok(_) => panic!("it was let in"),
    }
}

#[test]
fn both_passwords_let_in_whatever_their_form() {
    let Some(world) = world() else { return };
    let vm = world.vm("vm1").line("password = secret").monitor();
    for way in Way::BOTH {
        for password in ["secret", "master"] {
            let (mut client, _) = inside(login(&vm, way, LOCALHOST, password).unwrap());
            assert_eq!(client.vm_info().unwrap().into_result().unwrap().vm, "vm1");
        }
    }
    let log = log(&vm);
    for known in [
        "the password of the VM, sealed",
        "the master password, sealed",
    ] {
        assert_eq!(log.matches(known).count(), 2, "{known} in {log}");
    }
    // A sum, and a verifier, which no client of version 1 can use.
    vm.umlwatch(&["-set", "password=900150983cd24fb0d6963f7d28e17f72"])
        .ok();
    login(&vm, Way::Tcp, LOCALHOST, "abc").unwrap();
    let made = verifier_of(&world, "next");
    assert!(made.starts_with("$opaque$1$"), "{made}");
    vm.umlwatch(&["-set", &format!("password={}", made.trim())])
        .ok();
    login(&vm, Way::Redir, LOCALHOST, "next").unwrap();
    let old = crate::way::log_in(&vm, Way::Tcp, "next");
    assert_eq!(refusal(old).0, CtlCode::NotAuthorised);
    admitted(&vm, Way::Tcp, "master");
    // The stored text is no password.
    let thief = IpAddr::from([127, 0, 0, 7]);
    let (refused, _) = code(login(&vm, Way::Tcp, thief, made.trim()));
    assert_eq!(refused, CtlCode::NotAuthorised);
    assert!(!vm.umlwatch(&["-info"]).ok().contains("opaque"));
}

/// A63: without relays there is nothing that could be relayed.
#[test]
fn a_host_that_is_meant_by_nobody_lets_nobody_in() {
    let Some(world) = world() else { return };
    let vm = world.vm("vm1").monitor();
    let evil = IpAddr::from(Ipv4Addr::new(192, 0, 2, 66));
    for way in Way::BOTH {
        let login = |host| login_to(&vm, way, LOCALHOST, "master", (host, evil));
        let (refused, text) = code(login("evil.example"));
        assert_eq!(refused, CtlCode::NotAuthorised);
        assert!(
            text.contains("host_name = evil.example in [GLOBAL]"),
            "{text}"
        );
        let name = nix::unistd::gethostname().unwrap();
        inside(login(name.to_str().unwrap()).unwrap());
    }
    // It was no attempt, and the administrator can allow it.
    world.global("host_name = evil.example");
    let allowed = login_to(&vm, Way::Tcp, LOCALHOST, "master", ("evil.example", evil));
    allowed.unwrap();
}

/// A31: the answer of the server tells whether a password is right, so it counts whatever the client does next.
#[test]
fn attempts_that_are_broken_off_count() {
    let Some(world) = world() else { return };
    let vm = world.vm("vm1").line("password = secret").monitor();
    let guesser = IpAddr::from([127, 0, 0, 9]);
    for way in [Way::Tcp, Way::Redir, Way::Tcp, Way::Redir] {
        let (refused, text) = code(login(&vm, way, guesser, "guess"));
        assert_eq!(refused, CtlCode::NotAuthorised);
        assert!(text.starts_with("wrong password, or"), "{text}");
    }
    e2e::wait_for("the last is counted", || {
        log(&vm)
            .contains("attempt 4 from this address")
            .then_some(())
    });
    for way in Way::BOTH {
        let (refused, text) = code(login(&vm, way, guesser, "secret"));
        assert_eq!(refused, CtlCode::Busy);
        assert!(text.contains("try again in"), "{text}");
        // Nor with version 1.
        let old = crate::way::log_in_from(&vm, way, guesser, "secret", true);
        assert_eq!(refusal(old).0, CtlCode::Busy);
    }
    login(&vm, Way::Tcp, LOCALHOST, "secret").unwrap();
}

#[test]
fn version_1_can_be_refused() {
    let Some(world) = world() else { return };
    world.global("auth = strong");
    let vm = world.vm("vm1").monitor();
    for way in Way::BOTH {
        let (refused, text) = refusal(crate::way::log_in(&vm, way, "master"));
        assert_eq!(refused, CtlCode::NotAuthorised);
        assert!(text.contains("auth = strong"), "{text}");
        login(&vm, way, LOCALHOST, "master").unwrap();
    }
}

/// Tries to change the password with version 2; `session` hides it, over the network.
fn change<S: Stream>(
    client: &mut UmlmonctrlV1Client<S>,
    session: Option<&SessionKey>,
    old: &str,
    new: &str,
) -> Result<(), CtlError> {
    let (guess, request) = Guess::new(&Key::from_password(old)).unwrap();
    let start = PasswordStartArgs { request };
    let challenge = client.password_start(&start).unwrap().into_result()?;
    let context = Context::password("vm1");
    let proof = challenge
        .offer
        .and_then(|offer| guess.finish(&offer, &context));
    let verifier = Verifier::new(&Key::from_password(new), AuthStretch::Argon2id);
    let mut bytes = verifier.to_bytes().unwrap();
    if let Some(session) = session {
        session.mask(&mut bytes);
    }
    let finish = PasswordFinishArgs {
        old_proof: proof.map(|(_, proof)| proof),
        stretch: verifier.stretch(),
        verifier: bytes,
    };
    client.password_finish(&finish).unwrap().into_result()
}

/// A63: there is no constant key that would hide it.
#[test]
fn a_first_password_is_set_safely_or_not_at_all() {
    let Some(world) = world() else { return };
    let vm = world.vm("vm1").monitor();
    let mut legacy = crate::way::log_in(&vm, Way::Tcp, "master").unwrap();
    let nonce = legacy.server_nonce;
    let first = Key::from_password("first");
    for old in [Key::unset(), Key::from_password("master")] {
        let args = PasswordChange::new("vm1", [7; 16], nonce).hide(&old, &first);
        let refused = legacy.client.password_set(&args).unwrap().into_result();
        assert_eq!(refused.unwrap_err().code, CtlCode::NotAuthorised);
    }
    let (_, request) = Guess::new(&first).unwrap();
    let start = PasswordStartArgs { request };
    let refused = legacy.client.password_start(&start).unwrap().into_result();
    assert_eq!(refused.unwrap_err().code, CtlCode::NotAuthorised);
    // Version 2 has a key that only the two sides know.
    let (mut client, session) = inside(login(&vm, Way::Redir, LOCALHOST, "master").unwrap());
    change(&mut client, Some(&session), "", "first").unwrap();
    let user = fs::read_to_string(vm.file("config")).unwrap();
    assert!(user.contains("password = $opaque$1$"), "{user}");
    login(&vm, Way::Tcp, LOCALHOST, "first").unwrap();
    // Nothing is finished that was not begun.
    let finish = PasswordFinishArgs {
        old_proof: None,
        stretch: AuthStretch::Argon2id,
        verifier: [0; 320],
    };
    let refused = client.password_finish(&finish).unwrap().into_result();
    assert_eq!(refused.unwrap_err().code, CtlCode::Invalid);
}

/// A59
#[test]
fn the_change_of_a_password_is_no_oracle() {
    let Some(world) = world() else { return };
    let vm = world.vm("vm1").line("password = secret").monitor();
    let guesser = IpAddr::from([127, 0, 0, 8]);
    // The master password is no old password, and a guess counts like a login, on whichever connection.
    let (mut client, session) = inside(login(&vm, Way::Tcp, guesser, "master").unwrap());
    let mut legacy = crate::way::log_in_from(&vm, Way::Redir, guesser, "master", true).unwrap();
    for old in ["master", "guess"] {
        let refused = change(&mut client, Some(&session), old, "next").unwrap_err();
        assert_eq!(refused.text, "the old password is wrong");
        let hidden = PasswordChange::new("vm1", [7; 16], legacy.server_nonce)
            .hide(&Key::from_password(old), &Key::from_password("next"));
        let refused = legacy.client.password_set(&hidden).unwrap().into_result();
        assert_eq!(refused.unwrap_err().text, "the old password is wrong");
    }
    let refused = change(&mut client, Some(&session), "secret", "next").unwrap_err();
    assert_eq!(refused.code, CtlCode::Busy);
    assert_eq!(
        code(login(&vm, Way::Tcp, guesser, "secret")).0,
        CtlCode::Busy
    );
    // Nor is the local socket one.
    let local = || UmlmonctrlV1Client::new(UnixStream::connect(vm.file("ctrl")).unwrap());
    for _ in 0..4 {
        let refused = change(&mut local(), None, "guess", "next").unwrap_err();
        assert_eq!(refused.text, "the old password is wrong");
    }
    let refused = change(&mut local(), None, "secret", "next").unwrap_err();
    assert_eq!(refused.code, CtlCode::Busy);
    // Who knows it can change it from elsewhere all the time.
    let (mut other, session) = inside(login(&vm, Way::Tcp, LOCALHOST, "secret").unwrap());
    change(&mut other, Some(&session), "secret", "next").unwrap();
    login(&vm, Way::Tcp, LOCALHOST, "next").unwrap();
}
