//! Tier real: umlweb, used by a real browser. The scripts in `tests/web` are what its user does.

#![allow(clippy::unwrap_used)] // in functions beside the tests, too

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;

use e2e::{Login, MASTER, Vm, Web, World, called, exchange_monitor, run};

/// A VM with a password of its own and the fake kernel, which returns what is typed.
fn echoing<'w>(world: &'w World, name: &str) -> Vm<'w> {
    let password = format!("password = secret of {name}");
    world.vm(name).con(1).line(&password).monitor()
}

#[test]
fn a_console_in_a_browser() {
    let Some(world) = World::with_real_kernel() else {
        return;
    };
    let Some(web) = Web::start(&world) else {
        return;
    };
    let vm = world
        .vm("vm1")
        .guest(Login::RootShell)
        .con(1)
        .line("password = secret of vm1");
    let vm = vm.monitor();
    // In megabytes.
    let flood = std::env::var("UMLMON_TEST_FLOOD").unwrap_or_else(|_| "10".to_owned());
    web.browse("console.mjs", &[&flood], |order| match order {
        "replace-monitor" => exchange_monitor(&vm),
        "restart-web" => {
            web.kill();
            web.begin();
        }
        other => panic!("{other}?"),
    });
}

#[test]
fn a_browser_in_tls() {
    let Some(world) = World::new() else { return };
    let Some(web) = Web::start_in_tls(&world) else {
        return;
    };
    let vm = echoing(&world, "vm1");
    vm.start();
    web.browse("tls.mjs", &[], |order| panic!("{order}?"));
}

#[test]
fn pages_of_others_get_nowhere() {
    let Some(world) = World::new() else { return };
    let Some(web) = Web::start(&world) else {
        return;
    };
    let vms = [echoing(&world, "vm1"), echoing(&world, "vm2")];
    vms.iter().for_each(Vm::start);
    web.browse("walls.mjs", &[], |order| panic!("{order}?"));
    for vm in vms {
        assert_eq!(vm.state(), "running");
    }
}

#[test]
fn the_pages() {
    let Some(world) = World::new() else { return };
    let Some(web) = Web::start(&world) else {
        return;
    };
    let vm = echoing(&world, "vm1");
    vm.start();
    web.browse("pages.mjs", &[], |order| match order {
        "set" => {
            let set = "kernelarg=x=<img/src=x/onerror=window.hit=1>";
            vm.umlwatch(&["-set", set]).ok();
        }
        other => panic!("{other}?"),
    });
}

#[test]
fn only_umlweb_says_where_clients_are() {
    let Some(world) = World::new() else { return };
    let Some(web) = Web::start(&world) else {
        return;
    };
    let _vm = echoing(&world, "vm1");
    // Another user of the host gets no answer at the socket.
    let socket = world.path().join("var/directory/redir");
    let ask = format!(
        "use IO::Socket::UNIX; my $s = IO::Socket::UNIX->new(Peer => '{}') or die $!; print sysread($s, my $b, 1)",
        socket.display()
    );
    let mut other = called("setpriv");
    other.args(["--reuid=nobody", "--regid=nogroup", "--clear-groups"]);
    let said = run(other.args(["/usr/bin/perl", "-e", &ask])).ok();
    assert_eq!(said.trim(), "0");
    // It is the user of the configuration, and has no right left.
    let status = std::fs::read_to_string(format!("/proc/{}/status", web.pid().as_raw_nonzero()));
    let status = status.unwrap();
    for line in [
        "Uid:\t1\t1\t1\t1",
        "CapPrm:\t0000000000000000",
        "NoNewPrivs:\t1",
    ] {
        assert!(status.contains(line), "{status}");
    }
}

/// Whether these bytes are somewhere in the memory of a process that it can write.
fn has_in_memory(pid: i32, wanted: &str) -> bool {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let memory = File::open(format!("/proc/{pid}/mem")).unwrap();
    let parts = maps.lines().filter(|line| line.contains(" rw"));
    parts
        .filter_map(|line| line.split_once(' ')?.0.split_once('-'))
        .any(|(start, end)| {
            let number = |text| u64::from_str_radix(text, 16).unwrap();
            let (start, end) = (number(start), number(end));
            let mut bytes = vec![0; usize::try_from(end - start).unwrap()];
            // Some parts belong to the kernel.
            let read = memory.read_exact_at(&mut bytes, start).is_ok();
            read && bytes
                .windows(wanted.len())
                .any(|it| it == wanted.as_bytes())
        })
}

#[test]
fn no_password_of_the_configuration_is_in_its_memory() {
    let Some(world) = World::new() else { return };
    let vm = world.vm("vm1").con(1).line("password = secret of vm1");
    let _vm = vm.configure();
    let Some(web) = Web::start(&world) else {
        return;
    };
    let pid = web.pid().as_raw_nonzero().get();
    let known = world.path().join("var/directory/redir");
    assert!(has_in_memory(pid, known.to_str().unwrap()));
    for password in [MASTER, "secret of vm1"] {
        assert!(!has_in_memory(pid, password), "{password}");
    }
}

/// `cargo xtask screenshots` says where they are to be.
#[test]
fn the_pictures() {
    let Some(world) = World::with_real_kernel() else {
        return;
    };
    let Some(web) = Web::start(&world) else {
        return;
    };
    let vms = ["build", "mail", "vm1", "www"].map(|name| {
        let password = format!("password = secret of {name}");
        let vm = world.vm(name).guest(Login::RootShell).con(1);
        vm.line(&password).monitor()
    });
    vms.iter().for_each(Vm::start);
    let given = std::env::var_os("UMLMON_TEST_PICTURES");
    let directory = given.map_or_else(|| world.path().to_owned(), Into::into);
    let directory = directory.to_str().unwrap();
    web.browse("screenshots.mjs", &[directory], |order| panic!("{order}?"));
}
