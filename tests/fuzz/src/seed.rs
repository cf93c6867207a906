//! What a new machine is told on a disk, which the guest reads as root.

use guest_line::{MAX_SEED, Seed};

/// Reads `data` as the disk. What is accepted can be written again.
pub fn target(data: &[u8]) {
    let Ok(seed) = Seed::parse(data) else { return };
    assert!(!seed.instance.is_empty());
    match seed.disk() {
        Ok(disk) => assert_eq!(Seed::parse(&disk).as_ref(), Ok(&seed)),
        // Written in full, it can be longer than it was.
        Err(why) => assert!(data.len() > MAX_SEED / 2, "{why}"),
    }
}

/// One with every value, and one with little.
pub fn seeds() -> Vec<Vec<u8>> {
    let all = b"#umlmon-seed 1\ninstance = 5f0c9a2e\nhostname = web\nssh-key = ssh-ed25519 AAAA me@here\n\
        password = $6$salt$hash\naddress = 10.8.0.2/24\naddress = fd00::2/64\ngateway = 10.8.0.1\ndns = 9.9.9.9\n";
    let seeds = vec![all.to_vec(), b"#umlmon-seed 1\ninstance=1\n\0\0".to_vec()];
    assert!(seeds.iter().all(|seed| Seed::parse(seed).is_ok()));
    seeds
}
