//! What the end-to-end tests are written with: a [`World`] of its own for each test, in which the real programs run.
//!
//! A test needs no clean-up: when its world is dropped, monitors are ended, and it is asserted that nothing is left, no
//! process, no mount, no control group, no socket and no pid file. If a test fails, its world shows the logs instead,
//! and removes all.
//!
//! Run them with `cargo xtask test`, which builds the programs first and puts the tests into namespaces of their own.
//! `UMLMON_TEST_KERNEL` names the kernel of the tier `real` (default `/usr/bin/linux.uml`; what lies in `KERNEL.lib/`
//! is provided with it), and `UMLMON_TEST_LINES` lines of configuration that VMs with the small guest have in addition,
//! separated by `;`. `UMLMON_TEST_SKIPS` names a file in which skipped tests are noted, and `UMLMON_TEST_TRANSFER` how
//! many megabytes the tests of `connected` transfer each way (default 16); `UMLMON_TEST_SOAK` for how many seconds
//! `soak` uses its VMs (default 15), and `UMLMON_TEST_CUTS` how often `power` cuts the power (default 3).
//! `UMLMON_TEST_FLOOD` says with how many megabytes a guest floods a browser (default 10),
//! `UMLMON_TEST_KILLS` how often monitors are killed, `UMLMON_TEST_STEP` at every how many of their system calls
//! (`any_moment`, default 149), and `UMLMON_TEST_SEED` how random choices begin. `UMLMON_TEST_CALLER` names a script
//! that starts the programs, such as `hostile-caller`, and `UMLMON_TEST_ENGINES` the directory with the files of the
//! packages of Docker.

// This is part of tests: what cannot go on panics, and the panic is the report.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::missing_panics_doc
)]

mod browser;
pub mod certificate;
mod chance;
mod containerd;
mod directory;
mod disk;
mod docker;
pub mod elf;
pub mod fake_disks;
mod filter;
pub mod host;
pub mod hostile;
mod injection;
mod inner_host;
pub mod lan;
pub mod network;
pub mod other_host;
mod outliving;
mod processes;
mod program;
mod recording;
mod shell;
mod terminal;
mod vm;
mod world;
mod write_cache;

use std::time::{Duration, Instant};

pub use browser::{MASTER, Web};
pub use chance::Chance;
pub use containerd::Engine;
pub use directory::{Directory, can_be_had, free_port};
pub use disk::{FailingDisk, SmallDisk, listed, put};
pub use docker::{Docker, Engines};
pub use filter::Refused;
pub use injection::{Call, Fate, Injector};
pub use inner_host::InnerHost;
pub use outliving::{
    adoptions, exchange_monitor, kill_monitor, kill_with_vm, kills, outlives, processes_that_stay,
};
pub use processes::{is_gone, processes_of, processors_of};
pub use program::{Outcome, called, pass_through, program, run, run_within, silent};
pub use recording::sizes_are_recorded;
pub use shell::Shell;
pub use terminal::Terminal;
pub use vm::{Console, Vm, VmBuilder, real_kernel};
pub use world::World;
pub use write_cache::{SECTOR, WriteCache};
pub use xtask::busybox::IMAGE;
pub use xtask::guest::Login;

/// How long anything may take before a test fails. Far more than it does take, as machines of CI are slow.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Bytes that show where some are missing or doubled: blocks of 16, each a number and a blank.
pub fn flood(bytes: usize) -> Vec<u8> {
    let blocks = (0..bytes.div_ceil(16)).map(|n| format!("{n:015} "));
    let mut flood = blocks.collect::<String>().into_bytes();
    flood.truncate(bytes);
    flood
}

/// Waits for something that nobody reports: looks every few milliseconds, until `look` gives a value.
///
/// # Panics
/// If it takes longer than [`PATIENCE`]; `what` is part of the message.
#[track_caller]
pub fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(
            Instant::now() < deadline,
            "not within {} s: {what}",
            PATIENCE.as_secs()
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Notes that a test cannot run here. It counts as skipped; in CI it fails.
///
/// # Panics
/// In CI.
pub fn skip(reason: &str) {
    use std::io::Write as _;
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    assert!(
        std::env::var_os("CI").is_none(),
        "{test} cannot run: {reason}"
    );
    eprintln!("skipped: {reason}");
    if let Some(path) = std::env::var_os("UMLMON_TEST_SKIPS") {
        let file = std::fs::OpenOptions::new().append(true).open(path);
        let noted = file.and_then(|mut file| writeln!(file, "{test}: {reason}"));
        assert!(
            noted.is_ok(),
            "cannot note that {test} is skipped: {noted:?}"
        );
    }
}
