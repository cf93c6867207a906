//! Tier real: pods in VMs, as a kubelet has containerd run them.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // in functions beside the tests, too

use std::fs;
use std::path::PathBuf;

use e2e::{Engine, IMAGE, wait_for};
use serde_json::{Value, json};

/// Values of the enumerations of the interface.
const READY: u64 = 0;
const EXITED: u64 = 2;

/// A pod, with what the kubelet keeps for it.
struct Pod<'e> {
    engine: &'e Engine,
    config: Value,
    id: String,
    address: String,
    /// The directory of its volumes.
    volumes: PathBuf,
}

impl<'e> Pod<'e> {
    fn run(engine: &'e Engine, name: &str) -> Pod<'e> {
        let uid = format!("test-{}-{name}", std::process::id());
        let volumes = PathBuf::from("/var/lib/kubelet/pods").join(&uid);
        fs::create_dir_all(volumes.join("volumes")).unwrap();
        let logs = engine.world.path().join("logs").join(name);
        fs::create_dir_all(&logs).unwrap();
        let config = json!({
            "metadata": {"name": name, "uid": uid, "namespace": "default", "attempt": 0},
            "hostname": name, "log_directory": logs, "dns_config": {"servers": ["10.88.0.1"]},
            "annotations": [{"key": "umlmon.mem", "value": "160"}], "linux": {},
        });
        let request = json!({"config": config, "runtime_handler": "uml"});
        let id = engine.call("RunPodSandbox", &request).unwrap();
        let id = id["pod_sandbox_id"].as_str().unwrap().to_owned();
        let mut pod = Pod {
            engine,
            config,
            id,
            address: String::new(),
            volumes,
        };
        let status = pod.call("PodSandboxStatus", json!({}))["status"].clone();
        assert_eq!(status["runtime_handler"], "uml");
        assert_eq!(status["state"].as_u64().unwrap_or(READY), READY);
        pod.address = status["network"]["ip"].as_str().unwrap().to_owned();
        pod
    }

    /// A call about the pod.
    fn call(&self, method: &str, mut request: Value) -> Value {
        request["pod_sandbox_id"] = self.id.clone().into();
        self.engine.call(method, &request).unwrap()
    }

    /// Starts a container; these members of its configuration are added.
    fn start(&self, name: &str, script: &str, further: Value) -> Container<'_> {
        let mut config = json!({
            "metadata": {"name": name, "attempt": 0}, "image": {"image": IMAGE}, "linux": {},
            "command": ["/bin/sh", "-c", script], "log_path": format!("{name}.log"),
        });
        config
            .as_object_mut()
            .unwrap()
            .extend(further.as_object().unwrap().clone());
        let request = json!({"config": config, "sandbox_config": self.config});
        let id = self.call("CreateContainer", request);
        let id = id["container_id"].as_str().unwrap().to_owned();
        let container = Container {
            pod: self,
            name: name.into(),
            id,
        };
        container.call("StartContainer", json!({}));
        container
    }

    fn remove(self) {
        self.call("StopPodSandbox", json!({}));
        self.call("RemovePodSandbox", json!({}));
        fs::remove_dir_all(&self.volumes).unwrap();
    }
}

struct Container<'p> {
    pod: &'p Pod<'p>,
    name: String,
    id: String,
}

impl Container<'_> {
    /// A call about the container.
    fn call(&self, method: &str, mut request: Value) -> Value {
        request["container_id"] = self.id.clone().into();
        self.pod.engine.call(method, &request).unwrap()
    }

    /// Its exit status, and why, when it has ended.
    fn end(&self) -> (u64, String) {
        wait_for("the end of a container", || {
            let status = self.call("ContainerStatus", json!({}))["status"].clone();
            let reason = status["reason"].as_str().unwrap_or_default().to_owned();
            let code = status["exit_code"].as_u64().unwrap_or(0);
            (status["state"].as_u64() == Some(EXITED)).then_some((code, reason))
        })
    }

    /// What it has written, without what the engine puts before each line.
    fn log(&self) -> String {
        let directory = self.pod.config["log_directory"].as_str().unwrap();
        let text = fs::read_to_string(PathBuf::from(directory).join(format!("{}.log", self.name)));
        let text = text.unwrap();
        let lines = text
            .lines()
            .map(|line| line.splitn(4, ' ').nth(3).unwrap_or_default());
        lines.map(|line| format!("{line}\n")).collect()
    }

    fn exec(&self, script: &str) -> (String, u64) {
        let request = json!({"cmd": ["/bin/sh", "-c", script], "timeout": 60});
        let answer = self.call("ExecSync", request);
        let text = answer["stdout"].as_str().unwrap_or_default().to_owned();
        (text, answer["exit_code"].as_u64().unwrap_or(0))
    }
}

#[test]
fn a_pod_is_a_vm_with_an_address_and_volumes() {
    let Some(engine) = Engine::for_kubernetes() else {
        return;
    };
    let pod = Pod::run(&engine, "web");
    let listed = engine.umladmin(&["list"]).ok();
    assert_eq!(listed.matches("pod:default/web ").count(), 1, "{listed}");
    let volume = pod.volumes.join("volumes/data");
    fs::create_dir(&volume).unwrap();
    let mounted = json!({
        "mounts": [{"container_path": "/data", "host_path": volume, "readonly": true}],
        "envs": [{"key": "WHO", "value": "a pod"}],
    });
    has_a_job(&pod, mounted.clone());
    let script =
        "nc -ll -p 80 -e /bin/cat & trap 'echo bye; exit 3' TERM; while :; do sleep 0.1; done";
    let server = pod.start("server", script, mounted);
    // A setting that is changed is seen.
    for setting in ["one\n", "two\n"] {
        fs::write(volume.join("setting"), setting).unwrap();
        assert_eq!(
            server.exec("cat /data/setting; exit 5"),
            (setting.into(), 5)
        );
    }
    is_measured(&server);
    is_reached(&pod);
    let limit = json!({"linux": {"resources": {"memory_limit_in_bytes": 33_554_432}}});
    let greedy = pod.start("greedy", "exec tail /dev/zero", limit);
    assert_eq!(greedy.end(), (137, "OOMKilled".into()));
    server.call("StopContainer", json!({"timeout": 30}));
    assert_eq!(server.end().0, 3);
    assert!(server.log().ends_with("bye\n"));
    server.call("RemoveContainer", json!({}));
    pod.remove();
    wait_for("the end of the VM", || (engine.vms() == 0).then_some(()));
}

fn has_a_job(pod: &Pod<'_>, mounted: Value) {
    let script = "hostname; echo hello from $WHO; cat /etc/resolv.conf; touch /data/x; exit 4";
    let job = pod.start("job", script, mounted);
    assert_eq!(job.end(), (4, "Error".into()));
    let log = job.log();
    for line in [
        "web\nhello from a pod\n",
        "nameserver 10.88.0.1\n",
        "Read-only file system\n",
    ] {
        assert!(log.contains(line), "{log}");
    }
}

fn is_measured(container: &Container<'_>) {
    let stats = container.call("ContainerStats", json!({}))["stats"].clone();
    for figure in [
        &stats["memory"]["working_set_bytes"],
        &stats["cpu"]["usage_core_nano_seconds"],
    ] {
        assert!(figure["value"].as_u64() > Some(0), "{stats}");
    }
}

/// The host and the other containers of the pod reach a server in it.
fn is_reached(pod: &Pod<'_>) {
    let script = format!("(echo hi; sleep 1) | busybox nc -w 5 {} 80", pod.address);
    let answer = wait_for("the server", || {
        let said = pod.engine.in_network(&["sh", "-c", &script]).stdout;
        (!said.is_empty()).then_some(said)
    });
    assert_eq!(answer, "hi\n");
    let script = "(echo there; sleep 1) | nc -w 5 127.0.0.1 80";
    let client = pod.start("client", script, json!({}));
    assert_eq!(client.end(), (0, "Completed".into()));
    assert_eq!(client.log(), "there\n");
}

/// Two pods reach each other, and one of them goes on when the other one's VM is killed.
#[test]
fn pods_are_apart() {
    let Some(engine) = Engine::for_kubernetes() else {
        return;
    };
    let (one, other) = (Pod::run(&engine, "one"), Pod::run(&engine, "other"));
    assert_ne!(one.address, other.address);
    let waiting = "while :; do sleep 0.1; done";
    let (here, there) = (
        one.start("a", waiting, json!({})),
        other.start("b", waiting, json!({})),
    );
    let ping = format!("ping -c 1 -W 10 {} > /dev/null", other.address);
    assert_eq!(here.exec(&ping), (String::new(), 0));
    let boot = "cat /proc/sys/kernel/random/boot_id";
    assert_ne!(here.exec(boot), there.exec(boot));
    there.call("StopContainer", json!({"timeout": 0}));
    assert_eq!(there.end().0, 137);
    other.remove();
    assert_eq!(here.exec("exit 6").1, 6);
    one.remove();
    wait_for("the end of the VMs", || (engine.vms() == 0).then_some(()));
}
