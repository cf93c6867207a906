//! Tier real: files that are copied into a guest and out of it by its helper, umlguest.

#![allow(clippy::unwrap_used)] // in functions beside the tests, too

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;
use std::process::{Command, Stdio};

use e2e::other_host::{HERE, OtherHost};
use e2e::{Directory, Login, Vm, World, run, wait_for};
use rustix::process::{Pid, Signal, kill_process};

fn guest(world: &World) -> Vm<'_> {
    let vm = world.vm("vm1").con(1).guest(Login::Password).monitor();
    vm.umlwatch(&["-start"]).ok();
    vm
}

/// All that a copy keeps, of everything below a directory.
fn listing(root: &Path) -> String {
    let script = "find . -type d -printf '%P %m %T@\n' -o -printf '%P %y %m %s %T@ %l\n' | sort; \
                  find . -type f -print0 | sort -z | xargs -0 sha256sum";
    let found = Command::new("sh")
        .args(["-c", script])
        .current_dir(root)
        .output();
    String::from_utf8(found.unwrap().stdout).unwrap()
}

fn tree(root: &Path) {
    fs::create_dir_all(root.join("a/b/closed")).unwrap();
    let write = |name: &str, mode, text: &[u8]| {
        fs::write(root.join(name), text).unwrap();
        fs::set_permissions(root.join(name), Permissions::from_mode(mode)).unwrap();
    };
    write("a/program", 0o755, b"#!/bin/sh\n");
    write("a/b/closed/read only", 0o400, &e2e::flood(300_000));
    write("empty", 0o600, b"");
    symlink("../nowhere", root.join("a/link")).unwrap();
    symlink("/etc/passwd", root.join("a/absolute")).unwrap();
    let sparse = File::create(root.join("sparse")).unwrap();
    sparse.set_len(80 << 20).unwrap();
    sparse.write_all_at(b"data", 60 << 20).unwrap();
    fs::set_permissions(root.join("a/b/closed"), Permissions::from_mode(0o500)).unwrap();
}

#[test]
fn a_tree_is_the_same_after_it_was_in_the_guest() {
    let Some(world) = World::with_real_kernel() else {
        return;
    };
    let vm = guest(&world);
    let files = tempfile::tempdir().unwrap();
    let path = |name: &str| files.path().join(name).to_str().unwrap().to_owned();
    tree(&files.path().join("tree"));
    vm.umlwatch(&["-push", &path("tree"), "/root"]).ok();
    vm.umlwatch(&["-pull", "/root/tree", &path("back")]).ok();
    assert_eq!(
        listing(&files.path().join("back")),
        listing(&files.path().join("tree"))
    );
    let sparse = files.path().join("back/sparse").metadata().unwrap();
    assert!(sparse.blocks() < 1000, "it has no holes");
    // Single files, and names that are given.
    vm.umlwatch(&["-push", &path("tree/a/program"), "/tmp/p"])
        .ok();
    let there = vm
        .umlwatch(&["-exec", "stat -c %a /tmp/p; du -k /root/tree/sparse"])
        .ok();
    assert!(there.starts_with("755\n"), "{there}");
    let kilobytes: u64 = there
        .lines()
        .nth(1)
        .unwrap()
        .split('\t')
        .next()
        .unwrap()
        .parse()
        .unwrap();
    assert!(kilobytes < 100, "{there}");
    vm.umlwatch(&["-pull", "/proc/version", files.path().to_str().unwrap()])
        .ok();
    assert!(
        fs::read_to_string(path("version"))
            .unwrap()
            .starts_with("Linux version")
    );
    mistakes_are_told(&vm);
}

#[test]
fn files_are_copied_from_another_host() {
    const PORTS: &str = "umldir_port = 8871\numlredir_port = 8872";
    let Some(world) = World::with_real_kernel() else {
        return;
    };
    let Some(other) = OtherHost::connected() else {
        return;
    };
    world.global(PORTS);
    world.global("tcp_redir = true");
    let _directory = Directory::start(&world);
    let vm = world.vm("vm1").con(1).guest(Login::Password);
    let vm = vm.line("password = secret").monitor();
    vm.umlwatch(&["-start"]).ok();
    let password = world.secret_file("password", "secret");
    let vm1 = format!("vm1@{HERE}");
    let far = |words: &[&str]| {
        let all = [&["-password-file", password.to_str().unwrap(), &vm1], words].concat();
        run(&mut other.umlwatch(&world, PORTS, &all))
    };
    wait_for("the registration", || {
        (far(&["-info"]).status == Some(0)).then_some(())
    });
    let files = tempfile::tempdir().unwrap();
    let path = |name: &str| files.path().join(name).to_str().unwrap().to_owned();
    fs::write(path("there"), e2e::flood(500_000)).unwrap();
    far(&["-push", &path("there"), "/tmp/x"]).ok();
    far(&["-pull", "/tmp/x", &path("back")]).ok();
    assert!(fs::read(path("back")).unwrap() == fs::read(path("there")).unwrap());
}

fn mistakes_are_told(vm: &Vm<'_>) {
    for (words, says) in [
        (
            ["-push", "/nonexistent", "/tmp"],
            "vm1: cannot copy into the guest: cannot read /nonexistent",
        ),
        (
            ["-push", "/etc/hostname", "/no/where"],
            "the guest says: cannot open /no: No such file",
        ),
        (
            ["-pull", "/nonexistent", "/tmp"],
            "the guest says: cannot open /nonexistent: No such file",
        ),
        (
            ["-pull", "/etc", "/no/where"],
            "vm1: cannot copy out of the guest: cannot open /no",
        ),
        (
            ["-pull", "/dev/null", "/tmp"],
            "the guest says: /dev/null: it is neither a file nor a directory",
        ),
    ] {
        let outcome = vm.umlwatch(&words);
        assert_eq!(outcome.status, Some(1), "{outcome:#?}");
        assert!(outcome.stderr.contains(says), "{outcome:#?}");
    }
}

#[test]
fn a_copy_that_is_broken_off_leaves_nothing() {
    let Some(world) = World::with_real_kernel() else {
        return;
    };
    let vm = guest(&world);
    let files = tempfile::tempdir().unwrap();
    let (source, here) = (files.path().join("large"), files.path().join("here"));
    File::create(&source)
        .unwrap()
        .write_all_at(&e2e::flood(24 << 20), 0)
        .unwrap();
    fs::create_dir(&here).unwrap();
    let begin = |words: [&str; 3]| {
        let mut command = vm.command(&words);
        command
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    };
    // The helper is up then, so the copies take longer than to look at them.
    let fill = "mount -t tmpfs none /mnt && head -c 8000000 /dev/urandom > /large";
    vm.umlwatch(&["-exec", fill]).ok();
    let in_guest = || vm.umlwatch(&["-exec", "ls -A /mnt"]).ok();
    let push = begin(["-push", source.to_str().unwrap(), "/mnt/large"]);
    wait_for("the copy", || in_guest().contains(".part").then_some(()));
    kill_process(Pid::from_child(&push), Signal::INT).unwrap();
    let said = push.wait_with_output().unwrap();
    assert_eq!(
        String::from_utf8_lossy(&said.stderr),
        "umlwatch: vm1: cannot copy into the guest: cancelled, and undone\n"
    );
    wait_for("the guest to remove it", || {
        in_guest().is_empty().then_some(())
    });

    let begun = || fs::read_dir(&here).unwrap().count() > 0;
    let pull = begin(["-pull", "/large", here.to_str().unwrap()]);
    wait_for("the copy", || begun().then_some(()));
    vm.umlwatch(&["-kill"]).ok();
    let said = pull.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&said.stderr);
    assert!(
        said.contains("vm1: cannot copy out of the guest: "),
        "{said}"
    );
    assert!(!begun(), "something is left");
}
