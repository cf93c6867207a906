//! Tests of what is shown and printed, and that it is read back with the same meaning.

use proptest::prelude::*;

use super::*;
use crate::SectionKind;
use crate::params::PARAMS;

#[test]
fn no_password_is_shown() {
    let text = format!(
        "[GLOBAL]\npassword = sesame\n{MINIMAL}password = 900150983cd24fb0d6963f7d28e17f72\n"
    );
    let config = config(&text);
    let vm = config
        .vm_with(&name("vm1"), &UserChanges::default())
        .unwrap();
    let user = changes("password = sesame").unwrap();
    let shown = format!(
        "{config:?} {vm:?} {:?} {user:?} {}",
        vm.settings(),
        vm.to_ini()
    );
    assert!(
        !shown.contains("sesame") && !shown.contains("9001"),
        "{shown}"
    );
    assert!(vm.to_ini().contains("\n# password is set, but not shown\n"));
    assert!(
        vm.settings()
            .iter()
            .any(|s| s.param == "password" && s.value == "(set)")
    );
    assert_eq!(
        problem("password secret"),
        "umlmon:4: \"password\" does not begin a [section], a # comment or parameter = value"
    );
}

#[test]
fn printed_configurations_can_be_edited() {
    let config = config(FOO);
    let none = UserChanges::default();
    let edited = |edits: &[Edit]| config.vm_edited(&name("foo"), &none, edits);
    let clear = |param: &str| Edit::Clear(param.into());
    let set = |param: &str, value: &str| Edit::Set(param.into(), value.into());
    let vm = edited(&[
        Edit::Rename(name("bar")),
        clear("con1"),
        clear("eth0"),
        set("mem", "128"),
        set("kernelarg", "ubd1=/x"),
        set("vmuser", "bar_user"),
    ]);
    let want = "[bar]
vmuser = bar_user
# jaildir = /var/lib/umlmon/bar/jail
# logdir = /var/lib/umlmon/bar/log
logfile = monitor
kernel = /shared/kernels/linux
kernelarg = ubd1=/x
mem = 128
# memory = fixed
con0 = pty:con0
# history = 256
# log_limit = 100
# log_quota = 4096
# log_timestamps = false
ubd0 = /disks/root.dsk
# sync_disks = auto
# transport = auto
# pids_limit = 1000
# overhead_limit = 512
# cpu_limit = 0
# userspace = ptrace
# cpus = 1
# affinity = auto
start = manual
# boot_order = 0
# boot_delay = 0
";
    assert_eq!(vm.unwrap().to_ini(), want);
    let problem = |edit| edited(&[edit]).unwrap_err().to_string();
    assert_eq!(
        problem(clear("mem")),
        "[foo]: the required parameter mem is missing"
    );
    assert!(problem(clear("memm")).contains("did you mean \"mem\""));
    assert!(problem(set("mem", "x")).starts_with("mem: \"x\" is not a size"));
    assert!(
        problem(set("mem_limit", "32")).contains("mem = 64 (umlmon:6) is more than mem_limit = 32")
    );
    assert!(problem(set("kernelarg", "a\n[b]")).contains("control characters"));
}

/// A value of any parameter of a VM; the number keeps names of logs and interfaces apart.
fn value(param: &'static str, n: u8) -> BoxedStrategy<String> {
    match param {
        "vmuser" | "vmgroup" => "[a-z][a-z0-9_]{0,8}".boxed(),
        "scheduler" => (-20..20i8)
            .prop_map(|n| format!("sched_default( prio = {n} )"))
            .boxed(),
        "jaildir" => "/jail/[a-zé (=#;\\\\]{0,8}[a-z\\\\]".boxed(),
        "logdir" => "/log/[a-z\\[\\]]{1,8}".boxed(),
        "logfile" => "monitor[a-z.+-]{0,5}".boxed(),
        "kernel" => "/shared/kernels/[a-z0-9._-]{0,5}x".boxed(),
        "kernelarg" => "[!-~é]{1,20}".boxed(),
        "mem" => (1..512u32).prop_map(|n| n.to_string()).boxed(),
        "mem_limit" => (512..1024u32).prop_map(|n| n.to_string()).boxed(),
        "con" | "ssl" => prop_oneof![Just("pty".into()), Just(format!("pty:{param}{n}"))].boxed(),
        "ubd" => "(/disks/[a-z0-9_+.-]{0,9}x\\.(dsk|cow)|/shared/disks/[A-Z]\\.(dsk|cow|dev))"
            .prop_filter("the first character", |d| d.parse::<DiskName>().is_ok())
            .boxed(),
        "history" => (16..65536u32).prop_map(|n| n.to_string()).boxed(),
        "log_limit" | "log_quota" => (0..1000u32).prop_map(|n| n.to_string()).boxed(),
        "log_timestamps" => "(true|false)".boxed(),
        "sync_disks" => "(all|none|ubd1( ubd[2-9]){0,3})".boxed(),
        "transport" => "(auto|vec|tuntap|fd)".boxed(),
        "pids_limit" | "overhead_limit" | "cpu_limit" => {
            (64..9999u32).prop_map(|n| n.to_string()).boxed()
        }
        "memory" => Just("elastic".into()).boxed(),
        "userspace" => Just("seccomp".into()).boxed(),
        "cpus" => Just("1".into()).boxed(),
        "group" => "[a-z][a-z0-9._-]{0,9}".boxed(),
        "boot_order" | "boot_delay" => "[1-9][0-9]{0,2}".boxed(),
        "affinity" => "(auto|none|[1-9]?[0-9]|[1-9]-9,[1-9]0)".boxed(),
        "share" => "/srv/[a-zé (=#;\\\\]{0,8}x(:/[a-z]{1,5})?(:ro)?".boxed(),
        "eth" => prop_oneof![
            Just(format!(
                "bridged(bridge_if=br0,\n proxy_if=p{n},guest_hwaddr=pool,mtu=9000)"
            )),
            Just(format!(
                "host_to_host(proxy_if=p{n},proxy_addr=10.0.0.1,guest_addr=10.0.0.2)"
            )),
            "tuntap,[a-z#;\\\\]{1,5}",
        ]
        .boxed(),
        "password" => "[!-~ ]{0,20}[!-~]".boxed(),
        "start" => "(manual|boot|off)".boxed(),
        _ => panic!("{param} is not tested"),
    }
}

/// A section with all required and any others of the parameters, in any order.
fn section() -> impl Strategy<Value = String> {
    // A template is not printed, but what it sets.
    let of_table = PARAMS
        .iter()
        .filter(|p| p.section == SectionKind::Vm && p.name != "use");
    let lines: Vec<_> = of_table
        .flat_map(|p| {
            let several = if p.repeatable { 3 } else { 1 };
            let names = (0..=p.indexed.unwrap_or(0).min(5))
                .flat_map(move |n| std::iter::repeat_n(n, several));
            names.map(move |n| {
                let line =
                    value(p.name, n).prop_map(move |v| format!("{} = {v}\n", p.full_name(n)));
                (line, proptest::bool::weighted(0.4))
                    .prop_map(move |(line, on)| (p.required || on).then_some(line))
            })
        })
        .collect();
    let shuffled = lines
        .prop_map(|lines| lines.into_iter().flatten().collect::<Vec<_>>())
        .prop_shuffle();
    shuffled.prop_map(|lines| format!("[vm1]\n{}", lines.concat()))
}

proptest! {
    #[test]
    fn what_is_printed_reads_as_the_same(text in section()) {
        let mut vm = vm_of(&text);
        let again = vm_of(&vm.to_ini());
        // The password is not printed, and a wrapped value is not wrapped again.
        vm.password = None;
        let settings = |vm: &Vm| vm.settings().into_iter().filter(|s| s.param != "password").collect::<Vec<_>>();
        prop_assert_eq!(settings(&vm), settings(&again));
        prop_assert_eq!(again.to_ini(), vm.to_ini().replace("# password is set, but not shown\n", ""));
        prop_assert_eq!((vm.kernelargs, vm.con, vm.ssl, vm.ubd), (again.kernelargs, again.con, again.ssl, again.ubd));
        prop_assert_eq!((vm.eth, vm.jaildir, vm.mem), (again.eth, again.jaildir, again.mem));
    }
}
