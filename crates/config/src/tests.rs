//! Tests of the crate as a whole: here the main configuration file with the examples of the manual; then user changes,
//! printing, changes of the text, templates, and the two documents that must agree with the table.

mod changing;
mod documents;
mod printing;
mod templates;
mod user_changes;

use std::path::Path;
use std::str::FromStr;

use crate::*;

/// The example of umlmon(5).
const FOO: &str = "[foo]
vmuser = foo_user
logfile = monitor
start = manual
kernel = /shared/kernels/linux
mem = 64
ubd0 = /disks/root.dsk
con0 = pty:con0
con1 = pty
";

/// The first configuration of umlmon(7).
const GETTING_STARTED: &str = "[GLOBAL]

[vm1]
vmuser = nobody
logfile = monitor
start = manual
kernel = /shared/kernels/linux
mem = 64
ubd0 = /disks/root.dsk
con0 = pty:con0
con1 = pty
con2 = pty
con3 = pty
con4 = pty
";

const MINIMAL: &str = "[vm1]\nvmuser = nobody\nmem = 64\n";

fn config(text: &str) -> Config {
    Config::parse(text, Path::new("umlmon")).unwrap()
}

fn name(text: &str) -> VmName {
    text.parse().unwrap()
}

fn vm_of(text: &str) -> Vm {
    let config = config(text);
    let first = config.vm_names().next().unwrap();
    config.vm_with(first, &UserChanges::default()).unwrap()
}

/// Why this text is no value of the type `T`.
pub(crate) fn refusal<T: FromStr<Err = Error>>(text: &str) -> String {
    match text.parse::<T>() {
        Ok(_) => panic!("{text:?} should be refused"),
        Err(error) => error.to_string(),
    }
}

/// The fault of a VM section with these further lines; the first of them is line 4.
fn problem(lines: &str) -> String {
    let text = format!("{MINIMAL}{lines}");
    let vm = Config::parse(&text, Path::new("umlmon"))
        .and_then(|c| c.vm_with(&name("vm1"), &UserChanges::default()));
    vm.expect_err(lines).to_string()
}

fn global_problem(lines: &str) -> String {
    Config::parse(
        &format!("[GLOBAL]\n{lines}\n{MINIMAL}"),
        Path::new("umlmon"),
    )
    .expect_err(lines)
    .to_string()
}

fn changes(lines: &str) -> Result<UserChanges> {
    UserChanges::parse(&format!("[vm1]\n{lines}"), Path::new("user"))
}

#[test]
fn the_examples_of_the_manual() {
    let vm = vm_of(FOO);
    assert_eq!(
        (vm.name.as_str(), vm.vmuser.as_str(), vm.mem),
        ("foo", "foo_user", 64)
    );
    assert_eq!(
        vm.kernel.as_ref().unwrap().as_str(),
        "/shared/kernels/linux"
    );
    assert_eq!(vm.ubd[&0].to_string(), "/disks/root.dsk");
    assert_eq!(
        (
            vm.con[&0].to_string().as_str(),
            vm.con[&1].to_string().as_str()
        ),
        ("pty:con0", "pty")
    );
    assert_eq!(vm.jaildir, Path::new("/var/lib/umlmon/foo/jail"));
    assert_eq!(vm.logdir, Path::new("/var/lib/umlmon/foo/log"));
    assert!(
        vm.sync_disks == SyncDisks::Auto && vm.start == StartType::Manual && vm.password.is_none()
    );

    assert_eq!(vm_of(GETTING_STARTED).con.len(), 5);

    let nics =
        "eth0 = host_to_host(proxy_if=proxy1, proxy_addr=192.168.2.1, guest_addr=192.168.2.2)
        eth1 = bridged(bridge_if=br0,
        proxy_if=proxy2,
        proxy_hwaddr=0A:12:BC:AF:32:01,
        guest_hwaddr=pool)";
    assert_eq!(vm_of(&format!("{FOO}{nics}")).eth.len(), 2);
}

#[test]
fn one_interface_without_a_network_of_the_host() {
    let refused = |lines: &str| {
        let config = config(&format!("{FOO}{lines}"));
        config.vm(&name("foo")).unwrap_err().to_string()
    };
    let twice = refused("eth0 = user()\neth1 = user(forward=2222:22)");
    assert!(twice.contains("of which a VM can have one"), "{twice}");
    let text = refused("eth0 = user()\neth1 = tuntap,tap0");
    assert!(
        text.contains("eth0 = user()") && text.contains("that of the host"),
        "{text}"
    );
}

#[test]
fn an_interface_of_a_namespace_is_of_one_vm_interface_and_inherited() {
    let of = |lines: &str| config(&format!("{FOO}{lines}")).vm(&name("foo"));
    let netns = |n: u8, interface| format!("eth{n} = netns(path=/run/netns/a,if={interface})\n");
    let two = format!("{}{}", netns(0, "eth0"), netns(1, "net1"));
    assert_eq!(of(&two).unwrap().eth.len(), 2);
    let same = format!("{}{}", netns(0, "eth0"), netns(1, "eth0"));
    let same = of(&same).unwrap_err().to_string();
    assert!(same.contains("the same interface"), "{same}");
    for (transport, fits) in [
        ("auto", true),
        ("fd", true),
        ("vec", false),
        ("tuntap", false),
    ] {
        let vm = of(&format!("transport = {transport}\n{two}"));
        let said = vm.as_ref().err().map(ToString::to_string);
        assert_eq!(vm.is_ok(), fits, "{transport}");
        assert!(said.is_none_or(|said| said.contains("needs transport = fd or auto")));
    }
}

#[test]
fn the_global_section() {
    let global = config(MINIMAL).global;
    assert_eq!(global.shared, Path::new("/var/lib/umlmon/shared"));
    assert_eq!(
        global.pid_file(&name("vm1")),
        Path::new("/var/run/umlmon/vm1.pid")
    );
    assert_eq!(
        (global.tcp, global.tcp_redir, global.pool),
        (false, false, MacPool::default())
    );

    let text = "[GLOBAL]\nvardir = /srv/uml\ntcp = true\nlisten = ::1\numldir_port = 4711\nsitecmd = /bin/true
        device = device_file(name=data1.dev,target_file=/dev/sdc5,group=uml)
        device = device_file(name=data2.dev,target_file=/dev/sdc6,group=uml,identity=update)
        password = a # ; \"b\\";
    let global = config(text).global;
    assert_eq!(global.shared, Path::new("/srv/uml/shared"));
    assert_eq!(
        global.user_file(&name("vm1")),
        Path::new("/srv/uml/vm1/config")
    );
    assert_eq!(global.ctrl(&name("vm1")), Path::new("/srv/uml/vm1/ctrl"));
    assert_eq!((global.devices.len(), global.umldir_port), (2, Some(4711)));
    assert_eq!(
        global.password,
        Some(Password::from_clear("a # ; \"b\\").unwrap())
    );

    assert_eq!(
        global_problem("vardir = x"),
        "umlmon:2: vardir: \"x\" is not an absolute path: it must begin with /"
    );
    assert_eq!(
        global_problem("tcp = yes"),
        "umlmon:2: tcp: \"yes\" is not a boolean: it must be true or false"
    );
    assert!(
        global_problem("umldir_port = 0")
            .starts_with("umlmon:2: umldir_port: \"0\" is not a number from 1 to")
    );
    assert!(global_problem("seal = no").ends_with("it must be require or allow"));
    assert!(global_problem("auth = weak").ends_with("it must be any or strong"));
    assert!(global_problem("host_name = [::1]").contains("without brackets and port"));
    let named = config("[GLOBAL]\nauth = strong\nhost_name = Gate.Example\nhost_name = 192.0.2.1");
    assert_eq!(named.global.auth, AuthPolicy::Strong);
    assert_eq!(named.global.host_names, ["gate.example", "192.0.2.1"]);
    assert!(global_problem("tls = on").ends_with("it must be off, allow or require"));
    assert!(global_problem("tls = allow\ntls_key = /k").contains("needs tls_certificate and"));
    let text = "[GLOBAL]\nseal = allow\ntls = require\ntls_key = /k\ntls_certificate = /c";
    let global = config(text).global;
    assert_eq!(
        (global.seal, global.tls),
        (SealPolicy::Allow, TlsPolicy::Require)
    );
    assert!(global_problem("listen = localhost").contains("is not an IP address"));
    let device = "device = device_file(name=a.dev,target_file=/dev/sda,group=uml)";
    let twice = format!("{device}\n{device}");
    assert_eq!(
        global_problem(&twice),
        "umlmon:3: device: there is already a device named a.dev"
    );
}

#[test]
fn errors_name_the_line_and_what_was_meant() {
    assert_eq!(
        problem("vmusr = x"),
        "umlmon:4: there is no parameter \"vmusr\" in the section of a VM; did you mean \"vmuser\"?"
    );
    assert_eq!(
        problem("mem = 32"),
        "umlmon:4: mem is already set in this section"
    );
    assert_eq!(
        problem("\ncon0 = xterm"),
        "umlmon:5: con0: \"xterm\" is not a terminal: it must be pty or pty:LOGFILE"
    );
    assert_eq!(
        problem("mem_limit = 63"),
        "mem = 64 (umlmon:3) is more than mem_limit = 63 (umlmon:4)"
    );
}

#[test]
fn bad_names_and_values_are_refused() {
    for bad in [
        "VMUSER = x",
        "con01 = pty",
        "con16 = pty",
        "ubd16 = /disks/a.dsk",
        "eth00 = x",
        "mem1 = 2",
    ] {
        assert!(
            problem(bad).starts_with("umlmon:4: there is no parameter"),
            "{bad}"
        );
    }
    for bad in [
        "start = on",
        "kernel = linux",
        "kernelarg = a b",
        "logfile = a/b",
        "ubd0 = /disks/a.img",
    ] {
        assert!(problem(bad).starts_with("umlmon:4: "), "{bad}");
    }
    for bad in [
        "0",
        "064",
        "+64",
        "1048577",
        "2T",
        "-1",
        "99999999999999999999",
    ] {
        let text = format!("[vm1]\nvmuser = nobody\nmem = {bad}\n");
        let e = Config::parse(&text, Path::new("umlmon"))
            .unwrap_err()
            .to_string();
        let expected = format!("umlmon:3: mem: {bad:?} is not a size from 1 to 1048576 megabytes");
        assert!(e.starts_with(&expected), "{e}");
    }
}

#[test]
fn a_fault_in_the_section_of_a_vm_does_not_hide_where_the_monitors_are() {
    let text = "[vm1]\nmem = lots\n[GLOBAL]\nvardir = /v\n[vm 2]\nnonsense = 1\n";
    let path = Path::new("umlmon");
    let overview = Overview::parse(text, path).unwrap();
    assert_eq!(overview.global.vardir, Path::new("/v"));
    assert!(overview.has(&name("vm1")) && !overview.has(&name("GLOBAL2")));
    for text in [
        "[vm1]\nno parameter\ndevice = (\n\u{7}\n[GLOBAL]\nvardir = v\n",
        "[GLOBAL]\n[vm1]\nmem =\n= 1\n[ GLOBAL\n",
    ] {
        let wrong = Overview::parse(text, path).unwrap_err().to_string();
        let line = text.lines().count();
        assert!(wrong.starts_with(&format!("umlmon:{line}: ")), "{wrong}");
    }
    let cut = "[vm1]\n[vm2\n[vm3]\n[vm3]\n[GLOBAL]\nvardir = /v\n";
    let overview = Overview::parse(cut, path).unwrap();
    assert_eq!(overview.global.vardir, Path::new("/v"));
    assert!(
        ["vm1", "vm2", "vm3"]
            .iter()
            .all(|vm| overview.has(&name(vm)))
    );
}

/// I18
#[test]
fn a_fault_in_the_section_of_one_vm_is_no_fault_of_the_others() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("umlmon");
    let right = |name: &str| format!("[{name}]\nvmuser = anna\nmem = 64\n");
    let faulty = |section: &str| {
        let text = format!(
            "{}{section}\n{}[GLOBAL]\nvardir = /v\n",
            right("a"),
            right("z")
        );
        std::fs::write(&path, text).unwrap();
        Config::load(&path).unwrap()
    };
    for (section, wrong) in [
        ("[m]\nmem = lots\n", ":5: mem: "),
        ("[m]\n\nmen = 64\n", ":6: there is no parameter"),
        ("[m]\na stray line\n", ":5: \"a\" does not begin"),
        (
            "[m\nvmuser = x\nmem = 1\n",
            ":4: \"[m\" is not a section header",
        ),
        ("[m]\neth0 = bridged(\n", ":5: '(' is not closed"),
        (
            "[m]\nvmuser = x\n[m]\nmem = 1\n",
            ":6: there is already a section [m]",
        ),
        (
            "[m]\nvmuser = x\nmem = 1\nlogdir = /v/a/log\n",
            ":4: the logdir of m is already",
        ),
        (
            "[m]\nvmuser = x\n",
            ":4: [m]: the required parameter mem is missing",
        ),
    ] {
        let config = faulty(section);
        let names: Vec<_> = config.vm_names().map(VmName::as_str).collect();
        assert_eq!(names, ["a", "m", "z"], "{section}");
        assert!(config.vm(&name("a")).is_ok() && config.vm(&name("z")).is_ok());
        let told = config.vm(&name("m")).unwrap_err().to_string();
        assert!(told.contains(wrong), "{told}");
        assert_eq!(config.nameless_faults().count(), 0);
    }
    let config = faulty("[m n]\nvmuser = x\n");
    assert_eq!(config.vm_names().count(), 2);
    let told: Vec<String> = config
        .nameless_faults()
        .map(|fault| fault.to_string())
        .collect();
    assert!(
        told.concat().contains(":4: \"m n\" is not a VM name"),
        "{told:?}"
    );
    for global in ["vardir = v\n", "[GLOBAL]\n", "[ GLOBAL\n"] {
        let text = format!("{}[GLOBAL]\n{global}", right("a"));
        std::fs::write(&path, text).unwrap();
        assert!(Config::load(&path).is_err(), "{global}");
    }
}

#[test]
fn sections_are_checked() {
    assert_eq!(
        Config::parse("[vm 1]", Path::new("umlmon"))
            .unwrap_err()
            .to_string(),
        "umlmon:1: \"vm 1\" is not a VM name: \
         it needs 1 to 63 letters, digits and . _ -, and begins with a letter or digit"
    );
    let config = config("[vm1]\nmem = 1\n[vm2]\nvmuser = x\n");
    let missing = |vm| {
        config
            .vm_with(&name(vm), &UserChanges::default())
            .unwrap_err()
            .to_string()
    };
    assert_eq!(
        missing("vm1"),
        "umlmon:1: [vm1]: the required parameter vmuser is missing"
    );
    assert_eq!(
        missing("vm2"),
        "umlmon:3: [vm2]: the required parameter mem is missing"
    );
    assert_eq!(missing("other"), "there is no VM \"other\" in umlmon");
    assert_eq!(
        missing("vm3"),
        "there is no VM \"vm3\" in umlmon; did you mean \"vm1\"?"
    );
}

#[test]
fn what_belongs_apart_is_kept_apart() {
    let log = "con0 = pty:con0 (umlmon:4) and ssl0 = pty:con0 (umlmon:5) use the same log file";
    assert_eq!(problem("con0 = pty:con0\nssl0 = pty:con0"), log);
    let eth = "eth0 = bridged(bridge_if=br0,proxy_if=p)\neth1 = bridged(bridge_if=br1,proxy_if=p)";
    assert!(problem(eth).ends_with("use the same proxy_if"));
    assert!(problem("jaildir = /j\nlogdir = /j/log").contains("must not contain each other"));
    assert!(problem("jaildir = /var/lib").contains("must not contain each other"));
    assert!(problem("jaildir = /var/lib/umlmon/shared/x").contains("must not contain each other"));
    assert!(
        problem("[vm2]\nlogdir = /var/lib/umlmon/vm1/log").contains("already a directory of vm1")
    );
    assert!(global_problem("shared = /var/lib/umlmon/vm1/x").contains("already used as shared"));
    let many = "kernelarg = x\n".repeat(65);
    assert_eq!(
        problem(&many),
        "umlmon:68: kernelarg: there are more than 64 kernel arguments"
    );
}

#[test]
fn a_look_at_one_vm_reads_that_one_only() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("umlmon");
    let text = "[GLOBAL]\nvardir = /v\n[vm1]\nvmuser = anna\nmem = 64\n[vm2]\nnonsense\n[vm3]\nmem = lots\n[ vm4 ]\nvmuser = bert\nmem = 32\n[no end\n";
    std::fs::write(&path, text).unwrap();
    let look = |vm: &str| Config::load_only(&path, &name(vm))?.vm(&name(vm));
    assert_eq!(
        (look("vm1").unwrap().mem, look("vm4").unwrap().mem),
        (64, 32)
    );
    assert_eq!(look("vm1").unwrap().jaildir, Path::new("/v/vm1/jail"));
    // The line numbers are those of the file.
    for (vm, line) in [("vm2", ":7:"), ("vm3", ":9:")] {
        let fault = look(vm).unwrap_err().to_string();
        assert!(fault.contains(line), "{fault}");
    }
    assert!(matches!(look("vm5"), Err(Error::UnknownVm { .. })));
    let config = Config::load(&path).unwrap();
    assert_eq!(config.vm(&name("vm4")).unwrap().mem, 32);
    assert!(config.vm(&name("vm2")).is_err());
}

#[test]
fn numbers_of_the_pool_are_given_by_the_monitor() {
    let global = |range: &str| {
        let text = format!("[GLOBAL]\nuser_pool = {range}\n");
        Config::parse(&text, Path::new("umlmon")).map(|config| config.global.user_pool)
    };
    let range = global("70000-70009").unwrap();
    assert!(range.contains(70_000) && range.contains(70_009) && !range.contains(70_010));
    for bad in [
        "",
        "70000",
        "70009-70000",
        "1000-2000",
        "70000-2147483648",
        "70000-",
    ] {
        assert!(global(bad).is_err(), "{bad}");
    }
    let vm = |user: &str| {
        let text = format!("[GLOBAL]\nuser_pool = 70000-70009\n[vm1]\nvmuser = {user}\nmem = 1\n");
        config(&text).vm_with(&name("vm1"), &UserChanges::default())
    };
    assert!(vm("auto").unwrap().has_auto_user() && !vm("anna").unwrap().has_auto_user());
    assert!(vm("70010").is_ok());
    assert_eq!(
        vm("70001").unwrap_err().to_string(),
        "umlmon:4: vmuser: 70001 is in user_pool; use auto, or another number"
    );
}

#[test]
fn the_web_interface() {
    let web = global_problem("web_listen = 192.0.2.1:443");
    assert!(web.contains("needs web_certificate and web_key"), "{web}");
    assert!(global_problem("web_key = /k").contains("for TLS of umlweb"));
    assert!(global_problem("web_listen = localhost").contains("like 127.0.0.1:8873"));
}
