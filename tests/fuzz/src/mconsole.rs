//! What comes out of the jail on the sockets of the kernel's mconsole.

use umlmon::mconsole::{parse_notify, parse_reply};

/// Reads `data` as a reply and as a notice.
pub fn target(data: &[u8]) {
    if let Ok(reply) = parse_reply(data) {
        assert!(reply.data.len() <= data.len());
    }
    let _ = parse_notify(data);
}

/// Packets as a kernel sends them.
pub fn seeds() -> Vec<Vec<u8>> {
    let packet = |words: &[u32], text: &[u8]| {
        let words = words.iter().flat_map(|word| word.to_ne_bytes());
        words.chain(text.iter().copied()).collect::<Vec<u8>>()
    };
    let mut seeds = vec![
        packet(&[0, 0, 3], b"ok\0"),
        packet(&[1, 1, 16], b"Unknown command\0"),
    ];
    seeds.extend((0..4).map(|kind| packet(&[0xcafe_babe, 2, kind, 6], b"panic\0")));
    seeds
}
