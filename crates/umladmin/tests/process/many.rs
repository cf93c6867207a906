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

#[test]
fn prometheus_reads_the_metrics() {
    let world = World::new("on obeys boot\noff obeys manual");
    assert_eq!(world.said(&["start", "on"]).0, 0);
    let file = world.path("umlmon.prom");
    let (status, out, err) = world.said(&["-o", file.to_str().unwrap(), "metrics"]);
    assert_eq!((status, out.as_str(), err.as_str()), (0, "", ""));
    let text = fs::read_to_string(&file).unwrap();
    let lines = text.lines().map(|line| Ok(line.to_owned()));
    let read = prometheus_parse::Scrape::parse(lines).unwrap();
    for metric in umladmin::METRICS {
        let name = metric.name;
        assert_eq!(read.docs[name], metric.help);
        let samples: Vec<_> = read
            .samples
            .iter()
            .filter(|sample| sample.metric == name)
            .collect();
        assert!(!samples.is_empty(), "{name}");
        let is_counter = |value: &_| matches!(value, prometheus_parse::Value::Counter(_));
        let is_total = name.ends_with("_total");
        assert!(
            samples
                .iter()
                .all(|sample| is_counter(&sample.value) == is_total),
            "{name}"
        );
    }
    let value = |metric: &str, vm: &str, state: Option<&str>| {
        let mut samples = read.samples.iter();
        let sample = samples.find(|sample| {
            sample.metric == metric
                && sample.labels.get("vm") == Some(vm)
                && sample.labels.get("state") == state
        });
        sample.map(|sample| format!("{:?}", sample.value))
    };
    assert_eq!(
        value("umlmon_up", "on", None).as_deref(),
        Some("Gauge(1.0)")
    );
    assert_eq!(
        value("umlmon_up", "off", None).as_deref(),
        Some("Gauge(0.0)")
    );
    let running = value("umlmon_vm_state", "on", Some("running"));
    assert_eq!(running.as_deref(), Some("Gauge(1.0)"));
    let cpu = value("umlmon_vm_cpu_seconds_total", "on", None);
    assert_eq!(cpu.as_deref(), Some("Counter(1.25)"));
    assert_eq!(value("umlmon_vm_cpu_seconds_total", "off", None), None);
    assert_eq!(world.said(&["stop"]).0, 0);
    let (status, out, _) = world.said(&["metrics"]);
    assert_eq!(status, 0);
    assert!(
        out.contains("umlmon_vm_state{vm=\"on\",state=\"off\"} 1\n"),
        "{out}"
    );
}
