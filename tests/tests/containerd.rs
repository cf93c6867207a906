//! Tier real: containers in VMs, run by containerd with our shim.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // in functions beside the tests, too

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use e2e::host::install_below;
use e2e::{Outcome, World, program, run, skip, wait_for};
use rustix::process::{Pid, Signal, kill_process};

/// The image of the containers.
const IMAGE: &str = "localhost/busybox:1";

/// A containerd of its own, in a network namespace of its own. Its containers are removed by those that make them.
struct Engine {
    world: World,
    containerd: Option<Child>,
    shim: PathBuf,
    /// That of the VMs.
    configuration: String,
}

impl Engine {
    fn new() -> Option<Engine> {
        if !PathBuf::from("/usr/bin/containerd").exists() {
            skip("needs containerd (Debian: apt-get install containerd)");
            return None;
        }
        let world = World::with_real_kernel()?;
        let sbin = install_below(&world.path().join("prefix"));
        let shim = sbin.with_file_name("containerd-shim-uml-v2");
        fs::copy(program("containerd-shim-uml-v2"), &shim).unwrap();
        let directory = world.path().display().to_string();
        let text = format!(
            "version = 2\nroot = \"{directory}/root\"\nstate = \"{directory}/state\"\n\
             disabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n[grpc]\naddress = \"{directory}/sock\"\n"
        );
        fs::write(world.path().join("containerd.toml"), text).unwrap();
        let configuration = format!(
            "[GLOBAL]\nvardir = {directory}/var\nrundir = {directory}/run\n\
             [template containerd]\nmem = 256\nkernelarg = chosen=yes\n"
        );
        fs::write(world.path().join("umlmon"), configuration).unwrap();
        let mut engine = Engine {
            containerd: None,
            shim,
            configuration: format!("{directory}/umlmon"),
            world,
        };
        engine.begin();
        engine.ctr(&["image", "import", &engine.image()]).ok();
        Some(engine)
    }

    fn begin(&mut self) {
        let mut containerd = Command::new("unshare");
        let path = std::env::var("PATH").unwrap_or_default();
        let sbin = self.shim.parent().unwrap().display();
        containerd.env("PATH", format!("{sbin}:{path}"));
        containerd.args(["--net", "containerd", "-c"]);
        containerd.arg(self.world.path().join("containerd.toml"));
        let log = self.world.path().join("containerd.log");
        let log = fs::File::options().create(true).append(true).open(log);
        let log = log.unwrap();
        containerd
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        self.containerd = Some(containerd.spawn().unwrap());
        wait_for("containerd", || {
            (run(&mut self.command(&["version"])).status == Some(0)).then_some(())
        });
    }

    /// Ends containerd at once.
    fn kill(&mut self) {
        let mut containerd = self.containerd.take().unwrap();
        containerd.kill().unwrap();
        containerd.wait().unwrap();
    }

    /// An archive of an image with busybox.
    fn image(&self) -> String {
        let directory = self.world.path().join("image");
        let tree = directory.join("tree");
        for name in ["bin", "dev", "etc", "proc", "sys", "tmp"] {
            fs::create_dir_all(tree.join(name)).unwrap();
        }
        fs::copy("/bin/busybox", tree.join("bin/busybox")).unwrap();
        for name in [
            "cat", "echo", "grep", "hostname", "id", "ls", "mount", "ps", "sh", "sleep", "tail",
            "touch", "true",
        ] {
            std::os::unix::fs::symlink("busybox", tree.join("bin").join(name)).unwrap();
        }
        fs::write(tree.join("etc/passwd"), "root:x:0:0:root:/:/bin/sh\n").unwrap();
        let script = format!(
            "mkdir -p oci/blobs/sha256; tar -C tree --owner=0 --group=0 -cf layer .
             blob() {{ sum=$(sha256sum < $1 | cut -d ' ' -f 1); cp $1 oci/blobs/sha256/$sum; echo sha256:$sum; }}
             size() {{ stat -c %s $1; }}
             layer=$(blob layer); kind=application/vnd.oci.image
             printf '{{\"architecture\":\"amd64\",\"os\":\"linux\",\"config\":{{\"Env\":[\"PATH=/bin\"]}},
                 \"rootfs\":{{\"type\":\"layers\",\"diff_ids\":[\"%s\"]}}}}' $layer > config; config=$(blob config)
             printf '{{\"schemaVersion\":2,\"mediaType\":\"%s.manifest.v1+json\",
                 \"config\":{{\"mediaType\":\"%s.config.v1+json\",\"digest\":\"%s\",\"size\":%s}},
                 \"layers\":[{{\"mediaType\":\"%s.layer.v1.tar\",\"digest\":\"%s\",\"size\":%s}}]}}' \\
                 $kind $kind $config $(size config) $kind $layer $(size layer) > manifest
             printf '{{\"schemaVersion\":2,\"manifests\":[{{\"mediaType\":\"%s.manifest.v1+json\",\"digest\":\"%s\",
                 \"size\":%s,\"annotations\":{{\"io.containerd.image.name\":\"{IMAGE}\"}}}}]}}' \\
                 $kind $(blob manifest) $(size manifest) > oci/index.json
             echo '{{\"imageLayoutVersion\":\"1.0.0\"}}' > oci/oci-layout; tar -C oci -cf image.tar ."
        );
        let mut shell = Command::new("sh");
        run(shell.args(["-euc", &script]).current_dir(&directory)).ok();
        directory.join("image.tar").display().to_string()
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut ctr = Command::new("timeout");
        ctr.args(["120", "ctr", "-a"])
            .arg(self.world.path().join("sock"))
            .args(words);
        ctr
    }

    fn ctr(&self, words: &[&str]) -> Outcome {
        run(&mut self.command(words))
    }

    fn umladmin(&self, words: &[&str]) -> Outcome {
        let mut umladmin = Command::new(program("umladmin"));
        run(umladmin.args(["-config", &self.configuration]).args(words))
    }

    /// `ctr run` with these options, of this container.
    fn run_words<'a>(
        &'a self,
        options: &[&'a str],
        id: &'a str,
        command: &[&'a str],
    ) -> Vec<&'a str> {
        let mut words = vec!["run", "--runtime", "io.containerd.uml.v2"];
        words.extend(["--runtime-config-path", &self.configuration]);
        words.extend(options);
        words.extend([IMAGE, id]);
        words.extend(command);
        words
    }

    /// Runs a container to its end.
    fn once(&self, options: &[&str], command: &[&str]) -> Outcome {
        let options = [&["--rm"], options].concat();
        self.ctr(&self.run_words(&options, "once", command))
    }

    /// The state of a container.
    fn state(&self, id: &str) -> String {
        let listed = self.ctr(&["task", "list"]).ok();
        let line = listed.lines().find(|line| line.starts_with(id));
        line.and_then(|line| line.split_whitespace().nth(2))
            .unwrap_or_default()
            .to_owned()
    }

    /// The server of the only pod.
    fn server(&self) -> Pid {
        let processes = fs::read_dir("/proc").unwrap().flatten();
        let mut servers = processes.filter_map(|entry| {
            let path = entry.path();
            let is_shim = fs::read_link(path.join("exe")).ok()? == self.shim;
            let words = fs::read(path.join("cmdline")).ok()?;
            let serves = words.split(|byte| *byte == 0).nth(1) == Some(b"-namespace");
            let pid = entry.file_name().to_str()?.parse().ok()?;
            (is_shim && serves).then(|| Pid::from_raw(pid))?
        });
        servers.next().expect("a server")
    }

    /// What VMs have left.
    fn vms(&self) -> usize {
        let vms = self.world.path().join("var-containerd/vms");
        fs::read_dir(vms).map_or(0, Iterator::count)
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if let Some(mut containerd) = self.containerd.take() {
            let _ = containerd.kill();
            let _ = containerd.wait();
        }
    }
}

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
    kill_process(engine.server(), Signal::KILL).unwrap();
    wait_for("the end of the VM", || (engine.vms() == 0).then_some(()));
    wait_for("containerd to see it", || {
        (engine.state("c1") != "RUNNING").then_some(())
    });
    engine.ctr(&["task", "rm", "-f", "c1"]);
    engine.ctr(&["container", "rm", "c1"]).ok();
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
