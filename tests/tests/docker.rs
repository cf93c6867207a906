//! Tier docker: containers in VMs, run by Docker and by Swarm with our shim.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)] // in functions beside the tests, too

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use e2e::{Docker, Engines, IMAGE, Terminal, network, wait_for};

#[test]
fn containers_of_docker_are_vms() {
    let Some(engines) = Engines::new() else {
        return;
    };
    network::enter();
    let docker = Docker::alone(&engines);
    let script = "echo out; echo err >&2; exit 3";
    let said = docker.run(&["run", "--rm", IMAGE, "sh", "-c", script]);
    assert_eq!(
        (said.status, &*said.stdout, &*said.stderr),
        (Some(3), "out\n", "err\n"),
        "{said:#?}"
    );
    let said = docker
        .run(&["run", "--rm", IMAGE, "cat", "/proc/cmdline"])
        .ok();
    assert!(said.contains("uml_dir="), "{said}");
    on_a_terminal(&docker);
    used_while_it_runs(&docker);
    let said = docker.run(&[
        "run",
        "--name",
        "big",
        "-m",
        "32m",
        IMAGE,
        "tail",
        "/dev/zero",
    ]);
    assert_eq!(said.status, Some(137), "{said:#?}");
    let killed = docker.run(&["inspect", "-f", "{{.State.OOMKilled}}", "big"]);
    assert_eq!(killed.ok(), "true\n");
    docker.run(&["rm", "big"]).ok();
    assert_eq!(docker.vms(), 0);
}

fn on_a_terminal(docker: &Docker<'_>) {
    let command = docker.command(&["run", "--rm", "-it", IMAGE, "sh"]);
    let mut terminal = Terminal::run(&command, 24, 80);
    terminal.expect("# ");
    terminal.send("until stty size | grep '^24 80$'; do sleep 0.1; done; echo at-$((6*7))\n");
    terminal.expect("at-42");
    terminal.resize(30, 100);
    terminal.send("until stty size | grep '^30 100$'; do sleep 0.1; done; echo at-$((6*8))\n");
    terminal.expect("at-48");
    terminal.send("exit 5\n");
    assert_eq!(terminal.wait(), Some(5));
}

fn used_while_it_runs(docker: &Docker<'_>) {
    let script = "trap 'exit 3' TERM; httpd -h /data; while :; do echo tick; sleep 0.2; done";
    let data = docker.file("data");
    fs::create_dir(&data).unwrap();
    let volume = format!("{}:/data", data.display());
    let options = ["run", "-d", "--name", "c1", "-p", "8080:80", "-v", &volume];
    docker
        .run(&[&options[..], &[IMAGE, "sh", "-c", script]].concat())
        .ok();
    let mut logs = Terminal::run(&docker.command(&["logs", "-f", "c1"]), 24, 80);
    logs.expect("tick");
    let said = docker.run(&["exec", "c1", "sh", "-c", "echo $PPID; exit 4"]);
    assert_eq!((said.status, &*said.stdout), (Some(4), "0\n"), "{said:#?}");

    let page = docker.file("page");
    fs::write(&page, "from the host").unwrap();
    docker
        .run(&["cp", "-q", &page.display().to_string(), "c1:/data/page"])
        .ok();
    let fetch = [
        "busybox",
        "wget",
        "-q",
        "-O",
        "-",
        "http://127.0.0.1:8080/page",
    ];
    assert_eq!(docker.in_network(&fetch).ok(), "from the host");

    let stats = [
        "stats",
        "--no-stream",
        "--format",
        "{{.Name}} {{.MemUsage}} {{.PIDs}}",
        "c1",
    ];
    let stats = docker.run(&stats).ok();
    assert!(
        stats.starts_with("c1 ") && !stats.contains(" 0B "),
        "{stats}"
    );
    docker.run(&["pause", "c1"]).ok();
    let state = || {
        docker
            .run(&[
                "inspect",
                "-f",
                "{{.State.Status}} {{.State.ExitCode}}",
                "c1",
            ])
            .ok()
    };
    assert_eq!(state(), "paused 0\n");
    docker.run(&["unpause", "c1"]).ok();
    logs.expect("tick");
    docker.run(&["stop", "c1"]).ok();
    assert_eq!(state(), "exited 3\n");
    assert_eq!(logs.wait(), Some(0));
    docker.run(&["rm", "c1"]).ok();
}

/// How long the tasks of a host that is killed may be missing.
const AGAIN: Duration = Duration::from_secs(45);

/// Three hosts of a swarm, all of them managers.
fn swarm(engines: &Engines) -> Vec<Docker<'_>> {
    network::enter();
    network::ip("link add hosts type bridge");
    network::ip("link set hosts up");
    let nodes: Vec<Docker<'_>> = (1..=3).map(|n| Docker::node(engines, n)).collect();
    let init = ["swarm", "init", "--advertise-addr", "10.77.0.1"];
    nodes[0].run(&init).ok();
    let token = nodes[0].run(&["swarm", "join-token", "-q", "manager"]).ok();
    let join = ["swarm", "join", "--token", token.trim(), "10.77.0.1:2377"];
    for node in &nodes[1..] {
        node.run(&join).ok();
    }
    nodes
}

/// The number of tasks that run, as the swarm says.
fn tasks(node: &Docker<'_>) -> usize {
    let which = "service ps web --filter desired-state=running --format {{.CurrentState}}";
    let list = node.run(&which.split(' ').collect::<Vec<_>>()).ok();
    let running = list.lines().filter(|line| line.starts_with("Running"));
    running.count()
}

/// The control groups of pods that have no process.
fn empty_groups() -> Vec<PathBuf> {
    let list = |path: &Path| fs::read_dir(path).into_iter().flatten().flatten();
    let controllers = list(Path::new("/sys/fs/cgroup")).map(|entry| entry.path());
    let parents = controllers.chain(["/sys/fs/cgroup".into()]);
    let groups = parents.flat_map(|parent| list(&parent.join("umlmon")));
    let groups = groups.filter(|group| group.file_name().as_encoded_bytes().starts_with(b"pod-"));
    let is_empty = |group: &PathBuf| {
        fs::read_to_string(group.join("cgroup.procs")).is_ok_and(|processes| processes.is_empty())
    };
    groups.map(|group| group.path()).filter(is_empty).collect()
}

#[test]
fn tasks_of_a_swarm_run_elsewhere_when_a_host_is_killed() {
    let Some(engines) = Engines::new() else {
        return;
    };
    // What tests that failed have left is not counted.
    let before = empty_groups();
    let mut nodes = swarm(&engines);
    let create = "service create -q --name web --replicas 6 --no-resolve-image";
    let create: Vec<&str> = create.split(' ').collect();
    let script = "trap exit TERM; while :; do sleep 0.2; done";
    let create = [&create[..], &[IMAGE, "sh", "-c", script]].concat();
    nodes[0].run(&create).ok();
    let vms = |nodes: &[Docker<'_>]| nodes.iter().map(Docker::vms).collect::<Vec<_>>();
    wait_for("six tasks", || (tasks(&nodes[0]) == 6).then_some(()));
    assert_eq!(vms(&nodes), [2, 2, 2]);

    let killed = Instant::now();
    nodes[2].kill();
    wait_for("six tasks on two hosts", || {
        (vms(&nodes[..2]) == [3, 3] && tasks(&nodes[0]) == 6).then_some(())
    });
    let took = killed.elapsed();
    eprintln!("all tasks run again after {} s", took.as_secs());
    assert!(took <= AGAIN, "{took:?}");

    nodes[2].boot();
    wait_for("the host to be clean", || {
        let left = empty_groups().iter().any(|group| !before.contains(group));
        (vms(&nodes[2..]) == [0] && !left).then_some(())
    });
    let listed = ["ps", "-a", "-q", "--filter", "status=running"];
    assert_eq!(nodes[2].run(&listed).ok(), "");
    nodes[0].run(&["service", "rm", "web"]).ok();
    wait_for("the end of all", || {
        (vms(&nodes) == [0, 0, 0]).then_some(())
    });
}
