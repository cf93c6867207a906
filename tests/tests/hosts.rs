//! Tier root: hosts that lack something; the ids are those of docs/TESTING.md. Each is a host of its own, with the real
//! paths.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // in functions beside the tests, too

use std::fs;
use std::path::Path;

use e2e::host::{Host, Scratch, cover, install};
use e2e::{Outcome, program, skip, wait_for};

const CONFIGURATION: &str = "[vm1]\nvmuser = nobody\nlogfile = monitor\nkernel = /shared/kernels/fake_linux\nmem = 64\n\
                             con0 = pty:con0\n";

/// A host with a VM, after `change` in a shell of it; None: this cannot be had here.
fn host(change: &str) -> Option<(Host, Scratch)> {
    if !rustix::process::geteuid().is_root() {
        skip("needs root");
        return None;
    }
    let scratch = cover();
    install();
    let kernels = Path::new("/var/lib/umlmon/shared/kernels");
    fs::create_dir_all(kernels).unwrap();
    fs::copy(program("fake_linux"), kernels.join("fake_linux")).unwrap();
    fs::write("/etc/umlmon", CONFIGURATION).unwrap();
    let host = Host::boot();
    shell(&host, change).ok();
    Some((host, scratch))
}

fn shell(host: &Host, script: &str) -> Outcome {
    host.run(&["sh", "-ec", script])
}

/// The VM starts and is shut down; what is said of the host is one line, about limits that need control groups.
fn works(host: &Host) {
    shell(host, "umlmon vm1 && umlwatch vm1 -start").ok();
    wait_for("the guest", || {
        let con0 = fs::read_to_string("/var/lib/umlmon/vm1/log/con0").ok()?;
        con0.contains("GUEST-READY").then_some(())
    });
    let list = shell(host, "umladmin list").ok();
    assert!(list.contains("running"), "{list}");
    let said = shell(host, "umladmin -timeout 10 stop").ok();
    assert!(said.contains("vm1: down"), "{said}");
    let log = fs::read_to_string("/var/lib/umlmon/vm1/log/monitor").unwrap();
    let said: Vec<_> = log
        .lines()
        .filter(|line| !line.contains(" INFO "))
        .collect();
    assert!(
        said.len() <= 1 && said.iter().all(|line| line.contains("pids_limit")),
        "{log}"
    );
}

/// F49
#[test]
fn hidden_processes_are_no_obstacle() {
    let Some((host, _scratch)) = host("mount -t proc -o hidepid=2 proc /proc") else {
        return;
    };
    works(&host);
}

/// F49
#[test]
fn neither_sys_nor_control_groups_are_needed() {
    let change = "mount -t tmpfs -o ro tmpfs /sys; ! [ -e /sys/fs ]";
    let Some((host, _scratch)) = host(change) else {
        return;
    };
    works(&host);
}

/// F49
#[test]
fn without_proc_it_is_said_what_is_missing() {
    let Some((host, _scratch)) = host("mount -t tmpfs tmpfs /proc") else {
        return;
    };
    let complaint = shell(&host, "umlmon vm1").fails(1);
    assert!(complaint.contains("/proc"), "{complaint}");
    assert!(!Path::new("/run/umlmon/vm1.pid").exists());
    assert!(!Path::new("/var/lib/umlmon/vm1/ctrl").exists());
    shell(&host, "umount /proc").ok();
    works(&host);
}

/// F49. Namespaces can only be so deep in each other, which has the same effect as a kernel that has none.
#[test]
fn without_pid_namespaces_it_is_said_what_is_missing() {
    let Some((host, _scratch)) = host("true") else {
        return;
    };
    // The child tries first, as the deepest one cannot know that it is.
    let deepest = "unshare --pid --fork true 2>/dev/null && exec unshare --pid --fork --kill-child sh -c \"$0\" \"$0\"\n\
        mount -t proc proc /proc\n\
        umlmon vm1 && umlwatch vm1 -start\n\
        umladmin list; umladmin stop";
    let said = host.run(&["sh", "-c", deepest, deepest]);
    assert!(
        said.stderr.contains("the host allows no more namespaces"),
        "{said:#?}"
    );
    // The monitor has gone on, and nothing is half done.
    assert!(said.stdout.contains("vm1  inactive"), "{said:#?}");
    assert!(said.stdout.contains("vm1: down"), "{said:#?}");
    // That of the deepest one, which is gone.
    shell(&host, "umount /proc").ok();
    works(&host);
}

/// F40
#[test]
fn a_user_who_is_gone_is_named() {
    let user = "echo 'anna:x:4711:4711::/nowhere:/bin/false' >> /etc/passwd; echo 'uml:x:4712:' >> /etc/group\n\
        sed -i -e 's/nobody/anna/' -e '$avmgroup = uml' /etc/umlmon";
    let Some((host, _scratch)) = host(user) else {
        return;
    };
    // A home is not needed.
    works(&host);
    shell(&host, "umlmon vm1; sed -i '/^anna:/d' /etc/passwd").ok();
    // A monitor that runs already may continue, and is stopped as usual.
    shell(&host, "umlwatch vm1 -start -kill").ok();
    shell(&host, "umladmin stop").ok();
    let complaint = shell(&host, "umlmon vm1").fails(1);
    assert!(
        complaint.contains("anna") && complaint.contains("vmuser"),
        "{complaint}"
    );
    let complaint = shell(
        &host,
        "umladmin start 2>&1 >/dev/null | head -n 1 >&2; exit 1",
    )
    .fails(1);
    assert!(complaint.contains("anna"), "{complaint}");

    shell(
        &host,
        "echo 'anna:x:4711:4711::/nowhere:/bin/false' >> /etc/passwd; sed -i '/^uml:/d' /etc/group",
    )
    .ok();
    let complaint = shell(&host, "umlmon vm1").fails(1);
    assert!(
        complaint.contains("uml") && complaint.contains("vmgroup"),
        "{complaint}"
    );
    assert!(!Path::new("/run/umlmon/vm1.pid").exists());
}
