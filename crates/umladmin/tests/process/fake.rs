//! Monitors without kernels (crate `fake-monitor`) where umladmin looks for them: each holds its pid file and listens
//! on its socket. How its VM behaves is the first `kernelarg` of its configuration; what it is asked it appends to the
//! file `calls` in the VM's directory.

use std::fs;
use std::io::Write;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use config::{Config, VmName};
use daemon::PidFile;
use fake_monitor::{Manner, Service};
use rpc_xdr::umlmonctrl::VmState;
use signal_hook::consts::SIGUSR2;
use tokio::net::UnixListener;

/// In the environment of a fake that goes on in the process of another one.
pub const AGAIN: &str = "UMLADMIN_FAKE_AGAIN";

/// No fake outlives its test by more than this.
const LIFE: Duration = Duration::from_secs(120);

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
            let (service, listener) = listen(&config, vm);
            tasks.spawn_local(service.serve(listener));
            lock
        })
        .collect();
    let upgrade = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register(SIGUSR2, Arc::clone(&upgrade)).unwrap();
    let wanted = runtime.block_on(tasks.run_until(async {
        ready();
        let until = Instant::now() + LIFE;
        while Instant::now() < until && !upgrade.load(Ordering::SeqCst) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        upgrade.load(Ordering::SeqCst)
    }));
    if wanted {
        go_on_with_the_program_on_the_disk();
    }
}

/// As the real one: in the same process, with locks and sockets anew.
fn go_on_with_the_program_on_the_disk() {
    let program = std::env::current_exe().unwrap();
    let program = program.to_str().unwrap().trim_end_matches(" (deleted)");
    let error = Command::new(program)
        .args(std::env::args_os().skip(1))
        .env(AGAIN, "")
        .exec();
    panic!("{program}: {error}");
}

fn listen(config: &Config, vm: &VmName) -> (Rc<Service>, UnixListener) {
    let configured = config.vm(vm).unwrap();
    let directory = config.global.vm_dir(vm);
    fs::create_dir_all(&directory).unwrap();
    let ctrl = config.global.ctrl(vm);
    let _ = fs::remove_file(&ctrl);
    let listener = UnixListener::bind(ctrl).unwrap();
    let manner = configured.kernelargs.first();
    let manner = manner.and_then(|name| Manner::named(name)).unwrap();
    let note = move |call: String| {
        let file = fs::File::options()
            .append(true)
            .create(true)
            .open(directory.join("calls"));
        writeln!(file.unwrap(), "{call}").unwrap();
    };
    let service = Service::new(manner, VmState::Inactive, Vec::new(), note);
    (Rc::new(service), listener)
}
