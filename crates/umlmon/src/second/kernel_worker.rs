//! The process that looks at a kernel: it becomes the VM's user in the jail, says what the file is and needs, and ends
//! (umlmon, the child process; this file is what it does after `worker.rs`).
//!
//! The file may belong to any user, and its content may take over the process. So the process can only read what the
//! VM's user can read, and the monitor trusts none of its results.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::ExitCode;

use jail::{Features, Inspection, LIBRARIES, Needs, Program};
use rustix::fs::{CWD, Mode, OFlags, openat};

use crate::second::orders::{Failed, FromLooker, LookOrder, Looked, confine, report};

/// Looks, for the exit status of the process.
pub(crate) fn look(pipe: &OwnedFd, order: &LookOrder) -> ExitCode {
    let looked = match confine(&order.confinement, Vec::new()) {
        Ok(()) => inspect(order),
        Err(Failed { step, error }) => Err(format!("{step}: {error}")),
    };
    let (last, status) = match looked {
        Ok(looked) => (FromLooker::Looked(Box::new(looked)), ExitCode::SUCCESS),
        Err(why) => (FromLooker::Failed(why), ExitCode::FAILURE),
    };
    report(pipe, &last);
    status
}

fn inspect(order: &LookOrder) -> Result<Looked, String> {
    let directory = |path: &str| {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        openat(CWD, path, flags, Mode::empty())
            .map_err(|error| format!("cannot open {path}: {error}"))
    };
    let kernel = Path::new(&order.kernel);
    let (root, libraries) = (directory("/")?, directory(LIBRARIES)?);
    let program = Program::in_jail(&root, kernel, &order.account);
    let program = program.map_err(|error| error.to_string())?;
    let inspection = Inspection::make(&program, &libraries, &Needs::read);
    let inspection = inspection.map_err(|error| error.to_string())?;
    let features = match order.features {
        true => Features::of(program.file())
            .map_err(|error| format!("cannot read {}: {error}", order.kernel))?,
        false => Features::default(),
    };
    Ok(Looked {
        inspection,
        features,
    })
}
