//! Tier real: containers in VMs, run by containerd with our shim.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)] // in functions beside the tests, too

use std::fs;
use std::process::Command;

use e2e::{Chance, Engine, kills, run, wait_for};
use rustix::process::{Pid, Signal, kill_process};

#[test]
fn a_container_runs_in_a_vm_and_leaves_nothing() {
    let Some(engine) = Engine::new() else { return };
    let said = engine.once(
        &[],
        &["sh", "-c", "echo out; echo err >&2; echo $$; exit 3"],
    );
    assert_eq!(
        (said.status, &*said.stdout),
        (Some(3), "out\n1\n"),
        "{said:#?}"
    );
    assert!(said.stderr.contains("err\n"), "{said:#?}");
    assert_eq!(engine.vms(), 0);
    let shared = engine.world.path().join("data");
    fs::create_dir(&shared).unwrap();
    fs::write(shared.join("in"), "from the host").unwrap();
    let mount = format!(
        "type=bind,src={},dst=/data,options=rbind:rw",
        shared.display()
    );
    let script = "cat /data/in; echo $A > /data/out; touch /x 2>/dev/null || echo read-only; cat /proc/version";
    let options = [
        "--mount",
        &mount,
        "--env",
        "A=from the container",
        "--read-only",
    ];
    let said = engine.once(&options, &["sh", "-c", script]).ok();
    assert!(
        said.starts_with("from the hostread-only\nLinux version"),
        "{said}"
    );
    assert_eq!(
        fs::read_to_string(shared.join("out")).unwrap(),
        "from the container\n"
    );
    // The image of the root directory was made once.
    let images = fs::read_dir(engine.world.path().join("var-containerd/images")).unwrap();
    assert_eq!(images.count(), 1);
    let said = engine.once(&[], &["no-such-program"]);
    assert!(said.stderr.contains("no-such-program"), "{said:#?}");
    engine.ctr(&["task", "rm", "-f", "once"]);
    engine.ctr(&["container", "rm", "once"]).ok();
    assert_eq!(engine.vms(), 0);
}

#[test]
fn a_container_is_used_while_it_runs_and_outlasts_containerd() {
    let Some(mut engine) = Engine::new() else {
        return;
    };
    let script = "trap 'echo bye; exit 7' TERM; while :; do sleep 0.1; done";
    let options = ["-d", "--annotation", "umlmon.mem=128"];
    engine
        .ctr(&engine.run_words(&options, "c1", &["sh", "-c", script]))
        .ok();
    assert_eq!(engine.state("c1"), "RUNNING");
    let listed = engine.umladmin(&["list"]).ok();
    let row = listed
        .lines()
        .find(|line| line.starts_with("pod:default/c1 "));
    let row = row.expect(&listed);
    assert!(
        row.contains("running") && row.contains("128 MB"),
        "{listed}"
    );
    let said = engine.ctr(&[
        "task",
        "exec",
        "--exec-id",
        "e1",
        "c1",
        "sh",
        "-c",
        "ps; cat /proc/cmdline; exit 5",
    ]);
    assert_eq!(said.status, Some(5), "{said:#?}");
    assert!(said.stdout.contains("trap"), "{said:#?}");
    assert!(said.stdout.contains(" chosen=yes "), "{said:#?}");
    engine.ctr(&["task", "pause", "c1"]).ok();
    assert_eq!(engine.state("c1"), "PAUSED");
    engine.ctr(&["task", "resume", "c1"]).ok();
    let figures = engine.ctr(&["task", "metrics", "c1"]).ok();
    assert!(figures.contains("memory"), "{figures}");
    engine.kill();
    engine.begin();
    assert_eq!(engine.state("c1"), "RUNNING");
    engine.ctr(&["task", "kill", "c1"]).ok();
    wait_for("the end of the container", || {
        (engine.state("c1") == "STOPPED").then_some(())
    });
    let removed = engine.ctr(&["task", "rm", "c1"]);
    assert!(
        removed.stderr.contains("non-zero exit code 7"),
        "{removed:#?}"
    );
    engine.ctr(&["container", "rm", "c1"]).ok();
    assert_eq!(engine.vms(), 0);
}

#[test]
fn containerd_is_told_that_memory_is_used_up() {
    let Some(engine) = Engine::new() else { return };
    let heard = engine.world.path().join("events");
    let mut events = engine.command(&["events"]);
    events.stdout(fs::File::create(&heard).unwrap());
    let mut events = events.spawn().unwrap();
    let said = engine.once(&["--memory-limit", "33554432"], &["tail", "/dev/zero"]);
    assert_eq!(said.status, Some(137), "{said:#?}");
    let heard = wait_for("the events", || {
        let heard = fs::read_to_string(&heard).unwrap();
        heard.contains("/tasks/delete").then_some(heard)
    });
    kill_process(Pid::from_child(&events), Signal::TERM).unwrap();
    events.wait().unwrap();
    let of = |topic: &str| heard.find(topic).unwrap_or_else(|| panic!("{heard}"));
    assert!(of("/tasks/oom") < of("/tasks/exit"), "{heard}");
    assert_eq!(engine.vms(), 0);
}

#[test]
fn with_its_shim_a_vm_is_gone() {
    let Some(engine) = Engine::new() else { return };
    engine
        .ctr(&engine.run_words(&["-d"], "c1", &["sleep", "1000"]))
        .ok();
    assert_eq!(engine.vms(), 1);
    kill_process(engine.server("c1"), Signal::KILL).unwrap();
    wait_for("the end of the VM", || (engine.vms() == 0).then_some(()));
    wait_for("containerd to see it", || {
        (engine.state("c1") != "RUNNING").then_some(())
    });
    engine.ctr(&["task", "rm", "-f", "c1"]);
    engine.ctr(&["container", "rm", "c1"]).ok();
}

/// What is killed.
#[derive(Debug, Clone, Copy)]
enum Victim {
    Containerd,
    Server,
    /// The process that removes the VM at the end, and its server, at once.
    ServerAndKeeper,
    /// The process that removes the VM at the end.
    Keeper,
    /// The process that engines know containers by.
    Holder,
    Monitor,
    Kernel,
}

const VICTIMS: [Victim; 7] = [
    Victim::Containerd,
    Victim::Server,
    Victim::ServerAndKeeper,
    Victim::Keeper,
    Victim::Holder,
    Victim::Monitor,
    Victim::Kernel,
];

impl Victim {
    /// Kills it, and says whether the container goes on.
    fn kill(self, engine: &mut Engine, id: &str) -> bool {
        let kill = |pid: Pid| kill_process(pid, Signal::KILL).unwrap();
        let server = engine.server(id);
        let beside = |argument| engine.beside_server(server, argument);
        match self {
            Victim::Containerd => {
                engine.kill();
                engine.begin();
            }
            Victim::Server => kill(server),
            Victim::ServerAndKeeper => beside("--keep").into_iter().chain([server]).for_each(kill),
            // It may have been killed before.
            Victim::Keeper => beside("--keep").into_iter().for_each(kill),
            Victim::Holder => beside("--hold").into_iter().for_each(kill),
            Victim::Monitor => {
                // Without this process, nobody starts another one.
                let is_replaced = beside("--keep").is_some();
                kill(engine.monitor(id));
                return is_replaced;
            }
            Victim::Kernel => kill(engine.kernel(id)),
        }
        matches!(self, Victim::Containerd | Victim::Keeper | Victim::Holder)
    }
}

/// Whatever is killed, containerd says of containers what is true, and nothing is left.
#[test]
fn what_is_killed_at_random_leaves_nothing() {
    let Some(mut engine) = Engine::new() else {
        return;
    };
    let (kills, mut chance) = (kills(VICTIMS.len()), Chance::new());
    let containers = if kills > 100 { 20 } else { 3 };
    let ids: Vec<String> = (0..containers).map(|n| format!("c{n}")).collect();
    let begin = |engine: &Engine, id: &str| {
        let options = ["-d", "--annotation", "umlmon.mem=64"];
        engine
            .ctr(&engine.run_words(&options, id, &["sleep", "10000"]))
            .ok();
    };
    let end = |engine: &Engine, id: &str| {
        engine.ctr(&["task", "rm", "-f", id]);
        engine.ctr(&["container", "rm", id]).ok();
    };
    ids.iter().for_each(|id| begin(&engine, id));
    for n in 0..kills {
        // Each of them, and then any.
        let any = chance.below(VICTIMS.len().try_into().unwrap());
        let victim = VICTIMS[if n < VICTIMS.len() {
            n
        } else {
            any.try_into().unwrap()
        }];
        let id = &ids[usize::try_from(chance.below(ids.len().try_into().unwrap())).unwrap()];
        eprintln!("{n}: {victim:?} of {id}");
        let goes_on = victim.kill(&mut engine, id);
        if goes_on {
            engine
                .ctr(&["task", "exec", "--exec-id", "e", id, "true"])
                .ok();
        }
        wait_for("containerd to see it", || {
            (goes_on == (engine.state(id) == "RUNNING")).then_some(())
        });
        if !goes_on {
            end(&engine, id);
        }
        let running = ids.len() - usize::from(!goes_on);
        wait_for("the end of the VM", || {
            (engine.vms() == running).then_some(())
        });
        let listed = engine.umladmin(&["list", "-active"]).ok();
        assert_eq!(
            listed.matches("\npod:default/c").count(),
            running,
            "{listed}"
        );
        if !goes_on {
            begin(&engine, id);
        }
    }
    ids.iter().for_each(|id| end(&engine, id));
    assert_eq!(engine.vms(), 0);
}

/// Kubernetes tells by annotations which containers are in a pod.
#[test]
fn the_containers_of_a_pod_share_a_vm() {
    let Some(engine) = Engine::new() else { return };
    let sandbox = [
        "-d",
        "--annotation",
        "io.kubernetes.cri.container-type=sandbox",
    ];
    engine
        .ctr(&engine.run_words(&sandbox, "pod", &["/pause"]))
        .ok();
    assert_eq!(engine.state("pod"), "RUNNING");
    let member = [
        "--annotation",
        "io.kubernetes.cri.container-type=container",
        "--annotation",
        "io.kubernetes.cri.sandbox-id=pod",
    ];
    let begins = [&["-d"], member.as_slice()].concat();
    let first = engine.run_words(&begins, "first", &["sleep", "1000"]);
    engine.ctr(&first).ok();
    // The second one sees the same kernel and none of the processes or files of the first one.
    engine
        .ctr(&["task", "exec", "--exec-id", "e", "first", "touch", "/mine"])
        .ok();
    let script = "cat /proc/sys/kernel/random/boot_id; ls /mine 2>/dev/null; ps | grep -c '[s]leep 1000'; exit 4";
    let ends = [&["--rm"], member.as_slice()].concat();
    let said = engine.ctr(&engine.run_words(&ends, "second", &["sh", "-c", script]));
    assert_eq!(said.status, Some(4), "{said:#?}");
    let boot = ["task", "exec", "--exec-id", "b", "first", "cat"];
    let boot = engine.ctr(&[&boot[..], &["/proc/sys/kernel/random/boot_id"]].concat());
    assert_eq!(said.stdout, format!("{}0\n", boot.ok()));
    assert_eq!(engine.vms(), 1);
    for id in ["first", "pod"] {
        engine.ctr(&["task", "kill", "-s", "KILL", id]).ok();
        wait_for("the end of a container", || {
            (engine.state(id) == "STOPPED").then_some(())
        });
        engine.ctr(&["task", "rm", id]);
        engine.ctr(&["container", "rm", id]).ok();
    }
    wait_for("the end of the VM", || (engine.vms() == 0).then_some(()));
}

/// A container engine gives a pod its interface before the first container starts.
#[test]
fn a_pod_has_the_interface_that_the_engine_has_made() {
    let Some(engine) = Engine::new() else { return };
    let name = format!("umlpod{}", std::process::id());
    let shell = |script: &str| run(Command::new("sh").args(["-euc", script]));
    shell(&format!(
        "ip netns add {name}; ip link add {name} type veth peer name eth0 netns {name}
         ip addr add 10.99.7.1/24 dev {name}; ip link set {name} up
         ip -n {name} addr add 10.99.7.2/24 dev eth0; ip -n {name} link set eth0 up
         ip -n {name} route add default via 10.99.7.1"
    ))
    .ok();
    let with = format!("network:/run/netns/{name}");
    let script = "ip -4 addr show eth0; ip route; ping -c 1 -W 5 10.99.7.1";
    let said = engine.once(&["--with-ns", &with], &["sh", "-c", script]);
    let gone = shell(&format!(
        "ip netns del {name}; ip link del {name} 2>/dev/null || true"
    ));
    let said = said.ok();
    assert!(said.contains("inet 10.99.7.2/24"), "{said}");
    assert!(said.contains("default via 10.99.7.1 dev eth0"), "{said}");
    assert!(said.contains("1 packets received"), "{said}");
    gone.ok();
    assert_eq!(engine.vms(), 0);
}
