//! A monitor without a kernel, for the tests of umladmin: it holds the pid file, answers on the socket, and its VM
//! behaves as the first `kernelarg` of its configuration says:
//!
//! - `obeys`: goes down by CTRL-ALT-DEL, `ignores`: only by halt, `frozen`: only by kill
//! - `sleeps`: as `obeys`, but a start leaves it suspended
//! - `vague`: as `obeys`, but it cannot tell about itself
//! - `mute`: the monitor accepts connections and never answers
//!
//! What it is asked to do it appends to the file `calls` in the VM's directory.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use config::{Config, VmName};
use daemon::PidFile;
use rpc_xdr::server::{Answer, Call, Limits, Program, Reject, serve};
use rpc_xdr::umlmonctrl::*;
use rpc_xdr::xdr::{Pack as _, take};
use tokio::net::UnixListener;
use tokio::sync::watch;

/// No fake outlives its test by more than this.
const LIFE: Duration = Duration::from_secs(120);

pub struct Monitor {
    pub behaviour: String,
    calls: PathBuf,
    state: watch::Sender<VmState>,
}

impl Monitor {
    fn error(code: CtlCode, text: &str) -> CtlResult {
        CtlResult::Error(CtlError {
            code,
            text: text.into(),
        })
    }

    /// One command; `works` says whether it changes the state.
    fn command(&self, call: &str, works: bool, to: VmState) -> CtlResult {
        let mut file = fs::File::options()
            .append(true)
            .create(true)
            .open(&self.calls)
            .unwrap();
        writeln!(file, "{call}").unwrap();
        if self.behaviour == "frozen" && !works {
            return Monitor::error(CtlCode::Timeout, "the kernel does not answer");
        }
        if *self.state.borrow() == VmState::Inactive && to == VmState::Inactive {
            return Monitor::error(CtlCode::NotRunning, "the VM is not running");
        }
        if works {
            self.state.send_replace(to);
        }
        CtlResult::Ok
    }

    fn info(&self) -> VmInfoResult {
        if self.behaviour == "vague" {
            return VmInfoResult::Error(CtlError {
                code: CtlCode::Failed,
                text: "no configuration".into(),
            });
        }
        VmInfoResult::Ok(VmInfo {
            vm: "fake".into(),
            daemon_version: String::new(),
            monitor_pid: std::process::id(),
            monitor_since: 0,
            state: *self.state.borrow(),
            state_since: 0,
            responding: true,
            fault: String::new(),
            uptime: 5,
            reboots: 0,
            ready: false,
            last_end: last_end(),
            child_pid: 0,
            kernel_pid: 0,
            kernel_version: String::new(),
            mem_mb: 64,
            mem_used: 21 << 20,
            channels: vec![],
            disks: vec![],
            nics: vec![],
            settings: vec![],
            pending: vec![],
        })
    }

    async fn wait(&self, seconds: u32) -> VmWaitResult {
        let mut state = self.state.subscribe();
        let down = state.wait_for(|state| *state == VmState::Inactive);
        let inactive = tokio::time::timeout(Duration::from_secs(seconds.into()), down)
            .await
            .is_ok();
        VmWaitResult::Ok(VmWaited {
            inactive,
            last_end: last_end(),
        })
    }
}

fn last_end() -> VmLastEnd {
    VmLastEnd {
        how: VmEnd::None,
        exit_status: 0,
        exit_signal: 0,
        time: 0,
        text: String::new(),
    }
}

struct Fake;

impl Program<Monitor> for Fake {
    type Session = ();
    const NUMBER: u32 = UMLMONCTRL;
    const VERSION: u32 = UMLMONCTRL_V1;

    fn dispatch(monitor: &Rc<Monitor>, _: &Rc<()>, mut call: Call<'_>) -> Result<Answer, Reject> {
        use VmState::{Inactive, Running, Suspended};
        let obeys = |levels: &[&str]| levels.contains(&monitor.behaviour.as_str());
        let cad_works = obeys(&["obeys", "sleeps", "vague"]);
        let monitor = Rc::clone(monitor);
        let result = match call.procedure() {
            1 => {
                call.arguments(0, |_| Ok(()))?;
                return Ok(call.answer(async move { monitor.info() }, |r, out| r.pack(out)));
            }
            9 => {
                let args: VmWaitArgs = call.arguments(4, take)?;
                let wait = async move { monitor.wait(args.seconds).await };
                return Ok(call.answer(wait, |r, out| r.pack(out)));
            }
            4 => {
                call.arguments(0, |_| Ok(()))?;
                monitor.command("continue", true, Running)
            }
            2 => {
                let _: VmStartArgs = call.arguments(65604, take)?;
                let state = if obeys(&["sleeps"]) {
                    Suspended
                } else {
                    Running
                };
                monitor.command("start", true, state)
            }
            6 => {
                let args: VmCtrlaltdelArgs = call.arguments(4, take)?;
                monitor.command(&format!("ctrlaltdel {}", args.stop), cad_works, Inactive)
            }
            8 => {
                let args: VmSysrqArgs = call.arguments(68, take)?;
                monitor.command(&format!("sysrq {}", args.letter), false, Inactive)
            }
            5 => {
                call.arguments(0, |_| Ok(()))?;
                monitor.command("halt", obeys(&["obeys", "ignores"]), Inactive)
            }
            7 => {
                call.arguments(0, |_| Ok(()))?;
                monitor.command("kill", true, Inactive)
            }
            _ => return Err(Reject::ProcedureUnavailable),
        };
        Ok(call.answer(async move { result }, |r, out| r.pack(out)))
    }
}

/// Is the monitor of these VMs; calls `ready` when all of them can be reached. Comes back only when its life is over.
pub fn run(file: &Path, vms: &[VmName], ready: impl FnOnce()) {
    let config = Config::load(file).unwrap();
    fs::create_dir_all(&config.global.rundir).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let tasks = tokio::task::LocalSet::new();
    let _held: Vec<PidFile> = vms
        .iter()
        .map(|vm| {
            let lock = PidFile::lock(&config.global.pid_file(vm)).unwrap();
            lock.write().unwrap();
            let _inside = runtime.enter();
            let (monitor, listener) = listen(&config, vm);
            tasks.spawn_local(accept(monitor, listener));
            lock
        })
        .collect();
    runtime.block_on(tasks.run_until(async {
        ready();
        tokio::time::sleep(LIFE).await;
    }));
}

fn listen(config: &Config, vm: &VmName) -> (Rc<Monitor>, UnixListener) {
    let configured = config.vm(vm).unwrap();
    fs::create_dir_all(config.global.vm_dir(vm)).unwrap();
    let ctrl = config.global.ctrl(vm);
    let _ = fs::remove_file(&ctrl);
    let listener = UnixListener::bind(ctrl).unwrap();
    let monitor = Rc::new(Monitor {
        behaviour: configured.kernelargs.first().cloned().unwrap_or_default(),
        calls: config.global.vm_dir(vm).join("calls"),
        state: watch::Sender::new(VmState::Inactive),
    });
    (monitor, listener)
}

async fn accept(monitor: Rc<Monitor>, listener: UnixListener) {
    let mut silent = Vec::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        if monitor.behaviour == "mute" {
            silent.push(stream);
            continue;
        }
        let serve = serve::<Fake, _, _>(stream, Rc::clone(&monitor), (), Limits::new(65604));
        tokio::task::spawn_local(serve);
    }
}
