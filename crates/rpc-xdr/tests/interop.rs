//! A C client, built with rpcgen and libtirpc from the same interface file, talks to our server.

#![cfg(feature = "server")]
// A test may panic; clippy knows only functions marked #[test] as tests.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod c;

use std::process::Command;
use std::rc::Rc;
use std::time::Duration;

use c::{build, flags, output, rpcgen};
use rpc_xdr::umlmonctrl::*;
use tokio::net::UnixListener;
use tokio::task::LocalSet;

/// Answers what `EXPECTED` shows, refuses everything else.
struct Service;

fn error<T: From<Result<O, CtlError>>, O>(code: CtlCode, text: &str) -> T {
    T::from(Err(CtlError {
        code,
        text: text.into(),
    }))
}

impl PartialUmlmonctrlV1 for Service {
    type Session = ();

    fn refusal(&self, _: &str, _: &dyn std::fmt::Debug) -> CtlError {
        CtlError {
            code: CtlCode::NotRunning,
            text: "vm1 is not running".into(),
        }
    }

    async fn vm_info(&self, _: &()) -> VmInfoResult {
        VmInfoResult::Ok(info())
    }

    async fn con_read(&self, _: &(), args: ConReadArgs) -> ConReadResult {
        if args.max == 0 {
            return error(CtlCode::Invalid, "nothing was asked for");
        }
        // A long call: the answer comes when the time is over.
        tokio::time::sleep(Duration::from_millis(args.wait_ms.into())).await;
        ConReadResult::Ok(ConChunk {
            offset: args.offset,
            data: data(args.max),
            state: VmState::Running,
            writer: true,
            taken_by: String::new(),
            standstill: None,
        })
    }

    async fn con_write(&self, _: &(), args: ConWriteArgs) -> CtlResult {
        if args.channel == "con1" && args.data == vec![b'w'; 65536] {
            CtlResult::Ok
        } else {
            error(CtlCode::Invalid, "other data than expected")
        }
    }

    async fn disk_begin(&self, _: &(), task: DiskTask) -> DiskJobResult {
        let (disk, sparse) = (b"/disks/a.dsk".to_vec(), true);
        let expected = DiskTask::Resize(DiskSize {
            disk,
            megabytes: 1 << 33,
            sparse,
        });
        match task == expected {
            true => DiskJobResult::Ok(DiskJob { job: 7 }),
            false => error(CtlCode::Invalid, "another task than expected"),
        }
    }
}

const EXPECTED: &str = "\
null: answered
info: vm1 0.1.0 state 2 since 4294967296 responding 1
last end: 5 -1 Kernel panic: é
con0 pty:con0 writer root watchers 0 24x80
con1 pty writer nobody watchers 2 24x80
mem=64 from 1
read: 65536 bytes at 4294967298 sum SUM writer 1
read: error 2 nothing was asked for
write: 0
resize: job 7
suspend: 1 3 vm1 is not running
procedure 99: RPC: Procedure unavailable
no arguments: RPC: Server can't decode arguments
version 7: RPC: Program/version mismatch
";

/// What the channel contains.
fn data(size: u32) -> Vec<u8> {
    (0..size).map(|index| index.to_le_bytes()[0]).collect()
}

fn last_end() -> VmLastEnd {
    VmLastEnd {
        how: VmEnd::Panicked,
        exit_status: -1,
        exit_signal: 6,
        time: 1,
        text: "Kernel panic: é".into(),
    }
}

fn info() -> VmInfo {
    let root = ConClient {
        who: "root".into(),
        since: 1,
        idle: 0,
    };
    let channel = |name: &str, terminal: &[u8], writer, watchers| ConInfo {
        channel: name.into(),
        terminal: terminal.into(),
        writer,
        watchers,
        bytes: 0,
        rows: 24,
        columns: 80,
    };
    VmInfo {
        vm: "vm1".into(),
        daemon_version: "0.1.0".into(),
        monitor_pid: 1,
        monitor_since: 1,
        uid: 1000,
        state: VmState::Running,
        state_since: 1 << 32,
        responding: true,
        fault: String::new(),
        uptime: 1,
        reboots: 0,
        ready: false,
        last_end: last_end(),
        child_pid: 2,
        kernel_pid: 3,
        kernel_version: "6.1".into(),
        mem_mb: 64,
        mem_used: 1,
        mem_now_mb: 64,
        mem_available: 0,
        cpu_ns: 1,
        disk_read_bytes: 2,
        disk_written_bytes: 3,
        bounded_by: String::new(),
        confined_by: String::new(),
        processors: String::new(),
        channels: vec![
            channel("con0", b"pty:con0", Some(root.clone()), vec![]),
            channel("con1", b"pty", None, vec![root.clone(), root]),
        ],
        disks: vec![],
        nics: vec![],
        shares: vec![],
        settings: vec![ConfigSetting {
            param: "mem".into(),
            value: b"64".into(),
            origin: ConfigOrigin::Main,
        }],
        pending: vec![],
    }
}

#[test]
fn the_interface_of_the_directory_service_is_c_too() {
    let directory = tempfile::tempdir().unwrap();
    let Some(flags) = flags() else { return };
    rpcgen(directory.path(), "umldir.x");
    let mut gcc = Command::new("gcc");
    gcc.args(["-std=gnu11", "-Wall", "-Wno-unused-variable", "-I.", "-c"])
        .args(["umldir_clnt.c", "umldir_xdr.c"])
        .args(flags.split_whitespace());
    output(gcc.current_dir(directory.path())).unwrap();
}

#[test]
fn a_c_client_understands_the_server() {
    let directory = tempfile::tempdir().unwrap();
    let Some(client) = build(directory.path(), "client") else {
        return;
    };
    let socket = directory.path().join("ctrl");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let printed = LocalSet::new().block_on(&runtime, async {
        let listener = UnixListener::bind(&socket).unwrap();
        let server = tokio::task::spawn_local(async move {
            let service = Rc::new(Service);
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let service = Rc::clone(&service);
                tokio::task::spawn_local(serve_umlmonctrl_v1(
                    stream,
                    service,
                    (),
                    UMLMONCTRL_V1_LIMITS,
                ));
            }
        });
        let (done, printed) = tokio::sync::oneshot::channel();
        std::thread::spawn(move || done.send(output(Command::new(client).arg(socket))));
        let printed = tokio::time::timeout(Duration::from_secs(60), printed)
            .await
            .expect("the client hangs");
        server.abort();
        printed.unwrap().unwrap()
    });
    // The sum as client.c computes it.
    let sum = data(65536).iter().fold(0u32, |sum, byte| {
        sum.wrapping_mul(31).wrapping_add((*byte).into())
    });
    assert_eq!(printed, EXPECTED.replace("SUM", &sum.to_string()));
}
