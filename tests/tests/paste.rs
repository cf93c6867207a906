//! Tier real: what is pasted into a console arrives, whatever the guest does meanwhile, and the console works
//! afterwards.
//! `UMLMON_TEST_PASTES` says how often each paste is tried (default 1); 20 take about half an hour.

#![allow(clippy::unwrap_used)] // in functions beside the tests, too

use std::fmt::Write as _;
use std::fs::File;
use std::process::{Command, Stdio};

use e2e::{Login, Vm, World};

/// 1024 lines of 64 bytes: more than a kernel holds.
const LONG: usize = 1024 * 64;

fn rounds() -> usize {
    let set = std::env::var("UMLMON_TEST_PASTES").ok();
    set.map_or(1, |rounds| rounds.parse().unwrap())
}

/// Lines of text, `bytes` in all.
fn lines(bytes: usize) -> String {
    let mut text = String::new();
    for number in 0..bytes / 64 {
        writeln!(text, "{number:08} {:x<54}", "").unwrap();
    }
    text
}

/// A paste, and what is in the guest's file /mnt/got after it.
struct Paste {
    name: &'static str,
    typed: String,
    got: String,
}

/// For a guest whose con1 shows a shell.
fn pastes() -> Vec<Paste> {
    let mut commands = String::new();
    let mut said = String::new();
    for number in 1..=100 {
        // Some of them take a while and read nothing; one that fills the kernel comes early.
        match number {
            2 => commands.push_str("sleep 3\n"),
            _ if number % 10 == 0 => commands.push_str("sleep 0.1\n"),
            _ => {
                let word = format!("{number:x>60}");
                writeln!(commands, "echo {word} >>/mnt/got").unwrap();
                writeln!(said, "{word}").unwrap();
            }
        }
    }
    let text = lines(LONG);
    let after = |command: &str, end: &str| format!("{command}\n{text}{end}");
    vec![
        Paste {
            name: "a hundred commands",
            typed: commands,
            got: said,
        },
        Paste {
            name: "a long text for a shell",
            typed: after("cat >/mnt/got <<'END'", "END\n"),
            got: text.clone(),
        },
        Paste {
            name: "a long text for a program that reads line by line, later",
            typed: after("sleep 2; cat >/mnt/got", "\x04"),
            got: text.clone(),
        },
        Paste {
            name: "a long text for a program that reads bytes, later",
            typed: after(
                "stty raw -echo; sleep 2; dd bs=64 count=1024 iflag=fullblock >/mnt/got; stty sane",
                "",
            ),
            got: text.clone(),
        },
    ]
}

/// The check sum of what a paste leaves, as the guest prints it.
fn sum(text: &str, directory: &std::path::Path) -> String {
    let path = directory.join("expected");
    std::fs::write(&path, text).unwrap();
    let printed = Command::new("md5sum").arg(path).output().unwrap().stdout;
    let printed = String::from_utf8(printed).unwrap();
    printed.split(' ').next().unwrap().to_owned()
}

/// Asks the shell for the check sum of /mnt/got, when it has done all that was pasted.
#[track_caller]
fn arrived(vm: &Vm<'_>, round: usize, paste: &Paste, expected: &str) {
    let mut console = vm.connect("con1");
    console.send(&format!(
        "\nmd5sum </mnt/got; rm /mnt/got; echo LOOK''ED{round}.\n"
    ));
    let seen = console.expect(&format!("LOOKED{round}."));
    assert!(seen.contains(expected), "{}: {seen}", paste.name);
    console.leave();
}

fn shell(world: &World) -> Vm<'_> {
    let vm = world.vm("vm1").con(1).guest(Login::RootShell).monitor();
    vm.start();
    let mut console = vm.connect("con1");
    console.expect("# ");
    console.send("mount -t tmpfs none /mnt; echo MOUNT''ED\n");
    console.expect("MOUNTED");
    console.leave();
    vm
}

/// Has every paste typed into a shell by `paste`, which gets the number of it, and looks whether it has arrived.
fn try_all(paste: impl Fn(&World, &Vm<'_>, usize, &Paste)) {
    let Some(world) = World::with_real_kernel() else {
        return;
    };
    let vm = shell(&world);
    let pastes = (0..rounds()).flat_map(|_| pastes());
    for (round, pasted) in pastes.enumerate() {
        let expected = sum(&pasted.got, world.path());
        paste(&world, &vm, round, &pasted);
        arrived(&vm, round, &pasted, &expected);
    }
}

#[test]
fn what_is_pasted_into_a_terminal_arrives() {
    try_all(|_, vm, round, paste| {
        let mut terminal = vm.terminal("-connect", "con1", 24, 80);
        terminal.expect("leaves");
        terminal.send(&paste.typed);
        terminal.send(&format!("echo PAST''ED{round}.\n"));
        terminal.expect(&format!("PASTED{round}."));
        terminal.send("\x1d.");
        assert_eq!(terminal.wait(), Some(0));
    });
}

#[test]
fn what_a_file_holds_arrives() {
    try_all(|world, vm, _, paste| {
        let file = world.path().join("paste");
        std::fs::write(&file, &paste.typed).unwrap();
        let mut client = vm.command(&["-connect", "con1"]);
        client
            .stdin(File::open(file).unwrap())
            .stdout(Stdio::null());
        assert!(client.status().unwrap().success(), "{}", paste.name);
    });
}

#[test]
fn what_is_typed_before_a_program_opens_the_console_is_told_and_arrives() {
    let Some(world) = World::with_real_kernel() else {
        return;
    };
    let vm = world.vm("vm1").con(1).con(5).guest(Login::RootShell);
    let vm = vm.monitor();
    vm.start();
    let mut terminal = vm.terminal("-connect", "con5", 24, 80);
    terminal.expect("leaves");
    terminal.send("early\r");
    terminal.expect(
        "[con5 takes no input for 5 s, 6 bytes wait: no program of the guest has opened con5;",
    );
    let mut shell = vm.connect("con1");
    shell.expect("# ");
    shell.send("read word </dev/tty5; echo word=$word.\n");
    shell.expect("word=early.");
    shell.leave();
    terminal.expect("[con5 takes input again]");
    terminal.send("\x1d.");
    assert_eq!(terminal.wait(), Some(0));
}

#[test]
fn that_a_console_is_lost_is_told_where_the_kernel_must_not_be_traced() {
    let Some(world) = World::with_real_kernel() else {
        return;
    };
    let vm = world.vm("vm1").con(1).guest(Login::RootShell).configure();
    let monitor = world.command("umlmon", &[vm.name()]);
    let mut lesser = Command::new("setpriv");
    lesser
        .args(["--bounding-set", "-sys_ptrace"])
        .arg(monitor.get_program())
        .args(monitor.get_args());
    e2e::run(&mut lesser).ok();
    vm.put_files();
    vm.start();
    let mut terminal = vm.terminal("-connect", "con1", 24, 80);
    terminal.expect("# ");
    terminal.send("stty raw -echo; echo READ''Y; sleep 1000\r");
    terminal.expect("READY");
    terminal.send(&lines(8 * 1024));
    terminal.expect("[con1 takes no input for 5 s, ");
    terminal.expect("cannot be made to read again (Permission denied (os error 13)); then reboot");
    terminal.send("\x1d.");
    assert_eq!(terminal.wait(), Some(0));
    vm.kill();
    vm.start();
    let mut console = vm.connect("con1");
    console.expect("READY\n");
    console.expect("# ");
    console.send("echo AL''IVE\n");
    console.expect("ALIVE");
    console.leave();
}

#[test]
fn bytes_of_every_value_arrive() {
    let Some(world) = World::with_real_kernel() else {
        return;
    };
    let vm = shell(&world);
    let mut console = vm.connect("con1");
    console.send(
        "stty raw -echo; echo READ''Y; dd bs=256 count=16 iflag=fullblock >/mnt/got; stty sane\n",
    );
    console.expect("READY");
    console.leave();
    let file = world.path().join("bytes");
    let bytes: Vec<u8> = (0..=255).collect();
    std::fs::write(&file, bytes.repeat(16)).unwrap();
    let mut client = vm.command(&["-connect", "con1"]);
    client
        .stdin(File::open(&file).unwrap())
        .stdout(Stdio::null());
    assert!(client.status().unwrap().success());
    let printed = Command::new("od")
        .arg("-b")
        .arg(file)
        .output()
        .unwrap()
        .stdout;
    let expected = String::from_utf8(printed).unwrap();
    let mut console = vm.connect("con1");
    console.send("od -b /mnt/got; echo SH''OWN\n");
    let seen = console.expect("SHOWN").replace('\r', "");
    assert!(seen.contains(&expected), "{seen}");
    console.leave();
}

#[test]
fn what_is_pasted_arrives_while_the_window_changes_its_size() {
    let Some(world) = World::with_real_kernel() else {
        return;
    };
    let vm = shell(&world);
    for (round, paste) in pastes().into_iter().enumerate() {
        let expected = sum(&paste.got, world.path());
        let mut terminal = vm.terminal("-connect", "con1", 24, 80);
        terminal.expect("leaves");
        for (n, piece) in (0..).zip(paste.typed.as_bytes().chunks(64)) {
            terminal.resize(5 + n % 50, 20 + n % 150);
            terminal.send(std::str::from_utf8(piece).unwrap());
        }
        terminal.send(&format!("echo PAST''ED{round}.\n"));
        terminal.expect(&format!("PASTED{round}."));
        terminal.send("\x1d.");
        assert_eq!(terminal.wait(), Some(0));
        arrived(&vm, round, &paste, &expected);
    }
}
