//! Containers of containerd in VMs, against those of runc: how long one takes, and the memory of what watches over it
//! (cargo xtask bench).

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use tempfile::TempDir;
use xtask::busybox::{self, IMAGE};

use super::guest::settings;
use super::installation::{PATIENCE, directory, nothing_left};
use super::memory;
use super::report::Figure;
use super::stats::{self, Pairs};
use super::subject::{Ending, Subject, run_time};
use crate::programs;
use crate::steps::output;

pub(super) const SUBJECT: Subject = Subject {
    name: "containers",
    metrics: &["container-start", "container-memory"],
    packages: &["containerd", "runc", "busybox-static"],
    measure,
};

const ROUNDS: usize = 15;
/// How many containers are there when memory is measured: each has its share in programs.
const MANY: usize = 5;
/// For what a process does after its start.
const SETTLED: Duration = Duration::from_secs(1);

fn measure() -> anyhow::Result<Vec<Figure>> {
    let engine = Engine::start()?;
    // The first ones make the image, and warm the caches.
    engine.once(Runtime::Ours)?;
    engine.once(Runtime::Runc)?;
    let start = stats::alternate(
        ROUNDS,
        || engine.once(Runtime::Ours),
        || engine.once(Runtime::Runc),
    )?;
    let memory = Pairs {
        ours: engine.memory(Runtime::Ours)?,
        peer: engine.memory(Runtime::Runc)?,
    };
    let path = engine.directory.path().to_owned();
    drop(engine.containerd);
    nothing_left(&path)?;
    Ok(vec![
        Figure::of_pairs("container-start", "ms", &start)?,
        Figure::of_pairs("container-memory", "KB", &memory)?,
    ])
}

/// What runs containers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Runtime {
    Ours,
    Runc,
}

/// A containerd of its own.
struct Engine {
    directory: TempDir,
    containerd: Ending,
}

impl Engine {
    fn start() -> anyhow::Result<Engine> {
        let directory = directory()?;
        let path = directory.path();
        install(path)?;
        let own = path.display();
        let toml = format!(
            "version = 2\nroot = \"{own}/root\"\nstate = \"{own}/state\"\n\
             disabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n[grpc]\naddress = \"{own}/sock\"\n"
        );
        fs::write(path.join("containerd.toml"), toml)?;
        let mut containerd = Command::new("containerd");
        let search = std::env::var("PATH").unwrap_or_default();
        containerd.env("PATH", format!("{own}/sbin:{search}"));
        containerd.arg("-c").arg(path.join("containerd.toml"));
        containerd.stdin(Stdio::null()).stdout(Stdio::null());
        containerd.stderr(fs::File::create(path.join("containerd.log"))?);
        let containerd = containerd.process_group(0).spawn();
        let engine = Engine {
            containerd: Ending(containerd.context("cannot run containerd")?),
            directory,
        };
        let until = Instant::now() + PATIENCE;
        while output(engine.ctr().arg("version")).is_err() {
            ensure!(Instant::now() < until, "containerd does not answer");
            sleep(Duration::from_millis(50));
        }
        let archive = busybox::archive(&engine.directory.path().join("image"))?;
        output(engine.ctr().args(["image", "import"]).arg(archive))?;
        Ok(engine)
    }

    fn ctr(&self) -> Command {
        let mut ctr = Command::new("ctr");
        ctr.arg("-a").arg(self.directory.path().join("sock"));
        ctr
    }

    /// `ctr run` with these options.
    fn run(&self, runtime: Runtime, options: &[&str]) -> Command {
        let mut ctr = self.ctr();
        ctr.arg("run").args(options);
        if runtime == Runtime::Ours {
            let configuration = self.directory.path().join("umlmon");
            ctr.args(["--runtime", "io.containerd.uml.v2"]);
            ctr.arg("--runtime-config-path").arg(configuration);
        }
        ctr.arg(IMAGE);
        ctr
    }

    /// How many milliseconds a container takes that does nothing.
    fn once(&self, runtime: Runtime) -> anyhow::Result<f64> {
        run_time(self.run(runtime, &["--rm"]).args(["once", "true"]))
    }

    /// How many KB the processes take that watch over each of some containers, without those of the containers.
    fn memory(&self, runtime: Runtime) -> anyhow::Result<Vec<f64>> {
        let names: Vec<String> = (0..MANY).map(|n| format!("c{n}")).collect();
        for name in &names {
            output(self.run(runtime, &["-d"]).args([name, "sleep", "1000"]))?;
        }
        sleep(SETTLED);
        let all = watchers(self.directory.path(), runtime)?;
        for name in &names {
            // It complains of the signal.
            let _ = output(self.ctr().args(["task", "rm", "-f", name]));
            output(self.ctr().args(["container", "rm", name]))?;
        }
        #[allow(clippy::cast_precision_loss)] // there are few
        Ok(vec![all / names.len() as f64; names.len()])
    }
}

/// How many KB all processes take that watch over containers.
fn watchers(directory: &Path, runtime: Runtime) -> anyhow::Result<f64> {
    let mut all = 0.0;
    for entry in fs::read_dir("/proc")
        .context("cannot read /proc")?
        .flatten()
    {
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        let program = fs::read_link(entry.path().join("exe")).unwrap_or_default();
        let is_one = match runtime {
            Runtime::Ours => program.starts_with(directory.join("sbin")),
            Runtime::Runc => {
                let words = fs::read_to_string(entry.path().join("cmdline")).unwrap_or_default();
                program.ends_with("containerd-shim-runc-v2")
                    && words.contains(&*directory.to_string_lossy())
            }
        };
        if is_one {
            all += memory::of(pid)?.pss;
        }
    }
    ensure!(all > 0.0, "there are no processes of {runtime:?}");
    Ok(all)
}

/// The programs as they are installed, our kernel, and a configuration.
fn install(path: &Path) -> anyhow::Result<()> {
    let kernel = settings::our_kernel().unwrap_or_else(|_| "/usr/bin/linux.uml".into());
    println!("the kernel is {}", kernel.display());
    programs::copy_released(path)?;
    let kernels = path.join("var/shared/kernels");
    fs::create_dir_all(&kernels)?;
    let name = kernel.file_name().context("the kernel has no name")?;
    fs::copy(&kernel, kernels.join(name)).context("cannot copy the kernel")?;
    let own = path.display();
    let text = format!(
        "[GLOBAL]\nvardir = {own}/var\nrundir = {own}/run\n[template containerd]\nmem = 96\n"
    );
    fs::write(path.join("umlmon"), text).context("cannot write the configuration")
}
