//! Tier real: umladmin kernelcheck.

#![allow(clippy::unwrap_used)] // in functions beside the tests, too

use std::fs;
use std::io::Read as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use e2e::{World, real_kernel, run, wait_for};
use rustix::process::{Pid, Signal, kill_process_group};

/// The directory in which a kernel is tried, if there is one.
fn site(world: &World) -> Option<PathBuf> {
    let made = fs::read_dir(world.path()).unwrap().flatten();
    let mut paths = made.map(|entry| entry.path());
    paths.find(|path| path.to_string_lossy().contains("umladmin-kernelcheck-"))
}

/// Whether a file of the site is there, as its monitor sees it, who has mounts of its own.
fn is_there(world: &World, file: &str) -> Option<()> {
    let site = site(world)?;
    let pid = fs::read_to_string(site.join("run/kernelcheck.pid")).ok()?;
    let root = PathBuf::from(format!("/proc/{}/root", pid.trim()));
    let seen = root.join(site.strip_prefix("/").ok()?).join(file);
    seen.exists().then_some(())
}

/// The verdicts on a kernel, by what was tried.
fn verdicts(world: &World, kernel: &Path, status: i32) -> serde_json::Value {
    let kernel = kernel.display().to_string();
    let mut command = world.command("umladmin", &["-json", "kernelcheck", &kernel]);
    let outcome = run(command.env("TMPDIR", world.path()));
    assert_eq!(outcome.status, Some(status), "{outcome:#?}");
    assert_eq!(site(world), None);
    serde_json::from_str(&outcome.stdout).unwrap()
}

#[test]
fn everything_that_a_vm_needs_works_with_a_real_kernel() {
    let Some(world) = World::with_real_kernel() else {
        return;
    };
    let found = verdicts(&world, &real_kernel(), 0);
    let results = found["results"].as_array().unwrap();
    for result in results {
        // What newer kernels survive, older ones need not; 6.1 panics in one of some hundred shutdowns.
        let may_panic = result["what"] == "reboot" || result["what"] == "ctrlaltdel";
        let may_lack =
            ["userspace seccomp", "cpus 2", "flush"].contains(&result["what"].as_str().unwrap());
        let is_free = result["what"] == "sysrq t"
            || (may_panic && result["verdict"] == "beware")
            || (may_lack && result["verdict"] == "lacks");
        assert!(is_free || result["verdict"] == "works", "{result}");
    }
    let of = |what: &str| {
        results
            .iter()
            .find(|result| result["what"] == what)
            .unwrap()
    };
    let boot = of("boot")["found"].as_str().unwrap();
    assert!(boot.ends_with(" s"), "{boot}");
    for what in ["userspace ptrace", "userspace seccomp", "cpus 2"] {
        let found = of(what)["found"].as_str().unwrap();
        let time = found.strip_prefix("a system call takes ");
        match time.and_then(|time| time.strip_suffix(" us")) {
            Some(time) => assert!(time.parse::<f64>().unwrap() > 0.0, "{found}"),
            None => assert_eq!(of(what)["verdict"], "lacks", "{found}"),
        }
    }
    let userspace = match of("userspace seccomp")["verdict"] == "works" {
        true => "seccomp",
        false => "ptrace",
    };
    assert_eq!(found["settings"]["userspace"], userspace);
    for what in [
        "con1",
        "window size",
        "cow",
        "notify",
        "network vec0",
        "suspend, continue",
        "least memory",
    ] {
        of(what);
    }
}

#[test]
fn whoever_interrupts_it_finds_nothing_left() {
    let Some(world) = World::with_real_kernel() else {
        return;
    };
    let kernel = real_kernel().display().to_string();
    for (signal, when) in [
        // The monitor is about to be ready, a kernel boots, and trials are made.
        (Signal::TERM, "run/kernelcheck.pid"),
        (Signal::INT, "var/kernelcheck/jail/disks/x.cow"),
        (Signal::HUP, "var/kernelcheck/jail/tmp/kernelcheck/mconsole"),
    ] {
        let mut command = world.command("umladmin", &["kernelcheck", &kernel]);
        command.env("TMPDIR", world.path()).process_group(0);
        let pipes = command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = pipes.spawn().unwrap();
        wait_for(when, || is_there(&world, when));
        // As the terminal does it.
        kill_process_group(Pid::from_child(&child), signal).unwrap();
        let status = wait_for("its end", || child.try_wait().unwrap());
        let mut said = String::new();
        let mut stderr = child.stderr.take().unwrap();
        stderr.read_to_string(&mut said).unwrap();
        assert_eq!(status.code(), Some(1), "{when}: {said}");
        let wanted = format!("umladmin: {kernel}: interrupted; everything was removed\n");
        assert_eq!(said, wanted, "{when}");
        assert_eq!(site(&world), None, "{when}");
    }
}

#[test]
fn nothing_is_left_of_one_that_is_killed() {
    let Some(world) = World::with_real_kernel() else {
        return;
    };
    let kernel = real_kernel().display().to_string();
    let mut command = world.command("umladmin", &["kernelcheck", &kernel]);
    let mut child = command.env("TMPDIR", world.path()).spawn().unwrap();
    let mconsole = "var/kernelcheck/jail/tmp/kernelcheck/mconsole";
    wait_for("a kernel", || is_there(&world, mconsole));
    child.kill().unwrap();
    child.wait().unwrap();
    wait_for("the end of its directory", || {
        site(&world).is_none().then_some(())
    });
}

/// Input I20.
#[test]
fn what_is_no_kernel_is_told() {
    let Some(world) = World::new() else { return };
    let script = world.path().join("script");
    fs::write(&script, "#!/bin/sh\n").unwrap();
    for (file, complaint) in [
        (
            Path::new("/bin/ls"),
            "/bin/ls is not a User Mode Linux kernel",
        ),
        (&script, "script is not a User Mode Linux kernel"),
        (
            Path::new("/nonexistent"),
            "cannot read /nonexistent: No such file",
        ),
        (world.path(), "is a directory, not a file"),
    ] {
        let found = verdicts(&world, file, 1);
        let results = found["results"].as_array().unwrap();
        assert_eq!(results.len(), 1, "{found}");
        assert!(found["settings"].is_null(), "{found}");
        let result = &results[0];
        let verdict = (&result["what"], &result["verdict"]);
        assert_eq!(verdict, (&"kernel".into(), &"fails".into()));
        let said = result["found"].as_str().unwrap();
        assert!(said.contains(complaint), "{said}");
    }
}
