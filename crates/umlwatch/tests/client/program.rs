//! The crate `client` as a program of somebody else uses it, and paths that are longer than a socket address.

use cli::Exit;
use client::{Client, Options};
use rpc_xdr::umlmonctrl::{VmEnd, VmState};

use crate::installation::configuration;
use crate::monitor::Monitor;

#[test]
fn a_program_commands_a_vm() {
    let monitor = Monitor::start("");
    let config = monitor.config();
    let mut client = Client::new("vm1", Some(&config), Options::default()).unwrap();
    assert_eq!(client.vm().as_str(), "vm1");
    assert_eq!(client.info().unwrap().state, VmState::Running);
    assert!(!client.wait(1).unwrap().inactive);
    // What has no method of its own.
    let halted = client.call(|monitor| Ok(monitor.vm_halt()?.into_result()));
    assert_eq!(halted, Ok(()));
    let waited = client.wait(8).unwrap();
    assert!(waited.inactive);
    assert_eq!(waited.last_end.how, VmEnd::Panicked);
    client.start(&[b"single".to_vec()]).unwrap();
    let refused = client.start(&[]).unwrap_err();
    assert_eq!(refused.exit, Exit::Failed);
    assert!(refused.message.contains("already"), "{refused}");
    for call in ["info", "wait 1", "halt", "wait 8", "start single", "start"] {
        assert_eq!(monitor.calls.try_recv().as_deref(), Ok(call));
    }
    drop(monitor);
    let gone = client.info().unwrap_err();
    assert_eq!(gone.exit, Exit::NotRunning, "{gone}");
}

#[test]
fn a_vm_without_a_monitor_is_told_from_none() {
    let dir = configuration();
    let config = dir.path().join("umlmon");
    for (vm, exit) in [("vm1", Exit::NotRunning), ("vm2", Exit::Failed)] {
        let mut client = Client::new(vm, Some(&config), Options::default()).unwrap();
        let failure = client.info().unwrap_err();
        assert_eq!(failure.exit, exit, "{failure}");
    }
}

#[test]
fn a_vardir_may_be_longer_than_a_socket_address() {
    let monitor = Monitor::with_vardir(&"d".repeat(125));
    let output = monitor.run(&["-info", "vm1"]);
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    assert!(String::from_utf8_lossy(&output.stdout).starts_with("vm1 is running"));
}
