//! How long the shortest command of a user takes, against virsh and against doing nothing (cargo xtask bench).

use std::process::Command;

use super::installation;
use super::report::Figure;
use super::stats;
use super::subject::{Subject, program, run_time};
use crate::steps::output;

pub(super) const SUBJECT: Subject = Subject {
    name: "cli",
    metrics: &["cli-virsh", "cli-true"],
    packages: &["libvirt-clients"],
    measure,
};

const ROUNDS: usize = 200;

fn measure() -> anyhow::Result<Vec<Figure>> {
    let lines = "con1 = pty\n";
    installation::with(&program("fake_linux"), lines, |installation| {
        output(&mut installation.umlwatch(&["-start"]))?;
        let ours = || run_time(&mut installation.umlwatch(&["-info"]));
        // The test driver is in virsh's own process: there is no daemon that it has to talk to, as umlwatch has.
        let virsh = || run_time(Command::new("virsh").args(["-c", "test:///default", "list"]));
        let nothing = || run_time(&mut Command::new("/bin/true"));
        Ok(vec![
            Figure::of_pairs("cli-virsh", "ms", &stats::alternate(ROUNDS, ours, virsh)?)?,
            Figure::of_pairs("cli-true", "ms", &stats::alternate(ROUNDS, ours, nothing)?)?,
        ])
    })
}
