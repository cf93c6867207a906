//! A Docker of a test's own, with our shim, in namespaces of its own (the end-to-end tests). See `tests/docker.rs`.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use serde_json::json;
use xtask::busybox::{self, IMAGE};

use crate::host::install_shim;
use crate::network::{ip, ip_of};
use crate::world::show_end;
use crate::{Outcome, World, run, run_within, skip, wait_for};

/// How long a command may take: one of Swarm waits for others.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(120);

/// What the engines need of this host; they are of a newer release than it.
pub struct Engines {
    /// Where all files are.
    pub world: World,
    /// The directory in which the packages of the engines were unpacked.
    packages: PathBuf,
    shim: PathBuf,
    /// The files of the image.
    layer: PathBuf,
}

impl Engines {
    /// None, and the test is noted as skipped, where they are not to be had.
    ///
    /// # Panics
    /// If files cannot be written.
    pub fn new() -> Option<Engines> {
        let Some(packages) = std::env::var_os("UMLMON_TEST_ENGINES") else {
            skip("needs UMLMON_TEST_ENGINES (`cargo xtask test --tier docker` sets it)");
            return None;
        };
        let world = World::with_real_kernel()?;
        Some(Engines {
            packages: packages.into(),
            shim: install_shim(world.path()),
            layer: busybox::layer(&world.path().join("image")).unwrap(),
            world,
        })
    }

    /// The search path of the engines.
    fn path(&self) -> String {
        let own = self.shim.parent().unwrap().display();
        let packages = self.packages.display();
        let path = std::env::var("PATH").unwrap_or_default();
        format!("{own}:{packages}/usr/bin:{packages}/usr/sbin:{path}")
    }
}

/// A host with containerd and dockerd. All of its processes end at once.
pub struct Docker<'a> {
    engines: &'a Engines,
    directory: PathBuf,
    /// The last part of its address, if it has neighbours.
    number: Option<u8>,
    /// `unshare`, with which everything ends.
    process: Option<Child>,
}

impl<'a> Docker<'a> {
    /// One host, whose containers have the network that Docker makes for them.
    ///
    /// # Panics
    /// If it does not start.
    pub fn alone(engines: &'a Engines) -> Docker<'a> {
        Docker::of(engines, None)
    }

    /// One of some hosts, with the address `10.77.0.NUMBER` on the bridge `hosts` of this thread's network.
    ///
    /// # Panics
    /// If it does not start.
    pub fn node(engines: &'a Engines, number: u8) -> Docker<'a> {
        Docker::of(engines, Some(number))
    }

    fn of(engines: &'a Engines, number: Option<u8>) -> Docker<'a> {
        let directory = format!("n{}", number.unwrap_or_default());
        let directory = engines.world.path().join(directory);
        fs::create_dir(&directory).unwrap();
        let mut docker = Docker {
            engines,
            directory,
            number,
            process: None,
        };
        docker.configure();
        docker.boot();
        let layer = engines.layer.display().to_string();
        let import = ["import", "--change", "ENV PATH=/bin", &layer, IMAGE];
        docker.run(&import).ok();
        docker
    }

    fn configure(&self) {
        let own = self.directory.display();
        let mut daemon = json!({
            "data-root": format!("{own}/docker"), "exec-root": format!("{own}/exec"),
            "pidfile": format!("{own}/dockerd.pid"), "hosts": [format!("unix://{own}/docker.sock")],
            "containerd": format!("{own}/containerd.sock"), "default-runtime": "uml",
            "runtimes": {"uml": {
                "runtimeType": "io.containerd.uml.v2",
                "options": {"TypeUrl": "", "ConfigPath": format!("{own}/umlmon")}
            }},
        });
        if self.number.is_some() {
            for (name, value) in [
                ("bridge", json!("none")),
                ("iptables", json!(false)),
                ("ip6tables", json!(false)),
            ] {
                daemon[name] = value;
            }
        }
        let containerd = format!(
            "version = 2\nroot = \"{own}/root\"\nstate = \"{own}/state\"\n\
             disabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n[grpc]\naddress = \"{own}/containerd.sock\"\n"
        );
        let umlmon = format!(
            "[GLOBAL]\nvardir = {own}/var\nrundir = {own}/run\n[template containerd]\nmem = 96\n"
        );
        for (name, text) in [
            ("daemon.json", daemon.to_string()),
            ("containerd.toml", containerd),
            ("umlmon", umlmon),
        ] {
            fs::write(self.directory.join(name), text).unwrap();
        }
    }

    /// Boots the host: starts containerd and dockerd, and waits until they answer.
    ///
    /// # Panics
    /// If they do not.
    pub fn boot(&mut self) {
        let script = "hostname $(basename $0); ip link set lo up; cd $0
            until [ -z \"$1\" ] || ip link show eth0 > /dev/null 2>&1; do sleep 0.05; done
            rm -f *.sock *.pid exec/*.sock; exec >> log 2>&1
            containerd -c containerd.toml &
            until [ -S containerd.sock ]; do sleep 0.05; done
            dockerd --config-file daemon.json";
        let mut unshare = Command::new("unshare");
        unshare.args([
            "--net",
            "--mount",
            "--uts",
            "--pid",
            "--fork",
            "--mount-proc",
        ]);
        unshare.args(["--kill-child=KILL", "sh", "-c", script]);
        let number = self.number.map(|number| number.to_string());
        unshare.arg(&self.directory).arg(number.unwrap_or_default());
        unshare.env("PATH", self.engines.path());
        unshare.stdin(Stdio::null());
        self.process = Some(unshare.spawn().unwrap());
        if let Some(number) = self.number {
            self.plug_in(number);
        }
        wait_for("dockerd", || {
            (self.run(&["version"]).status == Some(0)).then_some(())
        });
    }

    /// Connects the host with the bridge.
    fn plug_in(&self, number: u8) {
        let pid = i32::try_from(self.pid()).unwrap();
        let of = |who: &str| fs::read_link(format!("/proc/{who}/ns/net")).ok();
        let own = of("thread-self");
        wait_for("a namespace", || {
            (of(&pid.to_string()).is_some_and(|it| Some(it) != own)).then_some(())
        });
        // The interface of a host that has been killed goes with its namespace, a moment later.
        run(Command::new("ip").args(["link", "del", &format!("host{number}")]));
        ip(&format!(
            "link add host{number} type veth peer name plug netns {pid}"
        ));
        ip(&format!("link set host{number} master hosts up"));
        for words in [
            format!("addr add 10.77.0.{number}/24 dev plug"),
            "link set plug name eth0".to_owned(),
            "link set eth0 up".to_owned(),
            "route add default dev eth0".to_owned(),
        ] {
            ip_of(pid, &words);
        }
    }

    /// Ends all processes of the host at once.
    ///
    /// # Panics
    /// If that is not possible.
    pub fn kill(&mut self) {
        let mut process = self.process.take().unwrap();
        process.kill().unwrap();
        process.wait().unwrap();
    }

    fn pid(&self) -> u32 {
        self.process.as_ref().unwrap().id()
    }

    /// `docker` with these words, to be run.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut docker = Command::new(self.engines.packages.join("usr/bin/docker"));
        let socket = self.directory.join("docker.sock");
        docker.arg("-H").arg(format!("unix://{}", socket.display()));
        docker.args(words);
        docker
    }

    /// Runs `docker` with these words.
    pub fn run(&self, words: &[&str]) -> Outcome {
        run_within(&mut self.command(words), PATIENCE)
    }

    /// A command in the network of the host.
    pub fn in_network(&self, words: &[&str]) -> Outcome {
        let network = format!("--net=/proc/{}/ns/net", self.pid());
        run(Command::new("nsenter").arg(network).args(words))
    }

    /// The directories of VMs.
    pub fn vms(&self) -> usize {
        let vms = self.directory.join("var-containerd/vms");
        fs::read_dir(vms).map_or(0, Iterator::count)
    }

    /// A file beside those of the engines.
    pub fn file(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }
}

impl Drop for Docker<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            show_end(&self.directory.join("log"));
        }
        if self.process.is_some() {
            self.kill();
        }
    }
}
