//! The web interface, used by a browser: how long the way of a key to its echo is, and what a wall of a hundred running
//! VMs costs (cargo xtask bench).

use std::fs::{self, Permissions};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use rustix::process::{Pid, Signal, kill_process};
use xtask::browse::browse;

use super::installation::{self, Installation};
use super::many::{name, others};
use super::report::Figure;
use super::subject::{Subject, program};
use crate::steps::output;

pub(super) const SUBJECT: Subject = Subject {
    name: "web",
    metrics: &["web-echo", "web-wall"],
    packages: &["chromium"],
    measure,
};

const VMS: usize = 100;
/// In so many of them something happens, once a second.
const BUSY: usize = 10;
/// For how long the wall is watched.
const WATCHED: Duration = Duration::from_secs(20);
/// How long a daemon may take to end.
const PATIENCE: Duration = Duration::from_secs(10);

const MASTER: &str = "the master of all";

fn measure() -> anyhow::Result<Vec<Figure>> {
    crate::web::install()?;
    let ports = [free_port()?, free_port()?, free_port()?];
    let [asking, redirector, web] = ports;
    let global = format!(
        "tcp_redir = true\nlisten = 127.0.0.1\numldir_port = {asking}\numlredir_port = {redirector}\n\
         web_user = daemon\nweb_listen = 127.0.0.1:{web}\npassword = {MASTER}\n"
    );
    let kernel = program("fake_linux");
    let sections = others(
        VMS,
        "vmuser = nobody\nlogfile = monitor\nkernel = /shared/kernels/fake_linux\nmem = 64\ncon0 = pty:con0\n",
    );
    installation::with_global(&kernel, &global, &sections, |installation| {
        // Other users than root must reach the sockets in it.
        fs::set_permissions(installation.path(), Permissions::from_mode(0o755))?;
        output(&mut installation.command("umladmin", &["start"]))?;
        output(&mut installation.command("umladmin", &["boot", "*"]))?;
        let _daemons = Daemons::start(installation)?;
        let (mut echo, mut wall) = (None, None);
        let address = format!("http://127.0.0.1:{web}");
        browse(
            "bench.mjs",
            &[&VMS.to_string()],
            &address,
            MASTER,
            |order| {
                match order.split_once(' ') {
                    Some(("echo", taken)) => echo = Some(taken.parse::<f64>()?),
                    _ => wall = Some(watch(installation)?),
                }
                Ok(())
            },
        )?;
        Ok(vec![
            Figure::alone("web-echo", "ms", echo.context("no echo was measured")?),
            Figure::alone("web-wall", "ms", wall.context("no wall was measured")?),
        ])
    })
}

/// How much processor time umlweb takes for each second of the wall, in milliseconds.
fn watch(installation: &Installation) -> anyhow::Result<f64> {
    let mut consoles = Vec::new();
    for n in 1..=BUSY {
        consoles.push(installation.console_of(&name(n))?);
    }
    let pid = number_in(&installation.run_directory().join("_umlweb.pid"))?;
    let (begun, before) = (Instant::now(), processor_time(pid)?);
    while begun.elapsed() < WATCHED {
        std::thread::sleep(Duration::from_secs(1));
        for console in &mut consoles {
            console.send("something happens\n")?;
        }
    }
    Ok((processor_time(pid)? - before) / begun.elapsed().as_secs_f64())
}

/// What a process has used, in milliseconds (proc_pid_stat(5)).
fn processor_time(pid: Pid) -> anyhow::Result<f64> {
    let path = format!("/proc/{}/stat", pid.as_raw_nonzero());
    let text = fs::read_to_string(&path).context("umlweb has ended")?;
    // Behind the name, which can be anything.
    let (_, fields) = text.rsplit_once(") ").context("no fields")?;
    let ticks = fields.split(' ').skip(11).take(2).map(str::parse::<f64>);
    // A tick is a hundredth of a second.
    Ok(ticks.sum::<Result<f64, _>>().context("no number")? * 10.0)
}

fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

fn number_in(path: &PathBuf) -> anyhow::Result<Pid> {
    let text = fs::read_to_string(path).context("there is no pid file")?;
    let number = text.trim().parse().context("it has no number")?;
    Pid::from_raw(number).context("it has no number")
}

/// umldir and umlweb, ended with the value.
struct Daemons([PathBuf; 2]);

impl Daemons {
    fn start(installation: &Installation) -> anyhow::Result<Daemons> {
        let run = installation.run_directory();
        let daemons = Daemons(["_umlweb.pid", "directory.pid"].map(|name| run.join(name)));
        for program in ["umldir", "umlweb"] {
            output(&mut installation.command(program, &[]))?;
        }
        Ok(daemons)
    }
}

impl Drop for Daemons {
    fn drop(&mut self) {
        for pid in self.0.iter().filter_map(|path| number_in(path).ok()) {
            // It may have ended already.
            let _ = kill_process(pid, Signal::TERM);
            let proc = PathBuf::from(format!("/proc/{}", pid.as_raw_nonzero()));
            let until = Instant::now() + PATIENCE;
            while proc.exists() && Instant::now() < until {
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    }
}
