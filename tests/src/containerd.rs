//! A containerd of a test's own, with our shim, in a network namespace of its own.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::Pid;
use serde_json::Value;
use xtask::busybox::{self, IMAGE};

use crate::host::install_shim;
use crate::world::show_end;
use crate::{Outcome, World, program, run, skip, wait_for};

/// What is needed, and the package that has it.
const CONTAINERD: (&str, &str) = ("/usr/bin/containerd", "containerd");
const NETWORKS: (&str, &str) = ("/usr/lib/cni/bridge", "containernetworking-plugins");
const GRPC: (&str, &str) = ("/usr/lib/python3/dist-packages/grpc", "python3-grpcio");

/// Whether it has the interface of Kubernetes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Plain,
    Kubernetes,
}

/// The engine. Its containers are removed by those that make them.
pub struct Engine {
    /// Where all of its files are.
    pub world: World,
    containerd: Option<Child>,
    shim: PathBuf,
    /// That of the VMs.
    configuration: String,
}

impl Engine {
    /// One that containers are run with by `ctr`. None if the test cannot run here.
    pub fn new() -> Option<Engine> {
        Engine::of(Kind::Plain)
    }

    /// One that has the interface of Kubernetes as well, and gives pods addresses in 10.88.0.0/24.
    pub fn for_kubernetes() -> Option<Engine> {
        Engine::of(Kind::Kubernetes)
    }

    fn of(kind: Kind) -> Option<Engine> {
        let needs: &[(&str, &str)] = match kind {
            Kind::Plain => &[CONTAINERD],
            Kind::Kubernetes => &[CONTAINERD, NETWORKS, GRPC],
        };
        if let Some((_, package)) = needs.iter().find(|(path, _)| !Path::new(path).exists()) {
            skip(&format!(
                "needs {package} (Debian: apt-get install {package})"
            ));
            return None;
        }
        let world = World::with_real_kernel()?;
        let shim = install_shim(world.path());
        let directory = world.path().display().to_string();
        let mut text =
            format!("version = 2\nroot = \"{directory}/root\"\nstate = \"{directory}/state\"\n");
        text += &match kind {
            Kind::Plain => "disabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n".to_owned(),
            Kind::Kubernetes => pods(world.path()),
        };
        text += &format!("[grpc]\naddress = \"{directory}/sock\"\n");
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
        let namespace: &[&str] = match kind {
            Kind::Plain => &[],
            Kind::Kubernetes => &["-n", "k8s.io"],
        };
        let archive = busybox::archive(&engine.world.path().join("image")).unwrap();
        let import = ["image", "import", &archive.display().to_string()];
        engine.ctr(&[namespace, &import].concat()).ok();
        Some(engine)
    }

    /// Starts containerd, and waits until it answers.
    pub fn begin(&mut self) {
        let mut containerd = Command::new("unshare");
        let path = std::env::var("PATH").unwrap_or_default();
        let sbin = self.shim.parent().unwrap().display();
        containerd.env("PATH", format!("{sbin}:{path}"));
        let script = "ip link set lo up; exec containerd -c \"$0\"";
        containerd.args(["--net", "sh", "-c", script]);
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
    pub fn kill(&mut self) {
        let mut containerd = self.containerd.take().unwrap();
        containerd.kill().unwrap();
        containerd.wait().unwrap();
    }

    /// `ctr` with these words, to be run.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut ctr = Command::new("timeout");
        ctr.args(["120", "ctr", "-a"])
            .arg(self.world.path().join("sock"))
            .args(words);
        ctr
    }

    /// Runs `ctr` with these words.
    pub fn ctr(&self, words: &[&str]) -> Outcome {
        run(&mut self.command(words))
    }

    /// Runs `umladmin` with these words, and the configuration of the shim.
    pub fn umladmin(&self, words: &[&str]) -> Outcome {
        let mut umladmin = Command::new(program("umladmin"));
        run(umladmin.args(["-config", &self.configuration]).args(words))
    }

    /// `ctr run` with these options, of this container.
    pub fn run_words<'a>(
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
    pub fn once(&self, options: &[&str], command: &[&str]) -> Outcome {
        let options = [&["--rm"], options].concat();
        self.ctr(&self.run_words(&options, "once", command))
    }

    /// The state of a container.
    pub fn state(&self, id: &str) -> String {
        let listed = self.ctr(&["task", "list"]).ok();
        let mut rows = listed.lines().map(str::split_whitespace);
        let row = rows.find_map(|mut row| (row.next() == Some(id)).then_some(row));
        row.and_then(|mut row| row.nth(1))
            .unwrap_or_default()
            .to_owned()
    }

    /// The server of the pod that begins with this container.
    pub fn server(&self, id: &str) -> Pid {
        self.shim_with(|words, _| words.get(1..5) == Some(&["-namespace", "default", "-id", id]))
            .expect("a server")
    }

    /// The process of this server that has this argument, if there is one.
    pub fn beside_server(&self, server: Pid, argument: &str) -> Option<Pid> {
        self.shim_with(|words, path| {
            let status = fs::read_to_string(path.join("status")).unwrap_or_default();
            let parent = format!("PPid:\t{}\n", server.as_raw_nonzero());
            words.get(1) == Some(&argument) && status.contains(&parent)
        })
    }

    /// The directory of the VM of the pod that begins with this container.
    fn vm(&self, id: &str) -> PathBuf {
        let vms = self.world.path().join("var-containerd/vms");
        let mut vms = fs::read_dir(vms).unwrap().flatten().map(|vm| vm.path());
        let name = format!("default/{id}");
        let found = vms.find(|vm| fs::read_to_string(vm.join("pod")).is_ok_and(|it| it == name));
        found.expect(id)
    }

    /// The monitor of its VM.
    pub fn monitor(&self, id: &str) -> Pid {
        let pid = fs::read_to_string(self.vm(id).join("run/pod.pid")).unwrap();
        Pid::from_raw(pid.trim().parse().unwrap()).unwrap()
    }

    /// The kernel of its VM.
    pub fn kernel(&self, id: &str) -> Pid {
        let record = fs::read_to_string(self.vm(id).join("var/pod/run")).unwrap();
        let record: Value = serde_json::from_str(&record).unwrap();
        let pid = record["kernel"].as_i64().unwrap().try_into().unwrap();
        Pid::from_raw(pid).unwrap()
    }

    /// The process of the shim of which this is true, by its words and its directory in `/proc`.
    fn shim_with(&self, is_it: impl Fn(&[&str], &Path) -> bool) -> Option<Pid> {
        let processes = fs::read_dir("/proc").unwrap().flatten();
        let mut found = processes.filter_map(|entry| {
            let path = entry.path();
            let is_shim = fs::read_link(path.join("exe")).ok()? == self.shim;
            let words = fs::read_to_string(path.join("cmdline")).ok()?;
            let words: Vec<&str> = words.split('\0').collect();
            let pid = entry.file_name().to_str()?.parse().ok()?;
            (is_shim && is_it(&words, &path)).then(|| Pid::from_raw(pid))?
        });
        found.next()
    }

    /// A call of a kubelet, and its answer.
    ///
    /// # Errors
    /// What the engine says if it cannot carry it out.
    pub fn call(&self, method: &str, request: &Value) -> Result<Value, String> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("cri/call.py");
        let mut python = Command::new("/usr/bin/python3");
        python
            .arg(script)
            .arg(self.world.path().join("sock"))
            .arg(method);
        python
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut python = python.spawn().unwrap();
        python
            .stdin
            .take()
            .unwrap()
            .write_all(request.to_string().as_bytes())
            .unwrap();
        let said = python.wait_with_output().unwrap();
        match said.status.success() {
            true => Ok(serde_json::from_slice(&said.stdout).unwrap()),
            false => Err(String::from_utf8_lossy(&said.stderr).into_owned()),
        }
    }

    /// A command in the network of this containerd.
    pub fn in_network(&self, words: &[&str]) -> Outcome {
        let pid = self.containerd.as_ref().unwrap().id();
        run(Command::new("nsenter")
            .arg(format!("--net=/proc/{pid}/ns/net"))
            .args(words))
    }

    /// What VMs have left.
    pub fn vms(&self) -> usize {
        let vms = self.world.path().join("var-containerd/vms");
        fs::read_dir(vms).map_or(0, Iterator::count)
    }
}

/// The configuration of what Kubernetes calls. The address of a pod is in the network of this containerd alone.
fn pods(directory: &Path) -> String {
    let networks = directory.join("networks");
    fs::create_dir(&networks).unwrap();
    let shown = directory.display();
    let network = format!(
        r#"{{"cniVersion":"0.4.0","name":"pods","plugins":[{{"type":"bridge","bridge":"pods","isGateway":true,
            "ipam":{{"type":"host-local","subnet":"10.88.0.0/24","dataDir":"{shown}/addresses",
                "routes":[{{"dst":"0.0.0.0/0"}}]}}}}]}}"#
    );
    fs::write(networks.join("pods.conflist"), network).unwrap();
    format!(
        "[plugins.\"io.containerd.grpc.v1.cri\"]\nsandbox_image = \"{IMAGE}\"\n\
         [plugins.\"io.containerd.grpc.v1.cri\".cni]\nbin_dir = \"/usr/lib/cni\"\nconf_dir = \"{shown}/networks\"\n\
         [plugins.\"io.containerd.grpc.v1.cri\".containerd]\ndefault_runtime_name = \"uml\"\n\
         [plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.uml]\nruntime_type = \"io.containerd.uml.v2\"\n\
         pod_annotations = [\"umlmon.mem\"]\n\
         [plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.uml.options]\nConfigPath = \"{shown}/umlmon\"\n"
    )
}

impl Drop for Engine {
    fn drop(&mut self) {
        if std::thread::panicking() {
            show_end(&self.world.path().join("containerd.log"));
        }
        if let Some(mut containerd) = self.containerd.take() {
            let _ = containerd.kill();
            let _ = containerd.wait();
        }
    }
}
