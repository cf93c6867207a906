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
mod settings;
mod talk;
mod trial;
mod trials;
mod userspace;
mod watch;

use std::path::{Path, PathBuf};
use std::thread;

use cli::{Exit, Failure};
use jail::{Features, Program};
use serde_json::{Value, json};

use crate::report::{Report, table};
use installation::Installation;
use monitors::look;
use settings::Settings;
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
    let program = Program::on_host(kernel).map_err(|error| error.to_string());
    let features = program.as_ref().map_err(Clone::clone);
    let features = features.and_then(|program| look::features(program, kernel));
    let mut rows = vec![Trial::of("kernel", identify(&features, kernel))];
    let mut looked = None;
    if let (false, Ok(program)) = (has_failed(&rows), &program) {
        let libraries = look::libraries(program);
        rows.push(Trial::of("libraries", named(&libraries)));
        rows.push(Trial::of("networks", networks(&features)));
        rows.extend(features.as_ref().ok().map(flush));
        looked = libraries.ok().zip(features.ok()).map(|it| (program, it));
    }
    if let (false, Some((program, (libraries, features)))) = (has_failed(&rows), looked) {
        // The interfaces of the trial must not be in the network of the host.
        net::leave_host().map_err(|error| Failure::from(error).about("cannot make a network"))?;
        // When this is over, nothing of it is left.
        let tried = Installation::make(program, &libraries, &watch)
            .and_then(|installation| trials::all(&installation, features));
        if watch.is_over() {
            return Err(about("interrupted; everything was removed".into()));
        }
        rows.extend(tried.map_err(about)?);
    }
    let processors = thread::available_parallelism().map_or(1, usize::from);
    let settings = (!has_failed(&rows)).then(|| Settings::of(&rows, processors));
    let text = match as_json {
        true => json_of(kernel, &rows, settings.as_ref()),
        false => text_of(&rows, settings.as_ref()),
    };
    Report::new().print(&text)?;
    match has_failed(&rows) {
        false => Ok(Exit::Done),
        true => Ok(Exit::Failed),
    }
}

fn json_of(kernel: &Path, rows: &[Trial], settings: Option<&Settings>) -> String {
    let results: Vec<Value> = rows.iter().map(Trial::json).collect();
    let settings = settings.map(Settings::json);
    let all = json!({"kernel": kernel, "results": results, "settings": settings});
    format!("{all:#}\n")
}

fn text_of(rows: &[Trial], settings: Option<&Settings>) -> String {
    let cells = |row: &Trial| [row.what, row.verdict.word(), &row.found].map(str::to_owned);
    let results = table(rows.iter().map(cells));
    match settings {
        Some(settings) => format!("{results}\n{}", settings.text()),
        None => results,
    }
}

fn has_failed(rows: &[Trial]) -> bool {
    rows.iter().any(|row| row.verdict == Verdict::Fails)
}

/// Whether the file is a kernel at all.
fn identify(features: &Result<Features, String>, kernel: &Path) -> Found {
    match features.clone()?.uml {
        true => Ok("a User Mode Linux kernel".into()),
        false => Err(format!(
            "{} is not a User Mode Linux kernel, which is a program of its own (Debian: package user-mode-linux)",
            kernel.display()
        )),
    }
}

type Libraries = Vec<(PathBuf, PathBuf)>;

/// The loader and the libraries that the kernel needs.
fn named(libraries: &Result<Libraries, String>) -> Found {
    let found = libraries.as_ref().map_err(Clone::clone)?;
    let names = found.iter().map(|(path, _)| path.display().to_string());
    Ok(match found.is_empty() {
        true => "none, it is statically linked".to_owned(),
        false => names.collect::<Vec<_>>().join(", "),
    })
}

/// Whether a VM can do without synchronous disks; what the kernel says of that can only be tried with a power cut.
fn flush(features: &Features) -> Trial {
    match features.flush {
        true => Trial::of("flush", Ok("what the guest has flushed is safe".into())),
        false => Trial::lacking(
            "flush",
            "what the guest flushes is not on the host's disk: disks are synchronous instead, which is slow",
        ),
    }
}

fn networks(features: &Result<Features, String>) -> Found {
    match features.clone()? {
        Features {
            vec: true,
            eth: true,
            ..
        } => Ok("vec (the guest sees vec0), and eth (the guest sees eth0)".into()),
        Features { vec: true, .. } => Ok("vec (the guest sees vec0)".into()),
        Features { eth: true, .. } => Ok("eth (the guest sees eth0)".into()),
        Features { .. } => Err(
            "no network driver is in this kernel: it was compiled without CONFIG_UML_NET_VECTOR"
                .into(),
        ),
    }
}
