//! What the monitor is, and what it answers.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use rpc_xdr::auth::Key;
use rpc_xdr::pake::{Context, Guess, Offered, Proved, Verifier};
use rpc_xdr::umlmonctrl::*;
use rpc_xdr::xdr::Pack as _;
use tokio::net::UnixListener;
use tokio::sync::Notify;
use tokio::task::{AbortHandle, JoinHandle, spawn_local};
use tokio::time::{Instant, timeout, timeout_at};

use crate::answers::{disks, events, info, last_end};
use crate::manner::Manner;

/// A VM without a kernel. Its guest echoes what is typed, and obeys a few words.
struct Guest {
    state: VmState,
    output: Vec<u8>,
    /// Bytes that were dropped from the history.
    lost: u64,
    /// The session that may write; 0 is another client.
    writer: Option<u32>,
    taken_by: String,
    /// What the window had.
    sizes: Vec<ConSize>,
    /// For so many seconds it has taken no input.
    standstill: Option<u32>,
    /// The process that is the VM.
    child: u32,
}

impl Guest {
    /// The window gets this size.
    fn resize(&mut self, rows: u32, columns: u32) {
        self.sizes.push(ConSize {
            number: self.sizes.len() as u64 + 1,
            offset: self.lost + self.output.len() as u64,
            rows,
            columns,
        });
    }

    /// What `session` gets that has read the output up to an offset; no bytes if there are no more.
    fn chunk(&self, session: u32, args: &ConReadArgs) -> ConChunk {
        let offset = args.offset.max(self.lost);
        let from = usize::try_from(offset - self.lost)
            .unwrap()
            .min(self.output.len());
        let data = self.output[from..].iter().take(args.max as usize);
        ConChunk {
            offset,
            data: data.copied().collect(),
            state: self.state,
            writer: self.writer == Some(session),
            taken_by: self.taken_by.clone(),
            standstill: self.standstill.map(|seconds| ConStandstill {
                bytes: 900,
                seconds,
                why: "no program reads it".to_owned(),
            }),
        }
    }
}

/// A monitor and its VM.
pub struct Service {
    manner: Manner,
    note: Box<dyn Fn(String)>,
    guest: RefCell<Guest>,
    changed: Notify,
    /// The connections, which a restart breaks.
    connections: RefCell<Vec<AbortHandle>>,
    /// What the authentication of a remote connection gave; None on the local socket.
    pub proved: RefCell<Option<Proved>>,
    offered: RefCell<Option<Offered>>,
}

impl Service {
    /// The monitor of a VM in this state whose channels said `history` before. `note` gets a line for each call.
    pub fn new(
        manner: Manner,
        state: VmState,
        history: Vec<u8>,
        note: impl Fn(String) + 'static,
    ) -> Service {
        let mut guest = Guest {
            state,
            output: Vec::new(),
            lost: 0,
            writer: None,
            taken_by: String::new(),
            sizes: Vec::new(),
            standstill: None,
            child: 101,
        };
        guest.resize(24, 80);
        guest.output = history;
        Service {
            manner,
            note: Box::new(note),
            guest: RefCell::new(guest),
            changed: Notify::new(),
            connections: RefCell::default(),
            proved: RefCell::default(),
            offered: RefCell::default(),
        }
    }

    /// Serves all connections, until the program ends.
    pub async fn serve(self: Rc<Self>, listener: UnixListener) {
        let mut silent = Vec::new();
        let mut session = 0;
        while let Ok((stream, _)) = listener.accept().await {
            if self.manner == Manner::Mute {
                silent.push(stream);
                continue;
            }
            session += 1;
            let service = Rc::clone(&self);
            self.hold(&spawn_local(serve_umlmonctrl_v1(
                stream,
                service,
                session,
                UMLMONCTRL_V1_LIMITS,
            )));
        }
    }

    /// A connection that a restart is to break.
    pub fn hold<T>(&self, connection: &JoinHandle<T>) {
        let mut connections = self.connections.borrow_mut();
        connections.retain(|held| !held.is_finished());
        connections.push(connection.abort_handle());
    }

    /// The monitor is another one from here on: all connections break. With `anew`, its VM is another one, too.
    fn restart(&self, anew: bool) {
        let mut guest = self.guest.borrow_mut();
        guest.writer = None;
        guest.taken_by.clear();
        if anew {
            guest.child += 100;
            (guest.lost, guest.output) = (0, b"new boot".to_vec());
        }
        for connection in self.connections.take() {
            connection.abort();
        }
    }

    /// The guest writes so many numbered lines, one each millisecond.
    pub async fn flood(&self, lines: u32) {
        for line in 0..lines {
            tokio::time::sleep(Duration::from_millis(1)).await;
            let text = format!("line {line}\n");
            self.guest.borrow_mut().output.extend(text.bytes());
            self.changed.notify_waiters();
        }
    }

    /// Notes something beside the calls.
    pub fn note(&self, call: impl std::fmt::Display) {
        (self.note)(call.to_string());
    }

    /// A request that needs a running kernel; `ends` says whether it ends it.
    fn request(&self, call: &str, ends: bool) -> CtlResult {
        self.note(call);
        if self.manner == Manner::Frozen && !ends {
            return CtlResult::Error(error(CtlCode::Timeout, "the kernel does not answer"));
        }
        match (self.guest.borrow().state, ends) {
            (VmState::Inactive, _) => {
                let text = "the kernel is not running";
                return CtlResult::Error(error(CtlCode::NotRunning, text));
            }
            (_, false) => return CtlResult::Ok,
            (_, true) => {}
        }
        self.turn(VmState::Inactive)
    }

    /// Does what the word says, or echoes it.
    fn obey(&self, args: &ConWriteArgs) {
        let typed = String::from_utf8_lossy(&args.data).into_owned();
        self.note(format!("type {typed:?}"));
        let mut guest = self.guest.borrow_mut();
        match typed.as_str() {
            "down" => guest.state = VmState::Inactive,
            "suspend" => guest.state = VmState::Suspended,
            "steal" => (guest.writer, guest.taken_by) = (Some(0), "uid 7 (eva)".to_owned()),
            "skip" => {
                guest.lost += guest.output.len() as u64 + 1000;
                guest.output = b"after the gap".to_vec();
            }
            "stand" => guest.standstill = Some(5),
            "stand long" => guest.standstill = Some(60),
            _ => guest.output.extend_from_slice(&args.data),
        }
        self.changed.notify_waiters();
    }

    async fn until_taken(&self) {
        loop {
            let changed = self.changed.notified();
            if self.guest.borrow().standstill.is_none() {
                return;
            }
            changed.await;
        }
    }

    fn turn(&self, state: VmState) -> CtlResult {
        self.guest.borrow_mut().state = state;
        self.changed.notify_waiters();
        CtlResult::Ok
    }
}

fn error(code: CtlCode, text: &str) -> CtlError {
    CtlError {
        code,
        text: text.to_owned(),
    }
}

impl PartialUmlmonctrlV1 for Service {
    type Session = u32;

    fn refusal(&self, procedure: &str, _: &dyn std::fmt::Debug) -> CtlError {
        error(CtlCode::Failed, procedure)
    }

    async fn vm_info(&self, _: &u32) -> VmInfoResult {
        self.note("info");
        if self.manner == Manner::Vague {
            return VmInfoResult::Error(error(CtlCode::Failed, "no configuration"));
        }
        let guest = self.guest.borrow();
        let mut info = info(guest.state, guest.writer.is_some());
        info.child_pid = guest.child;
        VmInfoResult::Ok(info)
    }
    async fn vm_start(&self, _: &u32, args: VmStartArgs) -> CtlResult {
        let extra: Vec<_> = args
            .extra
            .iter()
            .map(|arg| String::from_utf8_lossy(arg))
            .collect();
        self.note(format!("start {}", extra.join("|")).trim_end());
        match self.guest.borrow().state {
            VmState::Inactive => {}
            _ => {
                return CtlResult::Error(error(
                    CtlCode::AlreadyRunning,
                    "it is running\x1b[2J already",
                ));
            }
        }
        self.turn(match self.manner {
            Manner::Sleeps => VmState::Suspended,
            _ => VmState::Running,
        })
    }
    async fn vm_suspend(&self, _: &u32) -> CtlResult {
        match self.request("suspend", false) {
            CtlResult::Ok => self.turn(VmState::Suspended),
            refused => refused,
        }
    }
    async fn vm_continue(&self, _: &u32) -> CtlResult {
        match self.request("continue", false) {
            CtlResult::Ok => self.turn(VmState::Running),
            refused => refused,
        }
    }
    async fn vm_halt(&self, _: &u32) -> CtlResult {
        self.request("halt", self.manner != Manner::Frozen)
    }
    async fn vm_ctrlaltdel(&self, _: &u32, args: VmCtrlaltdelArgs) -> CtlResult {
        let call = format!("ctrlaltdel {}", args.stop);
        let is_deaf = matches!(self.manner, Manner::Ignores | Manner::Frozen);
        self.request(&call, !is_deaf)
    }
    async fn vm_kill(&self, _: &u32) -> CtlResult {
        self.request("kill", true)
    }
    async fn vm_sysrq(&self, _: &u32, args: VmSysrqArgs) -> CtlResult {
        self.request(&format!("sysrq {}", args.letter), false)
    }
    async fn vm_wait(&self, _: &u32, args: VmWaitArgs) -> VmWaitResult {
        self.note(format!("wait {}", args.seconds));
        let until = Instant::now() + Duration::from_secs(args.seconds.into());
        let inactive = loop {
            let changed = self.changed.notified();
            if self.guest.borrow().state == VmState::Inactive {
                break true;
            }
            if timeout_at(until, changed).await.is_err() {
                break false;
            }
        };
        VmWaitResult::Ok(VmWaited {
            inactive,
            last_end: last_end(),
        })
    }

    async fn vm_ready(&self, _: &u32, args: VmWaitArgs) -> VmReadyResult {
        self.note(format!("ready {}", args.seconds));
        if self.guest.borrow().state == VmState::Inactive {
            return VmReadyResult::Error(error(CtlCode::NotRunning, "the kernel is not running"));
        }
        VmReadyResult::Ok(VmReadiness {
            ready: args.seconds == 9,
            ended: args.seconds == 1,
            last_end: last_end(),
        })
    }

    async fn con_open(&self, session: &u32, args: ConOpenArgs) -> ConOpenResult {
        self.note(format!("open {} {:?}", args.channel, args.mode));
        let mut guest = self.guest.borrow_mut();
        let before = guest.writer;
        if before.is_some() && args.mode == ConMode::Write {
            return ConOpenResult::Error(error(CtlCode::Busy, "somebody holds it"));
        }
        if args.mode != ConMode::Watch {
            guest.writer = Some(*session);
        }
        let end = guest.lost + guest.output.len() as u64;
        let taken = before.filter(|_| args.mode == ConMode::Force);
        let taken_from = taken.map_or(String::new(), |_| "uid 7 (eva)".to_owned());
        ConOpenResult::Ok(ConOpened {
            start: guest.lost,
            end,
            run_start: guest.lost,
            taken_from,
        })
    }
    async fn con_read(&self, session: &u32, args: ConReadArgs) -> ConReadResult {
        let now = || self.guest.borrow().chunk(*session, &args);
        let changed = self.changed.notified();
        if now().data.is_empty() {
            let wait = Duration::from_millis(args.wait_ms.into());
            // What has come, or that nothing has, is seen next.
            let _ = timeout(wait, changed).await;
        }
        ConReadResult::Ok(now())
    }
    async fn con_sizes(&self, _: &u32, args: ConSizesArgs) -> ConSizesResult {
        let guest = self.guest.borrow();
        let later = guest.sizes.iter().filter(|size| size.number > args.after);
        ConSizesResult::Ok(ConSizes {
            sizes: later.cloned().collect(),
        })
    }
    async fn con_screen(&self, _: &u32, args: ConScreenArgs) -> ConScreenResult {
        self.note(format!("screen {}", args.channel));
        let guest = self.guest.borrow();
        let painted = guest.output.starts_with(b"painted");
        let cell = |character: char, style| ConCell {
            character: character.into(),
            style,
        };
        ConScreenResult::Ok(ConScreen {
            offset: guest.lost + guest.output.len() as u64,
            rows: 2,
            columns: 4,
            cursor_row: 1,
            cursor_column: 0,
            cursor_visible: true,
            plain: !painted,
            palette: [0; 16],
            cells: match args.cells {
                true => "a\u{9b} \u{6f22} b  "
                    .chars()
                    .map(|c| cell(c, u32::from(c == '\u{6f22}') << 24))
                    .collect(),
                false => Vec::new(),
            },
            drawing: b"\x1b[2J\x1b[Hdrawn".to_vec(),
        })
    }
    async fn con_write(&self, _: &u32, args: ConWriteArgs) -> CtlResult {
        self.obey(&args);
        self.until_taken().await;
        CtlResult::Ok
    }
    async fn con_resize(&self, _: &u32, args: ConResizeArgs) -> CtlResult {
        self.note(format!("size {} {}", args.rows, args.columns));
        self.guest.borrow_mut().resize(args.rows, args.columns);
        // It wakes the program that does not read.
        self.guest.borrow_mut().standstill = None;
        self.changed.notify_waiters();
        CtlResult::Ok
    }
    async fn con_close(&self, _: &u32, _: CtlName) -> CtlResult {
        CtlResult::Ok
    }

    async fn log_tail(&self, _: &u32, args: LogTailArgs) -> LogTailResult {
        self.note(format!("tail {} {}", args.file, args.lines));
        let guest = self.guest.borrow();
        LogTailResult::Ok(LogRange {
            start: 0,
            end: guest.output.len() as u64,
        })
    }
    async fn log_read(&self, _: &u32, args: LogReadArgs) -> LogReadResult {
        self.note(format!("read {}", args.file));
        let guest = self.guest.borrow();
        let offset = usize::try_from(args.offset).unwrap();
        // Pieces small enough that characters are cut.
        let data = guest.output[offset..]
            .iter()
            .take(5.min(args.max as usize))
            .copied()
            .collect();
        LogReadResult::Ok(LogChunk {
            offset: args.offset,
            data,
        })
    }
    async fn log_rotate(&self, _: &u32) -> CtlResult {
        self.request("rotate", false)
    }

    async fn config_get(&self, _: &u32) -> ConfigGetResult {
        ConfigGetResult::Ok(Vec::new())
    }
    async fn config_set(&self, _: &u32, args: ConfigSetArgs) -> CtlResult {
        self.note(format!(
            "set {} {:?}",
            args.param,
            String::from_utf8_lossy(&args.value)
        ));
        match args.param.as_str() {
            "vmuser" => CtlResult::Error(error(CtlCode::Protected, "the administrator sets it")),
            _ => CtlResult::Ok,
        }
    }
    async fn config_del(&self, _: &u32, args: ConfigDelArgs) -> CtlResult {
        self.note(format!("del {}", args.param));
        CtlResult::Ok
    }
    /// Begins a job: one that never ends if a name says so.
    async fn disk_begin(&self, _: &u32, task: DiskTask) -> DiskJobResult {
        self.note(format_args!("{task:?}"));
        let mut bytes = Vec::new();
        task.pack(&mut bytes).unwrap();
        let text = String::from_utf8_lossy(&bytes);
        if text.contains("bad") {
            return DiskJobResult::Error(error(CtlCode::Busy, "it is open read-write by vm2"));
        }
        let job = if text.contains("endless") { ENDLESS } else { 1 };
        DiskJobResult::Ok(DiskJob { job })
    }
    async fn disk_wait(&self, _: &u32, args: DiskWaitArgs) -> DiskWaitResult {
        let (done, total) = match args.job {
            ENDLESS => (1 << 20, 1 << 30),
            _ => (0, 0),
        };
        let finished = args.job != ENDLESS;
        if !finished {
            tokio::time::sleep(Duration::from_millis(args.wait_ms.into())).await;
        }
        DiskWaitResult::Ok(DiskProgress {
            finished,
            done,
            total,
        })
    }
    async fn disk_cancel(&self, _: &u32, job: DiskJob) -> CtlResult {
        self.note(format!("cancel {}", job.job));
        CtlResult::Ok
    }
    async fn disk_list(&self, _: &u32, args: DiskListArgs) -> DiskListResult {
        DiskListResult::Ok(disks(&args.after))
    }
    async fn event_read(&self, _: &u32, args: EventReadArgs) -> EventReadResult {
        self.note(format!("events {}", args.after));
        let page = events(args.after);
        if page.events.is_empty() && args.wait_ms > 0 {
            // Nothing more happens, and the monitor ends.
            std::future::pending::<()>().await;
        }
        EventReadResult::Ok(page)
    }
    async fn port_get(&self, _: &u32) -> PortGetResult {
        PortGetResult::Ok(PortNumber { port: 4711 })
    }
    async fn password_set(&self, _: &u32, _: PasswordSetArgs) -> CtlResult {
        CtlResult::Error(error(CtlCode::NotAuthorised, "this is for version 1"))
    }
    async fn password_start(&self, _: &u32, args: PasswordStartArgs) -> PasswordStartResult {
        let old = Verifier::new(&Key::from_password("old"), AuthStretch::None);
        let Some((offered, offer)) = old.offer(&args.request, &Context::password("vm1")) else {
            return PasswordStartResult::Error(error(CtlCode::Invalid, "no request"));
        };
        self.offered.replace(Some(offered));
        PasswordStartResult::Ok(PasswordChallenge { offer: Some(offer) })
    }
    async fn password_finish(&self, _: &u32, args: PasswordFinishArgs) -> CtlResult {
        let mut bytes = args.verifier;
        if let Some(Proved::V2(session)) = &*self.proved.borrow() {
            session.mask(&mut bytes);
        }
        let offered = self.offered.take().zip(args.old_proof);
        let known = offered.and_then(|(offered, proof)| offered.finish(&proof));
        if known.is_none() {
            self.note("password refused");
            return CtlResult::Error(error(CtlCode::NotAuthorised, "the old password is wrong"));
        }
        self.note(match is_of_new(args.stretch, &bytes) {
            true => "password new",
            false => "password unknown",
        });
        CtlResult::Ok
    }
    async fn site_run(&self, _: &u32, args: SiteRunArgs) -> SiteRunResult {
        match args.arg.as_slice() {
            b"restart" => self.restart(false),
            b"restart anew" => self.restart(true),
            _ => {}
        }
        let exit_status = i32::from(args.arg == b"bad");
        let output = b"site says hello\n".to_vec();
        SiteRunResult::Ok(SiteOutput {
            exit_status,
            output,
            truncated: false,
            timed_out: args.arg == b"slow",
        })
    }
}

/// The number of the job that never ends.
const ENDLESS: u32 = 2;

/// Whether this is a verifier of the password "new".
fn is_of_new(stretch: AuthStretch, bytes: &AuthVerifier) -> bool {
    let context = Context::password("vm1");
    let verifier = Verifier::from_bytes(stretch, bytes);
    let guess = Guess::new(&Key::from_password("new"));
    let fits = verifier
        .zip(guess)
        .and_then(|(verifier, (guess, request))| {
            let (_, offer) = verifier.offer(&request, &context)?;
            guess.finish(&offer, &context)
        });
    fits.is_some()
}
