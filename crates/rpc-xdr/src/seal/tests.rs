//! Whatever is done to a sealed message between the two sides is noticed.

use super::*;

const NONE: [u32; 2] = [0, 0];

fn record(header: &[u32], auth: &[u32], rest: &[u32]) -> Vec<u8> {
    let mark = 1 << 31 | u32::try_from(4 * (header.len() + auth.len() + rest.len())).unwrap();
    [&[mark], header, auth, rest]
        .concat()
        .iter()
        .flat_map(|word| word.to_be_bytes())
        .collect()
}

/// A call with credentials of no kind.
fn call(argument: u32) -> Vec<u8> {
    record(&[7, 0, 2, 3, 4, 5], &[NONE, NONE].concat(), &[argument])
}

fn reply(result: u32) -> Vec<u8> {
    record(&[7, 1, 0], &NONE, &[0, result])
}

fn sides() -> (Seal, Seal) {
    let key = Key::from_password("secret");
    let transcript = Transcript::new("vm1", [1; 16], [2; 16], true, b"");
    (
        Seal::client(&transcript, &key),
        Seal::server(&transcript, &key),
    )
}

/// The record, sealed as the next one.
fn sealed(seal: &mut Seal, mut record: Vec<u8>) -> Vec<u8> {
    seal.seal(&mut record).unwrap();
    record
}

#[test]
fn sealed_messages_pass_in_their_order() {
    let (mut client, mut server) = sides();
    for number in 0..100 {
        let call = sealed(&mut client, call(number));
        assert_eq!(server.check(&call), Ok(()));
        let reply = sealed(&mut server, reply(number));
        assert_eq!(client.check(&reply), Ok(()));
    }
}

#[test]
fn the_seal_stands_in_the_verifier() {
    let (mut client, mut server) = sides();
    let plain = call(9);
    let sealed = sealed(&mut client, plain.clone());
    assert_eq!(sealed.len(), plain.len() + 16);
    assert_eq!(
        word(&sealed, 0),
        Some(1 << 31 | u32::try_from(sealed.len() - 4).unwrap())
    );
    assert_eq!(word(&sealed, 36), Some(AUTH_FLAVOR_SEAL));
    assert_eq!(word(&sealed, 40), Some(16));
    assert_eq!(sealed[60..], plain[44..]);
    assert_eq!(server.check(&sealed), Ok(()));
}

#[test]
fn credentials_of_other_kinds_do_not_hide_the_verifier() {
    let (mut client, mut server) = sides();
    let auth = [&[1, 20, 0, 0, 0, 0, 0][..], &NONE].concat();
    let call = sealed(&mut client, record(&[7, 0, 2, 3, 4, 5], &auth, &[9]));
    assert_eq!(server.check(&call), Ok(()));
}

#[test]
fn a_repeated_message_is_refused() {
    let (mut client, mut server) = sides();
    let call = sealed(&mut client, call(1));
    assert_eq!(server.check(&call), Ok(()));
    assert_eq!(server.check(&call), Err(SealError::Wrong));
}

#[test]
fn a_missing_or_reordered_message_is_noticed() {
    let (mut client, mut server) = sides();
    let (_first, second) = (sealed(&mut client, call(1)), sealed(&mut client, call(2)));
    assert_eq!(server.check(&second), Err(SealError::Wrong));
}

#[test]
fn nothing_is_believed_after_a_wrong_message() {
    let (mut client, mut server) = sides();
    let good = sealed(&mut client, call(1));
    assert_eq!(server.check(&call(1)), Err(SealError::Wrong));
    assert_eq!(server.check(&good), Err(SealError::Wrong));
}

#[test]
fn a_reflected_message_is_refused() {
    let (mut client, _) = sides();
    let call = sealed(&mut client, call(1));
    assert_eq!(client.check(&call), Err(SealError::Wrong));
    // Nor does a call of the server's key pass for one of the client's.
    let (_, mut server) = sides();
    let reply = sealed(&mut server, reply(1));
    assert_eq!(server.check(&reply), Err(SealError::Wrong));
}

#[test]
fn a_message_without_a_verifier_of_ours_is_refused() {
    let other = record(&[7, 0, 2, 3, 4, 5], &[0, 0, 6, 16, 0, 0, 0, 0], &[1]);
    let denied = record(&[7, 1, 1], &[0, 2, 2], &[]);
    for record in [call(1), reply(1), other, denied, Vec::new(), vec![0; 9]] {
        assert_eq!(sides().1.check(&record), Err(SealError::Wrong));
        assert_eq!(sides().0.check(&record), Err(SealError::Wrong));
    }
}

#[test]
fn every_changed_or_missing_byte_is_noticed() {
    let (mut client, _) = sides();
    let call = sealed(&mut client, call(1));
    // The mark is no part of the message: how it is cut does not matter.
    for index in MARK..call.len() {
        let mut changed = call.clone();
        changed[index] ^= 1;
        assert_eq!(sides().1.check(&changed), Err(SealError::Wrong), "{index}");
        let cut = &call[..index];
        assert_eq!(sides().1.check(cut), Err(SealError::Wrong), "{index}");
    }
    let longer = [call.as_slice(), &[0; 4]].concat();
    assert_eq!(sides().1.check(&longer), Err(SealError::Wrong));
}

#[test]
fn another_password_or_connection_has_other_seals() {
    let call = sealed(&mut sides().0, call(1));
    let server = |vm, nonce, password| {
        let transcript = Transcript::new(vm, [1; 16], [nonce; 16], true, b"");
        Seal::server(&transcript, &Key::from_password(password))
    };
    assert_eq!(server("vm1", 2, "secret").check(&call), Ok(()));
    for mut other in [
        server("vm1", 3, "secret"),
        server("vm2", 2, "secret"),
        server("vm1", 2, "Secret"),
    ] {
        assert_eq!(other.check(&call), Err(SealError::Wrong));
    }
}

#[test]
fn what_has_no_verifier_is_not_sealed() {
    let (_, mut server) = sides();
    let denied = record(&[7, 1, 1], &[0, 2, 2], &[]);
    let mut record = denied.clone();
    assert_eq!(server.seal(&mut record), Err(SealError::NoVerifier));
    assert_eq!(record, denied);
}
