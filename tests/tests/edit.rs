//! Tier process: `umladmin edit` with editors that are not interactive.

use std::fs;

use e2e::{World, run};

#[test]
fn only_what_is_right_takes_the_place_of_the_file() {
    let world = World::unprivileged();
    let vm = world.vm("vm1").configure();
    let path = world.configuration();
    let text = || fs::read_to_string(&path).unwrap();
    let edit = |editor: &str, args: &[&str]| {
        let mut command = world.command("umladmin", &[&["edit"], args].concat());
        run(command.env_remove("VISUAL").env("EDITOR", editor))
    };
    let before = text();
    assert_eq!(edit("true", &[]).ok(), "Nothing is changed.\n");
    assert!(edit("false", &[]).fails(1).contains("nothing is changed"));
    let refused = edit("sed -i s/=.64/=lots/", &[]).fails(1);
    assert!(
        refused.contains("umlmon:") && refused.contains(": mem: \"lots\""),
        "{refused}"
    );
    assert!(refused.contains("is left as it was"), "{refused}");
    let shown = edit("sed -i s/=.64/=96/", &["-dry-run"]).ok();
    assert!(shown.contains("-mem = 64\n+mem =96\n"), "{shown}");
    assert_eq!(text(), before);
    let shown = edit("sed -i s/=.64/=96/", &[]).ok();
    assert!(shown.contains("-mem = 64\n+mem =96\n"), "{shown}");
    let told = format!(
        "{}: mem; in force when the VM is started again\n",
        vm.name()
    );
    assert!(shown.ends_with(&told), "{shown}");
    assert_eq!(text(), before.replace("mem = 64", "mem =96"));
}
