use super::*;

use md5::Md5;
use md5::digest::Digest;

use crate::umlmonctrl::AuthKe2;

fn context() -> Context {
    Context::login("vm1", "host.example", [7; 16], b"")
}

/// A whole run; the keys of client and server if both are content.
fn run(
    verifier: &Verifier,
    key: &Key,
    here: &Context,
    there: &Context,
) -> Option<(SessionKey, SessionKey)> {
    let (guess, request) = Guess::new(key).unwrap();
    let (offered, offer) = verifier.offer(&request, there).unwrap();
    let (client, proof) = guess.finish(&offer, here)?;
    Some((client, offered.finish(&proof)?))
}

#[test]
fn who_knows_the_password_gets_the_same_key() {
    let key = Key::from_password("abc");
    for stretch in [AuthStretch::None, AuthStretch::Argon2id] {
        let verifier = Verifier::new(&key, stretch);
        let (client, server) = run(&verifier, &key, &context(), &context()).unwrap();
        assert_eq!(client.0, server.0);
        let (again, _) = run(&verifier, &key, &context(), &context()).unwrap();
        assert_ne!(client.0, again.0);
        let other = Key::from_password("abd");
        assert!(run(&verifier, &other, &context(), &context()).is_none());
    }
}

#[test]
fn a_verifier_can_be_stored_and_is_salted() {
    let key = Key::from_password("abc");
    let first = Verifier::new(&key, AuthStretch::Argon2id);
    let bytes = first.to_bytes().unwrap();
    let stored = Verifier::from_bytes(first.stretch(), &bytes).unwrap();
    assert!(run(&stored, &key, &context(), &context()).is_some());
    let second = Verifier::new(&key, AuthStretch::Argon2id).to_bytes();
    assert_ne!(second.unwrap(), bytes);
    // With another stretching it is another password.
    let other = Verifier::from_bytes(AuthStretch::None, &bytes).unwrap();
    assert!(run(&other, &key, &context(), &context()).is_none());
    assert!(Verifier::from_bytes(AuthStretch::Argon2id, &[0xff; VERIFIER_LENGTH]).is_none());
}

#[test]
fn a_stolen_verifier_does_not_log_in() {
    let verifier = Verifier::new(&Key::from_password("abc"), AuthStretch::None);
    let bytes = verifier.to_bytes().unwrap();
    // None of its parts is the password of OPAQUE, nor is the sum of all.
    for part in bytes.as_chunks::<16>().0 {
        let stolen = Key::from_md5(*part);
        assert!(run(&verifier, &stolen, &context(), &context()).is_none());
    }
    let sum = Key::from_md5(Md5::digest(bytes).into());
    assert!(run(&verifier, &sum, &context(), &context()).is_none());
}

#[test]
fn everything_in_the_context_counts() {
    let key = Key::from_password("abc");
    let verifier = Verifier::new(&key, AuthStretch::None);
    let others = [
        Context::login("vm2", "host.example", [7; 16], b""),
        Context::login("vm1", "evil.example", [7; 16], b""),
        Context::login("vm1", "host.example", [8; 16], b""),
        Context::login("vm1", "host.example", [7; 16], b"tls"),
        Context::login("vm1", "host.example", [7; 16], &[0; 65]),
        Context::password("vm1"),
    ];
    for other in others {
        assert!(run(&verifier, &key, &context(), &other).is_none());
    }
}

#[test]
fn no_password_is_like_one_that_nobody_knows() {
    let (unset, key) = (Verifier::unset(), Key::from_password("abc"));
    assert!(unset.to_bytes().is_none());
    assert!(run(&unset, &key, &context(), &context()).is_none());
    let (_, request) = Guess::new(&key).unwrap();
    let (_, offer) = unset.offer(&request, &context()).unwrap();
    let set = Verifier::new(&key, AuthStretch::None);
    let (_, other) = set.offer(&request, &context()).unwrap();
    assert_eq!(offer.stretch, other.stretch);
}

#[test]
fn nonsense_is_refused() {
    let key = Key::from_password("abc");
    let verifier = Verifier::new(&key, AuthStretch::None);
    assert!(verifier.offer(&[0xff; 96], &context()).is_none());
    assert!(verifier.offer(&[0; 96], &context()).is_none());
    for response in [[0; 320], [0xff; 320]] {
        let (guess, _) = Guess::new(&key).unwrap();
        let stretch = AuthStretch::None;
        let offer = AuthOffer { stretch, response };
        assert!(guess.finish(&offer, &context()).is_none());
    }
    for proof in [[0; 64], [0xff; 64]] {
        let (_, request) = Guess::new(&key).unwrap();
        let (offered, _) = verifier.offer(&request, &context()).unwrap();
        assert!(offered.finish(&proof).is_none());
    }
}

/// A63: with everything that goes over the wire, an attacker can check a password only by asking the server.
#[test]
fn a_transcript_fits_every_password() {
    let (key, other) = (Key::from_password("abc"), Key::from_password("abd"));
    let verifier = Verifier::new(&key, AuthStretch::None);
    let (guess, request) = Guess::new(&key).unwrap();
    let (_, offer) = verifier.offer(&request, &context()).unwrap();
    let (_, proof) = guess.finish(&offer, &context()).unwrap();
    let wire = [&request[..], &offer.response, &proof].concat();
    // What a listener can compute of a password alone is not there.
    for candidate in [&key, &other] {
        assert!(!wire.windows(16).any(|part| part == candidate.md5()));
    }
    // Without the blind and the ephemeral key of the client, which were never sent, the messages are of no use to
    // whoever has the right password: a new run with the recorded answer of the server fails like one with another
    // password.
    for candidate in [&key, &other] {
        let (guess, _) = Guess::new(candidate).unwrap();
        assert!(guess.finish(&offer, &context()).is_none());
    }
    // The same request is as likely from any password: what is sent of it is a random element of the group, so it is
    // another one each time.
    let requests: [AuthKe1; 2] = [&key, &key].map(|key| Guess::new(key).unwrap().1);
    assert_ne!(requests[0][..32], requests[1][..32]);
    let _: AuthKe2 = offer.response;
}

#[test]
fn a_hidden_verifier_is_shown_by_the_same_key() {
    let key = Key::from_password("abc");
    let verifier = Verifier::new(&key, AuthStretch::None);
    let (client, server) = run(&verifier, &key, &context(), &context()).unwrap();
    let bytes = verifier.to_bytes().unwrap();
    let mut hidden = bytes;
    client.mask(&mut hidden);
    assert!(!hidden.chunks(16).zip(bytes.chunks(16)).any(|(a, b)| a == b));
    server.mask(&mut hidden);
    assert_eq!(hidden, bytes);
    // Every block has a mask of its own.
    let mut masks = [0; VERIFIER_LENGTH];
    client.mask(&mut masks);
    let blocks: std::collections::BTreeSet<&[u8]> = masks.chunks(16).collect();
    assert_eq!(blocks.len(), VERIFIER_LENGTH / 16);
    assert_eq!(format!("{client:?}"), "SessionKey(..)");
}
