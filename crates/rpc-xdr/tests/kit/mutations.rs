//! Damaged data: decoding gives a value whose encoding is the same bytes again, or an error; it never panics.

use proptest::strategy::{Strategy as _, ValueTree as _};
use proptest::test_runner::TestRunner;
use rpc_xdr::client::Client;
use rpc_xdr::umlmonctrl::*;
use rpc_xdr::xdr::{Pack, Unpack};

use crate::kit::KitAll;
use crate::values::{all, decode, encode};

/// xorshift: the same numbers in every run.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new() -> Self {
        Self(0x9e37_79b9_7f4a_7c15)
    }

    pub(crate) fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % limit as u64).unwrap()
    }

    /// Changes a few bytes, sometimes the length, often at the places where lengths and cases stand.
    pub(crate) fn damage(&mut self, bytes: &mut Vec<u8>) {
        for _ in 0..=self.below(3) {
            match self.below(6) {
                0 => bytes.truncate(self.below(bytes.len() + 1)),
                1 => bytes.extend_from_slice(&[0; 4]),
                2 if bytes.len() >= 4 => {
                    let word = self.below(bytes.len() / 4) * 4;
                    let values = [0u32, 1, 2, 0x7fff_ffff, 0x8000_0000, u32::MAX];
                    bytes[word..word + 4].copy_from_slice(&values[self.below(6)].to_be_bytes());
                }
                _ if !bytes.is_empty() => {
                    let at = self.below(bytes.len());
                    bytes[at] ^= 1 << self.below(8);
                }
                _ => {}
            }
        }
    }
}

/// Damages `value` many times; gives how often the result was another good value.
fn survives<T: Pack + Unpack>(value: &T, random: &mut Random, count: u32) -> u32 {
    let (bytes, mut good) = (encode(value), 0);
    for _ in 0..count {
        let mut damaged = bytes.clone();
        random.damage(&mut damaged);
        if let Ok(value) = decode::<T>(&damaged) {
            assert_eq!(encode(&value), damaged);
            good += 1;
        }
    }
    good
}

fn disk() -> DiskInfo {
    DiskInfo {
        ubd: "ubd0".into(),
        file: b"/disks/a.dsk".to_vec(),
        size: 1,
        allocated: 1,
        backing: Vec::new(),
        durable: DiskDurable::Flush,
        read_only: false,
        note: String::new(),
    }
}

fn share() -> ShareInfo {
    ShareInfo {
        share: "share0".into(),
        directory: b"/srv".to_vec(),
        path: b"/srv".to_vec(),
        read_only: true,
        owner: ShareOwner::Mapped,
        uid: 7,
        note: String::new(),
    }
}

fn last_end() -> VmLastEnd {
    VmLastEnd {
        how: VmEnd::Panicked,
        exit_status: -1,
        exit_signal: 6,
        time: 3,
        text: "Kernel panic".into(),
    }
}

fn info() -> VmInfo {
    let client = ConClient {
        who: "uid 0 (root), pid 1".into(),
        since: 1,
        idle: 2,
    };
    let setting = ConfigSetting {
        param: "mem".into(),
        value: b"64".to_vec(),
        origin: ConfigOrigin::Main,
    };
    let channel = ConInfo {
        channel: "con0".into(),
        terminal: b"pty:con0".to_vec(),
        writer: Some(client.clone()),
        watchers: vec![client],
        bytes: 9,
        rows: 24,
        columns: 80,
    };
    VmInfo {
        vm: "vm1".into(),
        daemon_version: "0.1.0".into(),
        monitor_pid: 10,
        monitor_since: 1 << 40,
        uid: 1000,
        state: VmState::Running,
        state_since: 1,
        responding: true,
        fault: String::new(),
        uptime: 7,
        reboots: 0,
        ready: true,
        last_end: last_end(),
        child_pid: 11,
        kernel_pid: 12,
        kernel_version: "6.1.0".into(),
        mem_mb: 64,
        mem_used: 1 << 20,
        mem_now_mb: 64,
        mem_available: 0,
        cpu_ns: 1 << 33,
        disk_read_bytes: 1 << 34,
        disk_written_bytes: 0,
        bounded_by: String::new(),
        confined_by: String::new(),
        processors: String::new(),
        channels: vec![channel; 2],
        disks: vec![disk()],
        nics: vec![NicInfo {
            eth: "eth0".into(),
            specification: b"bridged()".to_vec(),
            note: String::new(),
            link: None,
        }],
        shares: vec![share()],
        settings: vec![setting.clone(); 3],
        pending: vec![setting],
    }
}

#[test]
fn damaged_values_never_panic() {
    let mut random = Random::new();
    let mut good = survives(&VmInfoResult::Ok(info()), &mut random, 30_000);
    let start = VmStartArgs {
        extra: vec![b"single".to_vec(), b"\xff\0".to_vec()],
    };
    good += survives(&start, &mut random, 10_000);
    let open = ConOpenArgs {
        channel: "con1".into(),
        mode: ConMode::Force,
        who: "pts/3".into(),
    };
    good += survives(&open, &mut random, 10_000);
    let chunk = ConChunk {
        offset: 5,
        data: b"login: ".to_vec(),
        state: VmState::Running,
        writer: true,
        taken_by: String::new(),
        standstill: Some(ConStandstill {
            bytes: 1,
            seconds: 5,
            why: "because".into(),
        }),
    };
    good += survives(&ConReadResult::Ok(chunk), &mut random, 10_000);
    let error = CtlError {
        code: CtlCode::Busy,
        text: "con1 is in use".into(),
    };
    good += survives(&CtlResult::Error(error), &mut random, 10_000);
    let mut runner = TestRunner::deterministic();
    for _ in 0..300 {
        let value: KitAll = all().new_tree(&mut runner).unwrap().current();
        // The bits of a NaN survive as well, but a NaN is not equal to itself; bytes are compared.
        good += survives(&value, &mut random, 100);
    }
    assert!(
        good > (1_000),
        "only {good} good values: the test hardly tests"
    );
}

/// A stream that gives prepared bytes and takes everything.
struct Prepared(std::io::Cursor<Vec<u8>>);

impl rpc_xdr::client::Stream for Prepared {}

impl std::io::Read for Prepared {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.0.read(buffer)
    }
}

impl std::io::Write for Prepared {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn damaged_replies_never_panic_the_client() {
    let mut random = Random::new();
    // A reply to xid 1: mark, xid, reply, accepted, no verifier (2 words), success, result.
    let mut good = Vec::from([
        0x80, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    ]);
    good.extend(encode(&VmInfoResult::Ok(info())));
    let length = u32::try_from(good.len() - 4).unwrap() | 1 << 31;
    good[..4].copy_from_slice(&length.to_be_bytes());
    let call = |reply: Vec<u8>| {
        let stream = Prepared(std::io::Cursor::new(reply));
        let mut client = UmlmonctrlV1Client {
            rpc: Client::new(stream, UMLMONCTRL, UMLMONCTRL_V1),
        };
        client.vm_info()
    };
    assert_eq!(call(good.clone()).unwrap().into_result().unwrap(), info());
    for _ in 0..20_000 {
        let mut damaged = good.clone();
        random.damage(&mut damaged);
        let _ = call(damaged);
    }
}
