//! Tier root: the init script with twenty VMs, on a host of its own with the real paths: from its boot to its shutdown,
//! and what is left when it is switched off without one.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // in functions beside the tests, too

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use e2e::host::{Host, cover, install};
use e2e::{Outcome, program, skip, wait_for};

/// VMs on the host.
const VMS: usize = 20;

/// How long a guest gets to shut down, in seconds.
const TIMEOUT: u64 = 3;

/// The section of a VM that boots with the host.
fn section(name: &str, hangs: bool) -> String {
    let mut text = format!(
        "[{name}]\nvmuser = nobody\nlogfile = monitor\nkernel = /shared/kernels/fake_linux\nmem = 64\n\
         con0 = pty:con0\nstart = boot\n"
    );
    if hangs {
        text.push_str("kernelarg = fake=hang-cad\n");
    }
    text
}

/// Configures these VMs; if some hang, these are those whose number ends in 0: they do not heed CTRL-ALT-DEL.
fn configure(numbers: impl Iterator<Item = usize>, some_hang: bool) {
    let mut text = String::from("[GLOBAL]\n");
    for n in numbers {
        let _ = write!(
            text,
            "\n{}",
            section(&format!("vm{n}"), some_hang && n % 10 == 0)
        );
    }
    fs::write("/etc/umlmon", text).unwrap();
}

fn script(host: &Host, word: &str) -> Outcome {
    host.run(&["/etc/init.d/umlmon", word])
}

/// The state of each VM, and the process of its monitor.
fn list(host: &Host) -> BTreeMap<String, (String, Option<u64>)> {
    let said = host.run(&["/usr/local/sbin/umladmin", "list", "-json"]);
    let vms: serde_json::Value = serde_json::from_str(&said.stdout).unwrap();
    let vms = vms.as_array().unwrap().iter();
    vms.map(|vm| {
        let name = vm["vm"].as_str().unwrap().to_owned();
        let state = vm["state"].as_str().unwrap().to_owned();
        (name, (state, vm["monitor_pid"].as_u64()))
    })
    .collect()
}

/// Waits until all VMs are in this state.
#[track_caller]
fn wait_for_all(host: &Host, state: &str, vms: usize) {
    wait_for(&format!("{vms} VMs {state}"), || {
        let all = list(host);
        let found = all.values().filter(|(is, _)| is == state).count();
        (found == vms && all.len() == vms).then_some(())
    });
}

/// Nothing is there that has to do with us.
#[track_caller]
fn nothing_left(host: &Host) {
    let processes = host.run(&["ps", "-eo", "comm"]).ok();
    let ours = processes
        .lines()
        .filter(|name| name.starts_with("uml") || name.contains("linux"));
    assert_eq!(ours.count(), 0, "{processes}");
    let mounts = host.run(&["cat", "/proc/self/mountinfo"]).ok();
    assert!(!mounts.contains("/var/lib/umlmon"), "{mounts}");
    let left: Vec<_> = fs::read_dir("/run/umlmon").unwrap().flatten().collect();
    assert!(left.is_empty(), "{left:?}");
    for n in 1..=VMS {
        assert!(!Path::new(&format!("/var/lib/umlmon/vm{n}/ctrl")).exists());
    }
}

#[test]
fn twenty_vms_come_and_go_with_their_host() {
    if !rustix::process::geteuid().is_root() {
        return skip("needs root");
    }
    let _scratch = cover();
    install();
    let kernels = Path::new("/var/lib/umlmon/shared/kernels");
    fs::create_dir_all(kernels).unwrap();
    fs::copy(program("fake_linux"), kernels.join("fake_linux")).unwrap();
    fs::create_dir_all("/etc/default").unwrap();
    fs::write(
        "/etc/default/umlmon",
        format!("OPTIONS=\"-timeout {TIMEOUT}\"\n"),
    )
    .unwrap();

    let host = Host::boot();
    let said = script(&host, "start");
    assert_eq!(
        said.status,
        Some(0),
        "nothing to do is no failure: {said:#?}"
    );
    configure(1..=VMS, false);
    assert_eq!(script(&host, "status").status, Some(3));
    starts(&host);
    follows_the_configuration(&host);
    stops(&host);
    host.switch_off();
    is_switched_off();
}

fn starts(host: &Host) {
    let said = script(host, "start");
    assert_eq!(said.status, Some(0), "{said:#?}");
    assert!(
        said.stdout.contains("directory service: umldir"),
        "{said:#?}"
    );
    assert_eq!(said.stdout.matches(": booting").count(), VMS, "{said:#?}");
    wait_for_all(host, "running", VMS);
    assert_eq!(script(host, "status").status, Some(0));
    let before = list(host);
    let said = script(host, "start");
    assert_eq!(
        (said.status, said.stderr.as_str()),
        (Some(0), ""),
        "a second one"
    );
    assert!(
        !said.stdout.contains("umldir"),
        "it runs already: {said:#?}"
    );
    assert_eq!(list(host), before);
}

fn follows_the_configuration(host: &Host) {
    let before = list(host);
    configure((2..=VMS).chain([VMS + 1]), false);
    let said = script(host, "reload").ok();
    assert!(
        said.contains("vm1: down") && said.contains("vm21: booting"),
        "{said}"
    );
    wait_for_all(host, "running", VMS);
    let after = list(host);
    for n in 2..=VMS {
        let vm = format!("vm{n}");
        assert_eq!(before[&vm], after[&vm], "{vm} was not to be touched");
    }

    // A line that cannot be parsed changes nothing, and does not prevent a start.
    let good = fs::read_to_string("/etc/umlmon").unwrap();
    fs::write("/etc/umlmon", format!("{good}mem = lots\n")).unwrap();
    let said = script(host, "reload");
    assert_eq!(said.status, Some(1), "{said:#?}");
    assert!(said.stderr.contains("/etc/umlmon:"), "{said:#?}");
    fs::write("/etc/umlmon", good).unwrap();
    assert_eq!(list(host), after);

    configure(1..=VMS, true);
    script(host, "reload").ok();
    let before = list(host);
    let said = script(host, "restart");
    assert_eq!(said.status, Some(0), "{said:#?}");
    wait_for_all(host, "running", VMS);
    let after = list(host);
    assert!(
        before.iter().all(|(vm, (_, pid))| after[vm].1 != *pid),
        "{after:?}"
    );
}

/// Two of the VMs do not heed CTRL-ALT-DEL; that they wait at the same time is what counts.
fn stops(host: &Host) {
    let begun = Instant::now();
    let said = script(host, "stop");
    let taken = begun.elapsed();
    assert_eq!(said.status, Some(0), "{said:#?}");
    assert_eq!(
        said.stdout.matches(": down after").count(),
        VMS,
        "{said:#?}"
    );
    for hung in ["vm10", "vm20"] {
        let line = said
            .stdout
            .lines()
            .find(|line| line.starts_with(&format!("{hung}: down")));
        assert!(line.is_some_and(|line| line.contains("halt")), "{said:#?}");
    }
    let patience = Duration::from_secs(TIMEOUT);
    // Each of them waits for its timeout, and ten seconds at most for what it has to write.
    assert!(
        taken >= patience && taken < 2 * patience + Duration::from_secs(10),
        "{taken:?}"
    );
    nothing_left(host);
    assert_eq!(script(host, "status").status, Some(3));
    let said = script(host, "stop");
    assert_eq!(said.status, Some(0), "a second one: {said:#?}");
}

/// Everything is stale then: pid files with numbers that are those of others after the boot, sockets, locks.
fn is_switched_off() {
    configure(1..=VMS, false);
    let host = Host::boot();
    script(&host, "start");
    wait_for_all(&host, "running", VMS);
    host.switch_off();
    assert!(
        Path::new("/run/umlmon/vm1.pid").exists() && Path::new("/var/lib/umlmon/vm1/ctrl").exists()
    );
    assert!(Path::new("/run/umlmon/directory.pid").exists());

    let host = Host::boot();
    assert_eq!(script(&host, "status").status, Some(3));
    let said = script(&host, "stop");
    assert_eq!(
        (said.status, said.stderr.as_str()),
        (Some(0), ""),
        "{said:#?}"
    );
    let said = script(&host, "start");
    assert_eq!(said.status, Some(0), "{said:#?}");
    wait_for_all(&host, "running", VMS);
    let said = script(&host, "stop");
    assert_eq!(said.status, Some(0), "{said:#?}");
    nothing_left(&host);
    host.switch_off();
}
