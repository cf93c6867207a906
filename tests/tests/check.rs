//! Tier process: umladmin check.

use e2e::{World, run};

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
    let outcome = run(&mut world.command("umladmin", &["check", "/nonexistent"]));
    assert!(outcome.fails(1).contains("/nonexistent"));
}
