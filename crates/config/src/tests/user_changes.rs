//! Tests of user changes: merging, protection, and the file.

use std::path::Path;

use super::*;

#[test]
fn user_changes_override() {
    let config = config(&format!(
        "{MINIMAL}con0 = pty:con0\nkernelarg = a\nmem_limit = 128\n"
    ));
    let user = changes("mem = 128\ncon1 = pty\nkernelarg = b\n").unwrap();
    let vm = config.vm_with(&name("vm1"), &user).unwrap();
    assert_eq!(
        (vm.mem, vm.kernelargs.as_slice()),
        (128, ["a".to_owned(), "b".to_owned()].as_slice())
    );
    let settings = vm.settings();
    let shown: Vec<_> = settings
        .iter()
        .map(|s| (s.param.as_str(), s.value.as_str(), s.origin))
        .collect();
    let want = [
        ("vmuser", "nobody", Origin::Main),
        ("jaildir", "/var/lib/umlmon/vm1/jail", Origin::Default),
        ("logdir", "/var/lib/umlmon/vm1/log", Origin::Default),
        ("kernelarg", "a", Origin::Main),
        ("kernelarg", "b", Origin::User),
        ("mem", "128", Origin::User),
        ("mem_limit", "128", Origin::Main),
        ("memory", "fixed", Origin::Default),
        ("con0", "pty:con0", Origin::Main),
        ("con1", "pty", Origin::User),
        ("history", "256", Origin::Default),
        ("log_limit", "100", Origin::Default),
        ("log_quota", "4096", Origin::Default),
        ("log_timestamps", "false", Origin::Default),
        ("sync_disks", "auto", Origin::Default),
        ("transport", "auto", Origin::Default),
        ("pids_limit", "1000", Origin::Default),
        ("overhead_limit", "512", Origin::Default),
        ("cpu_limit", "0", Origin::Default),
        ("userspace", "ptrace", Origin::Default),
        ("cpus", "1", Origin::Default),
        ("affinity", "auto", Origin::Default),
        ("start", "manual", Origin::Default),
        ("boot_order", "0", Origin::Default),
        ("boot_delay", "0", Origin::Default),
    ];
    assert_eq!(shown, want);

    let user = changes("\nmem = 129").unwrap();
    let e = config.vm_with(&name("vm1"), &user).unwrap_err().to_string();
    assert_eq!(
        e,
        "mem = 129 (user:3) is more than mem_limit = 128 (umlmon:6)"
    );
}

#[test]
fn hand_made_user_files_are_checked() {
    let problem = |lines: &str| changes(lines).expect_err(lines).to_string();
    assert_eq!(
        problem("vmuser = root"),
        "user:2: vmuser is protected: only the administrator can set it, in the main configuration file"
    );
    assert!(
        problem("kernelarg = ubd1=/x")
            .starts_with("user:2: kernelarg: the kernel argument \"ubd1=/x\" is reserved")
    );
    assert!(problem("mem = x").starts_with("user:2: mem: "));
    assert!(problem("vardir = /x").starts_with("user:2: there is no parameter"));
    assert_eq!(
        problem("mem = 1\n[vm2]\nvmuser = root"),
        "user:3: user changes have one section only"
    );
    let other = UserChanges::parse("[vm2]\nmem = 1", Path::new("user")).unwrap();
    let e = config(MINIMAL)
        .vm_with(&name("vm1"), &other)
        .unwrap_err()
        .to_string();
    assert_eq!(
        e,
        "user:1: [vm2] is not [vm1], whose user changes should be here"
    );
}

/// A VM with a limit and a log.
fn limited() -> Config {
    config(&format!("{MINIMAL}mem_limit = 128\nlogfile = monitor\n"))
}

#[test]
fn users_do_not_set_what_they_may_not() {
    let config = limited();
    let vm = name("vm1");
    let mut user = UserChanges::default();
    let refused = [
        ("vmuser", "root"),
        ("eth0", "tuntap"),
        ("mem_limit", "999"),
        ("VMUSER", "x"),
        ("eth00", "x"),
        ("mem", "129"),
        ("mem", "x"),
        ("mem", ""),
        ("mem", "1\n[vm2]\nvmuser = root"),
        ("kernelarg", "x\0"),
        ("kernelarg", "hostfs=/"),
        ("con1", "pty:monitor"),
        ("password", ""),
        ("password", " x"),
        ("password", "x\r"),
        ("tcp", "true"),
        ("kernelarg", "a b"),
        ("kernelarg", "x\ty"),
        ("kernelarg", "x\n"),
    ];
    for (param, value) in refused {
        user.set(&config, &vm, param, value)
            .expect_err(&format!("{param}={value}"));
        assert_eq!(
            config.vm_with(&vm, &user).unwrap(),
            config.vm_with(&vm, &UserChanges::default()).unwrap()
        );
    }
}

#[test]
fn users_set_and_delete_what_they_may() {
    let config = limited();
    let vm = name("vm1");
    let mut user = UserChanges::default();
    for (param, value) in [
        ("mem", "100"),
        ("mem", " 128 "),
        ("kernelarg", "single"),
        ("kernelarg", "debug"),
    ] {
        user.set(&config, &vm, param, value).unwrap();
    }
    let now = config.vm_with(&vm, &user).unwrap();
    assert_eq!((now.mem, now.kernelargs.len()), (128, 2));

    user.del(&config, &vm, "kernelarg").unwrap();
    assert!(config.vm_with(&vm, &user).unwrap().kernelargs.is_empty());
    let mut not_there = |param: &str| user.del(&config, &vm, param).unwrap_err().to_string();
    assert_eq!(
        not_there("kernelarg"),
        "kernelarg is not a user change: it is not set"
    );
    assert_eq!(
        not_there("logfile"),
        "logfile is not a user change: the administrator has set it in umlmon:5"
    );
    assert_eq!(
        not_there("start"),
        "start is not a user change: it has its default value"
    );
    assert!(
        not_there("mem_limit").contains("protected")
            && not_there("nem").contains("did you mean \"mem\"")
    );
    user.del(&config, &vm, "mem").unwrap();
    assert_eq!(
        config.vm_with(&vm, &user).unwrap(),
        config.vm_with(&vm, &UserChanges::default()).unwrap()
    );
}

#[test]
fn del_does_not_break_a_vm() {
    let config = config("[vm1]\nvmuser = nobody\n");
    let vm = name("vm1");
    let mut user = UserChanges::default();
    user.set(&config, &vm, "mem", "64").unwrap();
    let e = user.del(&config, &vm, "mem").unwrap_err().to_string();
    assert_eq!(e, "umlmon:1: [vm1]: the required parameter mem is missing");
    assert_eq!(config.vm_with(&vm, &user).unwrap().mem, 64);
}

#[test]
fn user_changes_are_saved_atomically_and_privately() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let vardir = dir.path().display();
    let config = config(&format!("[GLOBAL]\nvardir = {vardir}\n{MINIMAL}"));
    let vm = name("vm1");
    let file = config.global.user_file(&vm);
    assert_eq!(config.vm(&vm).unwrap().mem, 64);

    let mut user = UserChanges::default();
    user.set(&config, &vm, "password", "abc").unwrap();
    user.set(&config, &vm, "kernelarg", "a#;\\").unwrap();
    user.set(&config, &vm, "mem", "32").unwrap();
    let e = user.save(&file).unwrap_err().to_string();
    assert!(
        e.starts_with(&format!("cannot save {}: No such file", file.display())),
        "{e}"
    );

    std::fs::create_dir(config.global.vm_dir(&vm)).unwrap();
    let secret = dir.path().join("secret");
    std::fs::write(&secret, "x").unwrap();
    std::os::unix::fs::symlink(&secret, file.with_file_name(".config.new")).unwrap();
    user.save(&file).unwrap();
    assert_eq!(std::fs::read(&secret).unwrap(), b"x");
    assert_eq!(
        file.metadata().unwrap().permissions().mode() & 0o7777,
        0o600
    );
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(
        text.contains("password = 900150983cd24fb0d6963f7d28e17f72\n") && !text.contains("abc"),
        "{text}"
    );

    let read = config.vm(&vm).unwrap();
    assert_eq!(read, config.vm_with(&vm, &user).unwrap());
    assert_eq!(
        (read.password, read.mem),
        (Some(Password::from_clear("abc").unwrap()), 32)
    );
    assert_eq!(read.kernelargs, ["a#;\\"]);
    assert_eq!(
        std::fs::read_dir(config.global.vm_dir(&vm))
            .unwrap()
            .count(),
        1
    );

    // If all changes have been removed again, the file has no changes.
    for param in ["password", "kernelarg", "mem"] {
        user.del(&config, &vm, param).unwrap();
    }
    user.save(&file).unwrap();
    assert_eq!(config.vm(&vm).unwrap().mem, 64);
}
