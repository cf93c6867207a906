//! Monitors that are replaced while their VMs run, and VMs whose monitors are gone.

use std::fs;
use std::process::{Child, Command, Stdio};

use daemon::PidFile;

use crate::world::World;

/// The process ID of a monitor.
fn monitor(world: &World, vm: &str) -> Option<u32> {
    PidFile::holder(&world.path(&format!("run/{vm}.pid"))).unwrap()
}

#[test]
fn monitors_go_on_with_the_new_program() {
    let world = World::new("a obeys boot\nb obeys boot\nc obeys boot\n");
    assert_eq!(
        world.said(&["upgrade"]).1,
        "Nothing to do: no monitor runs.\n"
    );
    assert_eq!(world.said(&["start", "a", "b"]).0, 0);
    let before = ["a", "b"].map(|vm| monitor(&world, vm));
    let (status, table, said) = world.said(&["upgrade"]);
    let rows =
        "VM  WAS    IS     RESULT\na   0.1.0  0.1.0  up to date\nb   0.1.0  0.1.0  up to date\n";
    assert_eq!((status, table.as_str(), said.as_str()), (0, rows, ""));
    world.install_another_monitor();
    let (status, table, said) = world.said(&["upgrade", "*"]);
    let rows = "VM  WAS    IS     RESULT\na   0.1.0  0.1.0  upgraded\nb   0.1.0  0.1.0  upgraded\nc   -      -      off\n";
    assert_eq!((status, table.as_str(), said.as_str()), (0, rows, ""));
    assert_eq!(["a", "b"].map(|vm| monitor(&world, vm)), before);
    for pid in before.into_iter().flatten() {
        let program = fs::read_link(format!("/proc/{pid}/exe")).unwrap();
        assert_eq!(program, world.path("monitor"));
    }
    // What is no program is no reason to end anything, but no success.
    world.install_another_monitor();
    fs::remove_file(world.path("monitor")).unwrap();
    let (status, table, said) = world.said(&["upgrade", "a"]);
    assert_eq!(status, 1);
    assert!(table.ends_with("a   0.1.0  0.1.0  failed\n"), "{table}");
    assert!(
        said.starts_with("umladmin: a: ") && said.contains("No such file"),
        "{said}"
    );
    assert_eq!(monitor(&world, "a"), before[0]);
}

/// A process that is the VM, and the record of it that a monitor has left.
fn survivor(world: &World, vm: &str) -> Child {
    let child = Command::new("sleep")
        .arg("1000")
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    let stat = fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap();
    let start = stat.split_ascii_whitespace().nth(21).unwrap();
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    let record = format!(
        r#"{{"format":1,"boot":"{}","child":{{"pid":{},"start":{start}}}}}"#,
        boot.trim_end(),
        child.id()
    );
    fs::create_dir_all(world.path(&format!("var/{vm}"))).unwrap();
    fs::write(world.path(&format!("var/{vm}/run")), record).unwrap();
    child
}

#[test]
fn a_vm_without_its_monitor_is_told_and_gets_another() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let world = World::new("a obeys boot\nb obeys boot\nc obeys off\n");
    let mut children = ["a", "b", "c"].map(|vm| survivor(&world, vm));
    let (status, table, said) = world.said(&["-active", "list"]);
    assert_eq!(status, 1);
    assert_eq!(table.matches("no monitor").count(), 3, "{table}");
    let advice =
        "umladmin: a: it has outlived its monitor; 'umladmin update a' gives it another one\n";
    assert!(said.starts_with(advice), "{said}");
    assert_eq!(
        world.states(&["b"]),
        [("b".to_owned(), "no-monitor".to_owned())]
    );
    let (status, table, said) = world.said(&["upgrade"]);
    assert_eq!(status, 1);
    assert!(said.contains("'umladmin update b'"), "{table}{said}");
    // It is not booted, as it runs.
    let (status, _, said) = world.said(&["update", "a"]);
    assert_eq!((status, said.as_str()), (0, ""));
    assert!(monitor(&world, "a").is_some());
    assert_eq!(world.calls("a"), Vec::<String>::new());
    // Stopping needs a monitor; this one finds no kernel.
    let (status, out, said) = world.said(&["stop", "b"]);
    assert_eq!((status, said.as_str()), (0, ""), "{out}");
    assert!(out.contains("b: down after"), "{out}");
    for child in &mut children {
        child.kill().unwrap();
        child.wait().unwrap();
    }
    assert_eq!(world.states(&["b"]), [("b".to_owned(), "off".to_owned())]);
}
