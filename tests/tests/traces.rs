//! Tier real: a machine with all that one can have, from its image to its end, and what of it is left on the host.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "all of it is test"
)]

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use e2e::host::install_below;
use e2e::network::{enter, ip, join_lan, snapshot};
use e2e::{Outcome, World, free_port, real_kernel, run, wait_for};
use serde_json::Value;
use xtask::leftovers;

/// For users of machines. No other test has these.
const POOL: std::ops::RangeInclusive<u32> = 1_883_307_000..=1_883_307_009;
/// What the first monitor of an installation makes for all VMs that follow. Nothing in it is about one that is gone.
const OF_ALL: [&str; 5] = [
    ".user_pool",
    "shared/locks/mutex",
    "shared/macpool/mutex",
    "shared/macpool/networks",
    "shared/macpool/remembered",
];

struct Site {
    world: World,
    umladmin: PathBuf,
}

/// What a machine can leave on the host.
#[derive(Debug, PartialEq)]
struct Traces {
    configuration: String,
    files: BTreeSet<PathBuf>,
    mounts: Vec<String>,
    interfaces: String,
    filters: String,
    processes: BTreeSet<String>,
}

impl Site {
    fn new() -> Option<Site> {
        let world = World::with_real_kernel()?;
        enter();
        join_lan();
        ip("route add default via 10.8.0.2");
        world.global(&format!("user_pool = {}-{}", POOL.start(), POOL.end()));
        let umladmin = install_below(&world.path().join("prefix"));
        Some(Site { world, umladmin })
    }

    fn umladmin(&self, args: &[&str]) -> Outcome {
        let mut command = Command::new(&self.umladmin);
        command.arg("-config").arg(self.world.configuration());
        run(command.args(args))
    }

    fn umlwatch(&self, args: &[&str]) -> Outcome {
        run(&mut self.world.command("umlwatch", &[&["web"], args].concat()))
    }

    fn traces(&self) -> Traces {
        let mut files = BTreeSet::new();
        let var = self.world.path().join("var");
        collect(&var, &mut files);
        for file in OF_ALL.map(|file| var.join(file)) {
            if files.remove(&file) {
                let text = fs::read_to_string(&file).unwrap();
                assert!(!text.contains("web"), "{}: {text}", file.display());
            }
        }
        Traces {
            configuration: fs::read_to_string(self.world.configuration()).unwrap(),
            files,
            mounts: leftovers::mounts(self.world.path()),
            interfaces: snapshot(),
            filters: run(Command::new("nft").args(["list", "ruleset"])).ok(),
            processes: of_pool(),
        }
    }
}

/// All files below a directory.
fn collect(directory: &Path, files: &mut BTreeSet<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        match path.symlink_metadata().unwrap().is_dir() {
            true => collect(&path, files),
            false => drop(files.insert(path)),
        }
    }
}

/// The names of the processes of users of the pool.
fn of_pool() -> BTreeSet<String> {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let ours = processes.filter(|entry| {
        let owner = entry.metadata().map(|process| process.uid());
        owner.is_ok_and(|uid| POOL.contains(&uid))
    });
    ours.filter_map(|entry| fs::read_to_string(entry.path().join("comm")).ok())
        .map(|name| name.trim_end().to_owned())
        .collect()
}

/// The machine is used as its administrator and its user would.
fn use_it(site: &Site) {
    site.umlwatch(&["-wait-ready", "60", "-exec", "hostname"])
        .ok();
    let seen = of_pool();
    assert!(seen.contains("slirp4netns"), "{seen:?}");
    for (what, found) in [
        ("br-uml", ip("-o link show")),
        (
            "umlmon_uml",
            run(Command::new("nft").args(["list", "ruleset"])).ok(),
        ),
    ] {
        assert!(found.contains(what), "{found}");
    }
    let top = site.umladmin(&["-json", "-interval", "1", "-count", "2", "top"]);
    let last: Value = serde_json::from_str(top.ok().lines().next_back().unwrap()).unwrap();
    assert_eq!(last[0]["vm"], "web");
    assert!(last[0]["cpu"].is_f64(), "{last}");
    let metrics = site.umladmin(&["metrics"]).ok();
    for name in ["memory_available_bytes", "cpu_seconds_total"] {
        let begin = format!("umlmon_vm_{name}{{vm=\"web\"}} ");
        let value = metrics.lines().find_map(|line| line.strip_prefix(&begin));
        let value: f64 = value.unwrap().parse().unwrap();
        assert!(value > 0.0, "{metrics}");
    }
    site.umlwatch(&["-ctrlaltdel", "-wait", "60"]).ok();
    site.umladmin(&["snapshot", "web", "first"]).ok();
    site.umladmin(&["boot", "web"]).ok();
    site.umlwatch(&["-wait-ready", "60"]).ok();
}

#[test]
fn nothing_is_left_of_a_machine_with_everything() {
    let Some(site) = Site::new() else { return };
    let before = site.traces();
    site.umladmin(&["image", "build", "busybox"]).ok();
    let (kernel, port) = (real_kernel().display().to_string(), free_port());
    let user = format!("user(forward={port}:22)");
    let words = [
        "-kernel", &kernel, "-image", "busybox", "-mem", "64M", "-net", &user, "-net", "nat",
        "-start", "create", "web",
    ];
    site.umladmin(&words).ok();
    let networks: Value =
        serde_json::from_str(&site.umladmin(&["-json", "network", "list"]).ok()).unwrap();
    let server = networks[0]["server_pid"].as_i64().unwrap();
    use_it(&site);
    site.umladmin(&["-stop", "-yes", "delete", "web"]).ok();
    site.umladmin(&["image", "delete", "busybox"]).ok();
    let server = PathBuf::from(format!("/proc/{server}/exe"));
    wait_for("the end of the server of the network", || {
        (!server.exists()).then_some(())
    });
    assert_eq!(site.traces(), before);
}
