//! The server side of the interfaces: whatever a client sends is answered, or the connection is closed.

use std::fmt::Debug;
use std::rc::Rc;

use rpc_xdr::server::{Limits, Program, serve};
use rpc_xdr::umldir::*;
use rpc_xdr::umlmonctrl::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// Serves a connection on which `data` arrives: of a monitor, of the directory service, and of the redirector.
pub fn target(data: &[u8]) {
    answer::<UmlmonctrlV1Program>(data, Limits::new(UMLMONCTRL_V1_MAX_ARGS));
    answer::<UmldirV1Program>(data, UMLDIR_V1_LIMITS);
    answer::<UmlredirV1Program>(data, UMLREDIR_V1_LIMITS);
}

/// Serves it as one of them.
fn answer<P: Program<Refusing, Session = ()>>(data: &[u8], limits: Limits) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let (mut client, server) = tokio::io::duplex(1 << 16);
        let serve = serve::<P, _, _>(server, Rc::new(Refusing), (), limits);
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

fn text(args: &impl Debug) -> String {
    let mut text = format!("{args:?}");
    text.truncate(text.floor_char_boundary(1000));
    text
}

macro_rules! refuse {
    ($interface:ident, $error:ident, $code:expr; $($procedure:ident($($args:ty)?) -> $result:ident;)*) => {
        impl $interface for Refusing {
            type Session = ();
            $(refuse!(@ $error, $code, $procedure, $($args)?, $result);)*
        }
    };
    (@ $error:ident, $code:expr, $procedure:ident, , $result:ident) => {
        async fn $procedure(&self, (): &()) -> $result {
            $result::Error($error { code: $code, text: text(&()) })
        }
    };
    (@ $error:ident, $code:expr, $procedure:ident, $args:ty, $result:ident) => {
        async fn $procedure(&self, (): &(), args: $args) -> $result {
            $result::Error($error { code: $code, text: text(&args) })
        }
    };
}

refuse! {
    UmldirV1, DirError, DirCode::Failed;
    get_port(DirName) -> GetPortResult;
    vm_list() -> VmListResult;
    vm_register(VmRegisterArgs) -> DirResult;
    host_info() -> HostInfoResult;
}

refuse! {
    UmlredirV1, DirError, DirCode::Failed;
    redirect(DirName) -> DirResult;
}

refuse! {
    UmlmonctrlV1, CtlError, CtlCode::Failed;
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
    let interfaces = [
        (UMLMONCTRL, UMLMONCTRL_V1, UMLMONCTRL_V1_PROCEDURES),
        (UMLDIR, UMLDIR_V1, UMLDIR_V1_PROCEDURES),
        (UMLREDIR, UMLREDIR_V1, UMLREDIR_V1_PROCEDURES),
    ];
    let calls = interfaces
        .iter()
        .flat_map(|(program, version, procedures)| {
            let numbers = procedures.iter().map(|procedure| procedure.number);
            numbers.map(|number| [*program, *version, number])
        });
    calls
        .flat_map(|which| {
            // "con1", a number of 64 bits, two small ones
            let arguments = [
                [0, 0, 0, 4],
                *b"con1",
                [0, 0, 0, 0],
                [0, 0, 0, 9],
                [0, 0, 0, 2],
                [0, 0, 0, 1],
            ];
            [0, 1, 2, 3, 4, 6].map(|words| call(which, &arguments[..words].concat()))
        })
        .collect()
}

/// RFC 5531: a record with xid, CALL, RPC version, program, version, procedure, and no credentials.
fn call([program, version, procedure]: [u32; 3], arguments: &[u8]) -> Vec<u8> {
    let header = [7, 0, 2, program, version, procedure, 0, 0, 0, 0];
    let mut record: Vec<u8> = header.iter().flat_map(|word| word.to_be_bytes()).collect();
    record.extend_from_slice(arguments);
    let mark = (1 << 31) | u32::try_from(record.len()).expect("a short record");
    [mark.to_be_bytes().as_slice(), &record].concat()
}
