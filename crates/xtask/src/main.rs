//! Chores of the repository, run as `cargo xtask NAME`.

mod apt;
mod bench;
mod check;
mod deb;
mod demo;
mod dist;
mod engines;
mod r#gen;
mod install;
mod kernel;
mod kernel_package;
mod kernels;
mod kubernetes;
mod programs;
mod setup;
mod steps;
mod test;
mod trial;
mod web;

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;
use xtask::guest::{self, Login};

const USAGE: &str = "usage: cargo xtask COMMAND
  demo [--keep]                    boots a VM, uses it, shuts it down, and leaves nothing; as root
  test [--kernels] [--tier TIER]   runs all tests; with all of Debian's kernels; only one tier
  bench [NAME...]                  measures ours and peers, and holds them to SPECIFICATION.md; as root;
                                   guests on all kernels and under QEMU only if `guest` is named
  check                            format, lints, documentation, rules of the house
  install [--destdir DIR] [--prefix PREFIX]
                                   installs everything, in /usr/local unless told otherwise
  dist [--twice] [--try]           makes a Debian package of the same; shows that a second build has the same bytes;
                                   tries it in a Debian of its own, with and without systemd, as root;
                                   and a package of the kernels that were built
  gen [--check]                    writes the Rust side of proto/*.x
  guest OUT.dsk [MB] [--root-shell]
                                   makes the image of the small guest that the tests use
  kernel [DIR] [--smp]             builds a kernel of our own, in TARGET/kernel unless told otherwise; with several CPUs
  kernels DIR                      fetches newer kernels from Debian, each with its libraries
  kubernetes DIR                   runs a Kubernetes of three nodes here, whose pods are VMs; its programs are in DIR; as root
  screenshots                      makes the pictures of the web interface in docs/ anew; as root";

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cargo xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> anyhow::Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["demo"] => demo::run(false),
        ["demo", "--keep"] => demo::run(true),
        ["test", options @ ..] => test::run(&test::Options::parse(options)?),
        ["bench", names @ ..] => bench::run(names),
        ["check"] => check::run(),
        ["install", options @ ..] => install::run(options),
        ["dist", options @ ..] => dist::run(options),
        ["gen"] => r#gen::run(false),
        ["gen", "--check"] => r#gen::run(true),
        ["guest", out, rest @ ..] => make_guest(out, rest),
        ["kernel", options @ ..] => kernel::run(options),
        ["kernels", directory] => kernels::fetch(Path::new(directory)).map(|_| ()),
        ["kubernetes", built] => kubernetes::run(Path::new(built)),
        ["screenshots"] => web::screenshots(),
        _ => anyhow::bail!("{USAGE}"),
    }
}

fn make_guest(out: &str, rest: &[&str]) -> anyhow::Result<()> {
    let (login, rest) = match rest {
        [rest @ .., "--root-shell"] => (Login::RootShell, rest),
        _ => (Login::Password, rest),
    };
    let megabytes = match rest {
        [] => guest::SIZE_MB,
        [megabytes] => megabytes
            .parse()
            .with_context(|| format!("{megabytes:?} is not a size in MB"))?,
        _ => anyhow::bail!("{USAGE}"),
    };
    setup::install(&guest::PACKAGES)?;
    programs::for_tests()?;
    guest::build(Path::new(out), megabytes, login)
}
