//! Several VMs: commanded by patterns, started in an order, and their figures.

use std::fs;
use std::time::{Duration, Instant};

use crate::world::World;

#[test]
fn many_are_commanded_by_a_pattern() {
    let world = World::new("web1 obeys manual\nweb2 obeys manual\ndb obeys manual");
    assert_eq!(world.said(&["start"]).0, 0);
    let (status, out, err) = world.said(&["boot", "web*"]);
    assert_eq!((status, err.as_str()), (0, ""), "{out}");
    assert!(out.ends_with("\n\nweb1  booting\nweb2  booting\n"), "{out}");
    assert_eq!(world.said(&["boot", "web1"]).1, "web1: runs already\n");
    assert_eq!(world.said(&["kill", "web2"]).1, "web2: killed\n");
    let (status, out, err) = world.said(&["restart", "*[12]"]);
    assert_eq!((status, err.as_str()), (0, ""), "{out}");
    assert_eq!(world.calls("web1"), ["start", "ctrlaltdel true", "start"]);
    assert_eq!(world.calls("web2"), ["start", "kill", "start"]);
    assert_eq!(world.said(&["ctrlaltdel", "web?"]).0, 0);
    assert_eq!(world.calls("db"), [""; 0]);
    // Nothing is done to all by mistake.
    for command in ["boot", "restart", "ctrlaltdel", "kill"] {
        let (status, _, err) = world.said(&[command]);
        assert_eq!(status, 2);
        assert!(err.contains("'*' for all"), "{err}");
    }
    let (status, _, err) = world.said(&["kill", "x*"]);
    assert_eq!(status, 1);
    assert!(err.contains("x*: no VM has a name that fits"), "{err}");
    assert_eq!(world.said(&["stop", "*"]).0, 0);
    assert_eq!(world.said(&["list", "-active", "*"]).1, "");
}

#[test]
fn they_start_one_after_the_other() {
    let world = World::new("late obeys boot\nearly obeys boot\nsame obeys boot");
    let conf = fs::read_to_string(world.path("umlmon.conf")).unwrap();
    let conf = conf.replace("[late]\n", "[late]\nboot_order = 7\n");
    let conf = conf.replace("[early]\n", "[early]\nboot_delay = 2\n");
    fs::write(world.path("umlmon.conf"), conf).unwrap();
    let begin = Instant::now();
    let (status, out, err) = world.said(&["start"]);
    assert_eq!((status, err.as_str()), (0, ""), "{out}");
    assert!(begin.elapsed() >= Duration::from_secs(2));
    let last = out.lines().rfind(|line| line.contains(": booting"));
    assert_eq!(last, Some("late: booting"), "{out}");
    assert!(
        out.ends_with("\n\nlate   booting\nearly  booting\nsame   booting\n"),
        "{out}"
    );
    assert_eq!(world.said(&["stop"]).0, 0);
}
