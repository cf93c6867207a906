//! Tier root: a guest that does not read what is typed.

#![allow(clippy::unwrap_used)] // in functions beside the tests, too

use std::fs::File;
use std::process::Stdio;

use e2e::World;

#[test]
fn what_is_not_read_is_told_and_a_file_is_given_up() {
    let Some(world) = World::new() else { return };
    let unread = world.vm("vm1").con(1).con(2).fake("unread:con2");
    let vm = unread.monitor();
    vm.start();
    let file = world.path().join("typed");
    std::fs::write(&file, [b'x'; 20_000]).unwrap();
    let mut sent = vm.command(&["-connect", "con2"]);
    sent.stdin(File::open(file).unwrap());
    let sent = sent.stdout(Stdio::null()).stderr(Stdio::piped()).spawn();

    let mut con0 = vm.connect("con0");
    con0.send("unread:con1\n");
    con0.expect("unread:con1");
    let mut terminal = vm.terminal("-connect", "con1", 24, 80);
    terminal.expect("leaves]");
    terminal.send("x");
    terminal.expect("[con1 takes no input for 5 s, 1 byte waits: either no program of");
    terminal.send("y");
    // A standstill is told to who comes later, too.
    let mut second = vm.terminal("-force-connect", "con1", 24, 80);
    second.expect("[con1 takes no input for");
    con0.send("read:con1\n");
    second.expect("[con1 takes input again]");
    second.send("z");
    second.expect("z");
    for terminal in [terminal, second].iter_mut() {
        terminal.send("\x1d.");
    }
    con0.leave();

    let sent = sent.unwrap().wait_with_output().unwrap();
    let said = String::from_utf8(sent.stderr).unwrap();
    let said: Vec<&str> = said.lines().collect();
    assert!(
        said[0].starts_with("[con2 takes no input for 5 s, 20000 bytes wait: "),
        "{said:#?}"
    );
    assert!(
        said[1].starts_with("umlwatch: vm1: cannot connect to con2: "),
        "{said:#?}"
    );
    assert!(said[1].contains("takes no input for 60 s"), "{said:#?}");
    assert_eq!(said.len(), 2, "{said:#?}");
    assert_eq!(sent.status.code(), Some(5));
}

#[test]
fn of_a_suspended_guest_it_is_told_how_to_resume_it() {
    let Some(world) = World::new() else { return };
    let vm = world.vm("vm1").con(1).monitor();
    vm.start();
    vm.umlwatch(&["-suspend"]).ok();
    let mut console = vm.connect("con1");
    console.send("key");
    console.expect_remark(
        "[con1 takes no input for 5 s, 3 bytes wait: the VM is suspended (-continue",
    );
    vm.umlwatch(&["-continue"]).ok();
    console.expect_remark("[con1 takes input again]");
    console.expect("key");
    console.leave();
}
