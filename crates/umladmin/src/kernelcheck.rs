//! `umladmin kernelcheck FILE`: boots a tiny guest under a kernel in a real jail, and reports what works (umladmin).
//!
//! The jail, its monitor and its disks are in a temporary directory; nothing of the host's configuration is used or
//! changed. The guest's init is this program itself, see `guest`.

mod boot;
pub(crate) mod guest;
mod image;
mod installation;
mod memory;
mod network;
mod pattern;
mod talk;
mod trial;
mod trials;
mod watch;

use std::fs::File;
use std::path::Path;

use cli::{Exit, Failure};
use net::Drivers;
use serde_json::{Value, json};

use crate::report::{Report, table};
use installation::Installation;
use trial::{Found, Trial, Verdict};
use watch::Watch;

pub(crate) fn run(kernel: &Path, as_json: bool) -> Result<Exit, Failure> {
    if !rustix::process::geteuid().is_root() {
        return Err(Failure::new(
            Exit::NotAuthorised,
            "kernelcheck must be run by root: it makes a jail, and starts a VM in it as another user",
        ));
    }
    let watch =
        Watch::begin().map_err(|error| Failure::from(error).about("cannot watch for Ctrl-C"))?;
    let about = |error: String| Failure::new(Exit::Failed, error).about(kernel.display());
    let mut rows = vec![Trial::of("kernel", identify(kernel))];
    if !has_failed(&rows) {
        rows.push(Trial::of("libraries", libraries(kernel)));
        rows.push(Trial::of("networks", networks(kernel)));
    }
    if !has_failed(&rows) {
        // The interfaces of the trial must not be in the network of the host.
        net::leave_host().map_err(|error| Failure::from(error).about("cannot make a network"))?;
        // When this is over, nothing of it is left.
        let tried = drivers(kernel).and_then(|drivers| {
            let installation = Installation::make(kernel, &watch)?;
            trials::all(&installation, drivers)
        });
        if watch.is_over() {
            return Err(about("interrupted; everything was removed".into()));
        }
        rows.extend(tried.map_err(about)?);
    }
    let report = Report::new();
    if as_json {
        let all: Vec<Value> = rows.iter().map(Trial::json).collect();
        report.print(&format!(
            "{:#}\n",
            json!({"kernel": kernel, "results": all})
        ))?;
    } else {
        let cells = rows
            .iter()
            .map(|row| [row.what, row.verdict.word(), &row.found].map(str::to_owned));
        report.print(&table(cells))?;
    }
    match has_failed(&rows) {
        false => Ok(Exit::Done),
        true => Ok(Exit::Failed),
    }
}

fn has_failed(rows: &[Trial]) -> bool {
    rows.iter().any(|row| row.verdict == Verdict::Fails)
}

/// Whether the file is a kernel at all.
fn identify(kernel: &Path) -> Found {
    let is_uml = File::open(kernel).and_then(net::is_uml);
    match is_uml.map_err(|error| format!("cannot read {}: {error}", kernel.display()))? {
        true => Ok("a User Mode Linux kernel".into()),
        false => Err(format!(
            "{} is not a User Mode Linux kernel, which is a program of its own (Debian: package user-mode-linux)",
            kernel.display()
        )),
    }
}

/// The loader and the libraries that the kernel needs.
fn libraries(kernel: &Path) -> Found {
    let found = jail::libraries(kernel).map_err(|error| error.to_string())?;
    let names = found.iter().map(|(path, _)| path.display().to_string());
    Ok(match found.is_empty() {
        true => "none, it is statically linked".to_owned(),
        false => names.collect::<Vec<_>>().join(", "),
    })
}

/// The network drivers of the kernel, by what is in its file.
fn drivers(kernel: &Path) -> Result<Drivers, String> {
    let drivers = File::open(kernel).and_then(Drivers::of);
    drivers.map_err(|error| error.to_string())
}

fn networks(kernel: &Path) -> Found {
    match drivers(kernel)? {
        Drivers {
            vec: true,
            eth: true,
        } => Ok("vec (the guest sees vec0), and eth (the guest sees eth0)".into()),
        Drivers { vec: true, .. } => Ok("vec (the guest sees vec0)".into()),
        Drivers { eth: true, .. } => Ok("eth (the guest sees eth0)".into()),
        Drivers { .. } => Err(
            "no network driver is in this kernel: it was compiled without CONFIG_UML_NET_VECTOR"
                .into(),
        ),
    }
}
