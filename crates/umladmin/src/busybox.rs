//! The host's busybox, which small guests consist of (umladmin).

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use jail::{Needs, Program};

/// Where it is on the host, and below the root directory of a guest.
pub(crate) const BUSYBOX: &str = "bin/busybox";

/// What is put into a guest.
pub(crate) struct Busybox {
    /// The program.
    pub(crate) program: PathBuf,
    /// Its libraries and where it expects them; none if it is static.
    pub(crate) libraries: Vec<(PathBuf, PathBuf)>,
    /// What it can be called as, as paths below the root directory, itself among them.
    pub(crate) names: Vec<PathBuf>,
}

impl Busybox {
    /// Finds it. `instead` is what else can be done without it.
    pub(crate) fn find(what: &str, instead: &str) -> Result<Busybox, String> {
        let program = Path::new("/").join(BUSYBOX);
        let cannot_run = |why: &dyn std::fmt::Display| {
            let shown = program.display();
            format!(
                "{shown} is what {what} consists of, but it cannot be run: {why}; install it (Debian: apt install \
                 busybox-static){instead}"
            )
        };
        let mut list = Command::new(&program);
        let list = list.arg("--list-full").stdin(Stdio::null()).output();
        let list = list.map_err(|error| cannot_run(&error))?;
        if !list.status.success() {
            return Err(cannot_run(&list.status));
        }
        let found = Program::on_host(&program).map_err(|error| cannot_run(&error))?;
        let libraries = jail::libraries(&found, &Needs::read);
        Ok(Busybox {
            libraries: libraries.map_err(|error| cannot_run(&error))?,
            names: String::from_utf8_lossy(&list.stdout)
                .lines()
                .map(PathBuf::from)
                .collect(),
            program,
        })
    }
}
