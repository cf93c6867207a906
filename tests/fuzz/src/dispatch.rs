//! The server side of the interface: whatever a client sends is answered, or the connection is closed.

use std::fmt::Debug;
use std::rc::Rc;

use rpc_xdr::server::Limits;
use rpc_xdr::umlmonctrl::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// Serves a connection on which `data` arrives.
pub fn target(data: &[u8]) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let (mut client, server) = tokio::io::duplex(1 << 16);
        let limits = Limits::new(UMLMONCTRL_V1_MAX_ARGS);
        let serve = serve_umlmonctrl_v1(server, Rc::new(Refusing), (), limits);
        let talk = async {
            let (mut replies, mut calls) = tokio::io::split(&mut client);
            let send = async {
                // A server that has closed takes no more.
                let _ = calls.write_all(data).await;
                let _ = calls.shutdown().await;
            };
            let mut received = Vec::new();
            let (_, read) = tokio::join!(send, replies.read_to_end(&mut received));
            read.map(|_| received)
        };
        let (_, received) = tokio::join!(serve, talk);
        let received = received.expect("a pipe in memory does not break");
        assert_eq!(received.len() % 4, 0, "replies consist of words");
    });
}

/// A service that decodes every call and refuses it, telling what it was asked.
struct Refusing;

fn refusal(args: &impl Debug) -> CtlError {
    let mut text = format!("{args:?}");
    text.truncate(text.floor_char_boundary(1000));
    CtlError {
        code: CtlCode::Failed,
        text,
    }
}

macro_rules! refuse {
    ($($procedure:ident($($args:ty)?) -> $result:ident;)*) => {
        impl UmlmonctrlV1 for Refusing {
            type Session = ();
            $(refuse!(@ $procedure, $($args)?, $result);)*
        }
    };
    (@ $procedure:ident, , $result:ident) => {
        async fn $procedure(&self, (): &()) -> $result {
            $result::Error(refusal(&()))
        }
    };
    (@ $procedure:ident, $args:ty, $result:ident) => {
        async fn $procedure(&self, (): &(), args: $args) -> $result {
            $result::Error(refusal(&args))
        }
    };
}

refuse! {
    vm_info() -> VmInfoResult;
    vm_start(VmStartArgs) -> CtlResult;
    vm_suspend() -> CtlResult;
    vm_continue() -> CtlResult;
    vm_halt() -> CtlResult;
    vm_ctrlaltdel(VmCtrlaltdelArgs) -> CtlResult;
    vm_kill() -> CtlResult;
    vm_sysrq(VmSysrqArgs) -> CtlResult;
    vm_wait(VmWaitArgs) -> VmWaitResult;
    vm_ready(VmWaitArgs) -> VmReadyResult;
    con_open(ConOpenArgs) -> ConOpenResult;
    con_read(ConReadArgs) -> ConReadResult;
    con_write(ConWriteArgs) -> CtlResult;
    con_resize(ConResizeArgs) -> CtlResult;
    con_close(CtlName) -> CtlResult;
    con_screen(ConScreenArgs) -> ConScreenResult;
    log_tail(LogTailArgs) -> LogTailResult;
    log_read(LogReadArgs) -> LogReadResult;
    log_rotate() -> CtlResult;
    config_get() -> ConfigGetResult;
    config_set(ConfigSetArgs) -> CtlResult;
    config_del(ConfigDelArgs) -> CtlResult;
    disk_create(DiskCreateArgs) -> DiskJobResult;
    disk_create_cow(DiskCreateCowArgs) -> DiskJobResult;
    disk_delete(DiskDeleteArgs) -> DiskJobResult;
    disk_copy(DiskCopyArgs) -> DiskJobResult;
    disk_resize(DiskResizeArgs) -> DiskJobResult;
    disk_import(DiskImportArgs) -> DiskJobResult;
    disk_commit(DiskCommitArgs) -> DiskJobResult;
    disk_wait(DiskWaitArgs) -> DiskWaitResult;
    disk_cancel(DiskJob) -> CtlResult;
    disk_list(DiskListArgs) -> DiskListResult;
    event_read(EventReadArgs) -> EventReadResult;
    port_get() -> PortGetResult;
    site_run(SiteRunArgs) -> SiteRunResult;
    password_set(PasswordSetArgs) -> CtlResult;
}

/// A call of each procedure, with arguments that some of them take.
pub fn seeds() -> Vec<Vec<u8>> {
    let numbers = UMLMONCTRL_V1_PROCEDURES
        .iter()
        .map(|procedure| procedure.number);
    numbers
        .flat_map(|number| {
            // "con1", a number of 64 bits, two small ones
            let arguments = [
                [0, 0, 0, 4],
                *b"con1",
                [0, 0, 0, 0],
                [0, 0, 0, 9],
                [0, 0, 0, 2],
                [0, 0, 0, 1],
            ];
            [0, 1, 2, 4, 6].map(|words| call(number, &arguments[..words].concat()))
        })
        .collect()
}

/// RFC 5531: a record with xid, CALL, RPC version, program, version, procedure, and no credentials.
fn call(procedure: u32, arguments: &[u8]) -> Vec<u8> {
    let header = [7, 0, 2, UMLMONCTRL, UMLMONCTRL_V1, procedure, 0, 0, 0, 0];
    let mut record: Vec<u8> = header.iter().flat_map(|word| word.to_be_bytes()).collect();
    record.extend_from_slice(arguments);
    let mark = (1 << 31) | u32::try_from(record.len()).expect("a short record");
    [mark.to_be_bytes().as_slice(), &record].concat()
}
