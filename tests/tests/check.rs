//! Tier process: umladmin check.

use std::fs::File;
use std::process::{Command, Stdio};

use e2e::{World, program, run, wait_for};

#[test]
fn everything_that_is_wrong_is_told_with_its_place() {
    let world = World::unprivileged();
    let file = world.path().join("faulty");
    let text = format!(
        "[GLOBAL]\nvardir = {0}/var\nrundir = {0}/run\ntcp = perhaps\npassword = secret\n\
         [vm1]\nvmuser = nobody\nmem = 64\nmen = 65\nkernel = /shared/kernels/missing\n\
         [vm2]\nvmuser = nobody\nmem = lots\n\
         [vm3]\nvmuser = nobody\nmem = 1048576\n",
        world.path().display()
    );
    std::fs::write(&file, text).unwrap();
    let name = file.display().to_string();
    let outcome = run(&mut world.command("umladmin", &["check", &name]));
    assert_eq!(outcome.status, Some(1), "{outcome:?}");
    for line in [
        ":4: tcp: ",
        ":5: everybody can read the password (mode 0644); chmod o-r ",
        ":9: there is no parameter \"men\" in the section of a VM; did you mean \"mem\"?",
        ":10: the kernel ",
        ":13: mem: ",
        ":15: vm3 and vm1 run as the same user nobody",
        ":16: vm3 is configured with 1048576 MB of memory",
    ] {
        assert!(
            outcome.stdout.contains(&format!("{name}{line}")),
            "{line}: {}",
            outcome.stdout
        );
    }
    assert!(!outcome.stdout.contains("secret"));
    let outcome = run(&mut world.command("umladmin", &["-json", "check", &name]));
    let found: serde_json::Value = serde_json::from_str(&outcome.stdout).unwrap();
    assert!(found.as_array().unwrap().len() >= 7);
    assert!(found[0]["note"] == false, "{found}");
    let outcome = run(&mut world.command("umladmin", &["check", "/nonexistent"]));
    assert!(outcome.fails(1).contains("/nonexistent"));
}

#[test]
fn what_is_as_the_administrator_may_want_it_is_a_note_and_no_fault() {
    let world = World::unprivileged();
    let file = world.path().join("sound");
    let directory = world.path().display();
    let text = format!("[GLOBAL]\nvardir = {directory}/var\nrundir = {directory}/run\n");
    let check = |more: &str, status| {
        std::fs::write(&file, format!("{text}{more}")).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(&file, mode).unwrap();
        let file = file.to_str().unwrap();
        let outcome = run(&mut world.command("umladmin", &["check", file]));
        assert_eq!(outcome.status, Some(status), "{outcome:?}");
        outcome.stdout
    };
    // Without a VM there is nothing else to be found, but who may change the file.
    let is_ours = rustix::process::geteuid().is_root();
    let ports = "umldir_port = 4711\ntcp = true\npassword = secret\n";
    let said = check(ports, i32::from(!is_ours));
    assert!(said.contains(": note: auth is any: "), "{said}");
    assert_eq!(said.ends_with("\nnothing is wrong\n"), is_ours, "{said}");
    assert!(!check(&format!("{ports}auth = strong\n"), i32::from(!is_ours)).contains("note: auth"));
}

/// A51, A53
#[test]
fn a_kernel_is_read_by_a_process_without_privileges() {
    // It is given a file without an end.
    let endless = File::open("/dev/zero").unwrap();
    let mut command = Command::new(program("umladmin"));
    command.args(["--look", "drivers", "zero"]).stdin(endless);
    let mut looker = command.stdout(Stdio::piped()).spawn().unwrap();
    let id = looker.id();
    let status = || std::fs::read_to_string(format!("/proc/{id}/status")).unwrap();
    wait_for("the filter of system calls", || {
        status().contains("\nSeccomp:\t2\n").then_some(())
    });
    let status = status();
    let is_root = rustix::process::geteuid().is_root();
    let uid = "\nUid:\t65534\t65534\t65534\t65534\n";
    let wanted = ["\nNoNewPrivs:\t1\n", "\nCapPrm:\t0000000000000000\n"];
    for line in wanted.iter().chain(is_root.then_some(&uid)) {
        assert!(status.contains(line), "{line}: {status}");
    }
    assert!(!is_root || status.contains("\nGroups:\t \n"), "{status}");
    looker.kill().unwrap();
    looker.wait().unwrap();
}

#[test]
fn a_kernel_in_a_closed_directory_can_be_checked() {
    let Some(world) = World::new() else { return };
    let closed = world.path().join("closed");
    std::fs::create_dir_all(closed.join("shared/kernels")).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    std::fs::set_permissions(&closed, mode).unwrap();
    let file = world.path().join("closed.conf");
    let check = || {
        let name = file.display().to_string();
        run(&mut world.command("umladmin", &["check", &name])).stdout
    };
    let text = format!(
        "[GLOBAL]\nvardir = {0}\nrundir = {0}/run\n\
         [vm1]\nvmuser = nobody\nmem = 64\nkernel = /shared/kernels/linux\n",
        closed.display()
    );
    std::fs::write(&file, text).unwrap();
    let kernel = closed.join("shared/kernels/linux");
    std::fs::copy("/bin/true", &kernel).unwrap();
    let said = check();
    assert!(!said.contains("the kernel"), "{said}");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::write(&kernel, "#!/bin/sh\n").unwrap();
    std::fs::set_permissions(&kernel, mode).unwrap();
    let said = check();
    assert!(
        said.contains("cannot be loaded: ") && said.contains("linux"),
        "{said}"
    );
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    std::fs::set_permissions(kernel.parent().unwrap(), mode).unwrap();
    let said = check();
    assert!(said.contains("kernels is writable by everybody"), "{said}");
}
