//! Monitors without kernels (crate `fake-monitor`) where umladmin looks for them: each holds its pid file and listens
//! on its socket. How its VM behaves is the first `kernelarg` of its configuration; what it is asked it appends to the
//! file `calls` in the VM's directory.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use config::{Config, VmName};
use daemon::PidFile;
use fake_monitor::{Manner, Service};
use rpc_xdr::umlmonctrl::VmState;
use tokio::net::UnixListener;

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
    runtime.block_on(tasks.run_until(async {
        ready();
        tokio::time::sleep(LIFE).await;
    }));
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
