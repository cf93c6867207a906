//! The web interface, used by a browser: how long the way of a key to its echo is, and what a wall of a hundred running
//! VMs costs (cargo xtask bench).

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use rustix::process::Signal;
use xtask::browse::browse;

use super::conserver::signal;
use super::console::processor_time;
use super::installation::{self, Installation};
use super::many::{name, others};
use super::redirectors::free_port;
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
    let umlweb = [installation.daemon("_umlweb")?];
    let (begun, before) = (Instant::now(), processor_time(&umlweb)?);
    while begun.elapsed() < WATCHED {
        std::thread::sleep(Duration::from_secs(1));
        for console in &mut consoles {
            console.send("something happens\n")?;
        }
    }
    Ok((processor_time(&umlweb)? - before) / begun.elapsed().as_secs_f64())
}

/// umldir and umlweb, ended with the value.
struct Daemons<'i>(&'i Installation);

impl Daemons<'_> {
    fn start(installation: &Installation) -> anyhow::Result<Daemons<'_>> {
        let daemons = Daemons(installation);
        for program in ["umldir", "umlweb"] {
            output(&mut installation.command(program, &[]))?;
        }
        Ok(daemons)
    }
}

impl Drop for Daemons<'_> {
    fn drop(&mut self) {
        for pid in ["_umlweb", "directory"].map(|name| self.0.daemon(name)) {
            let Ok(pid) = pid else { continue };
            // It may have ended already.
            let _ = signal(pid, Signal::TERM);
            let proc = PathBuf::from(format!("/proc/{pid}"));
            let until = Instant::now() + PATIENCE;
            while proc.exists() && Instant::now() < until {
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    }
}
