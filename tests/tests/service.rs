//! Tier root: the monitor as a service: the service manager is notified when it is ready, and it boots the VMs it
//! should.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // in functions beside the tests, too

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::process::{Child, Stdio};

use e2e::{PATIENCE, Vm, World, wait_for};
use rustix::process::{Pid, Signal, kill_process};

/// `umlmon -fg` of a VM, and the socket on which it tells that it is ready.
struct Service {
    monitor: Child,
    told: UnixDatagram,
}

impl Service {
    fn start(world: &World, vm: &Vm<'_>, options: &[&str]) -> Service {
        let socket = world.path().join("notify");
        // That of the last one, if there was one.
        let _ = fs::remove_file(&socket);
        let told = UnixDatagram::bind(&socket).unwrap();
        told.set_read_timeout(Some(PATIENCE)).unwrap();
        let words = [options, &[vm.name()]].concat();
        let monitor = world
            .command("umlmon", &words)
            .env("NOTIFY_SOCKET", &socket)
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Service { monitor, told }
    }

    /// Waits for the message, and returns the process that it names.
    fn ready(&self) -> u32 {
        let mut buffer = [0; 256];
        let length = self.told.recv(&mut buffer).unwrap();
        let message = std::str::from_utf8(&buffer[..length]).unwrap();
        let pid = message.strip_prefix("READY=1\nMAINPID=").unwrap();
        pid.trim_end().parse().unwrap()
    }

    /// Ends it as a service manager does.
    fn stop(mut self) {
        let pid = Pid::from_child(&self.monitor);
        kill_process(pid, Signal::TERM).unwrap();
        assert!(self.monitor.wait().unwrap().success());
    }
}

#[test]
fn a_service_manager_is_told_when_the_monitor_is_ready() {
    let Some(world) = World::new() else { return };
    let vm = world.vm("vm1").monitor();
    world.umladmin(&["stop"]).ok();
    let service = Service::start(&world, &vm, &["-fg"]);
    assert_eq!(service.ready(), service.monitor.id());
    // It answers at once, as what comes after it may need it.
    assert_eq!(vm.state(), "inactive");
    service.stop();

    // One that goes to the background tells who it is then.
    let mut service = Service::start(&world, &vm, &[]);
    let daemon = service.ready();
    assert_eq!(i64::from(daemon), i64::from(vm.monitor_pid()));
    assert_ne!(daemon, service.monitor.id());
    assert!(service.monitor.wait().unwrap().success());
}

#[test]
fn a_service_manager_that_is_gone_keeps_no_monitor_from_working() {
    let Some(world) = World::new() else { return };
    let vm = world.vm("vm1").configure();
    let started = e2e::run(
        world
            .command("umlmon", &[vm.name()])
            .env("NOTIFY_SOCKET", world.path().join("nobody")),
    );
    started.ok();
    assert_eq!(vm.state(), "inactive");
    let log = fs::read_to_string(vm.file("log/monitor")).unwrap();
    assert!(log.contains("cannot tell the service manager"), "{log}");
}

#[test]
fn a_monitor_boots_the_vms_that_shall_boot() {
    let Some(world) = World::new() else { return };
    let manual = world.vm("manual").monitor();
    let boot = world.vm("boot").line("start = boot").configure();
    world.umladmin(&["stop"]).ok();
    for (vm, state) in [(&manual, "inactive"), (&boot, "running")] {
        let service = Service::start(&world, vm, &["-fg", "-boot"]);
        service.ready();
        wait_for("the state that is configured", || {
            (vm.state() == state).then_some(())
        });
        service.stop();
    }
    // What cannot be booted can still be looked at.
    fs::remove_file(world.path().join("var/shared/kernels/fake_linux")).unwrap();
    let service = Service::start(&world, &boot, &["-fg", "-boot"]);
    service.ready();
    let log = wait_for("why it is not booted", || {
        let log = fs::read_to_string(boot.file("log/monitor")).ok()?;
        log.contains("the VM is not booted: ").then_some(log)
    });
    assert!(log.contains("fake_linux"), "{log}");
    assert_eq!(boot.state(), "inactive");
    service.stop();
}
