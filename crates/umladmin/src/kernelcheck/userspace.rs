//! How does the kernel run the programs of the guest, and on how many processors? What does a system call take?
//! (umladmin)

use std::time::Duration;

use jail::Features;

use super::boot::{boot, value};
use super::installation::{Installation, MEMORY};
use super::talk::Talk;
use super::trial::{Found, Trial};

/// What the rows are called, after the parameters of umlmon(5).
pub(super) const PTRACE: &str = "userspace ptrace";
pub(super) const SECCOMP: &str = "userspace seccomp";
pub(super) const CPUS: &str = "cpus 2";

/// The lines of configuration of a VM with seccomp, and of one with two processors.
const WITH_SECCOMP: &str = "userspace = seccomp\n";
pub(super) const WITH_CPUS: &str = "userspace = seccomp\ncpus = 2\n";

/// How long the guest may take for its calls.
const PATIENCE: Duration = Duration::from_secs(20);

/// Boots the guest in each way that the kernel has, apart from the usual one.
pub(super) fn all(
    installation: &Installation,
    talk: &mut Talk,
    features: Features,
) -> Result<Vec<Trial>, String> {
    let mut rows = Vec::new();
    for (what, has, lines, cpus, lack) in [
        (
            SECCOMP,
            features.seccomp,
            WITH_SECCOMP,
            1,
            "the kernel has no seccomp=, which is in Linux 6.16 and later",
        ),
        (
            CPUS,
            features.seccomp && features.ncpus,
            WITH_CPUS,
            2,
            "the kernel has no ncpus=: it was compiled without CONFIG_SMP",
        ),
    ] {
        if !has {
            rows.push(Trial::lacking(what, lack));
            continue;
        }
        installation.set(MEMORY, lines)?;
        let found = booted(talk, cpus);
        talk.kill()?;
        installation.set(MEMORY, "")?;
        rows.push(Trial::unless(what, found));
    }
    Ok(rows)
}

fn booted(talk: &mut Talk, cpus: u32) -> Found {
    let con0 = boot(talk, &[])?;
    let seen = value(&con0, "cpus")?;
    match seen == cpus.to_string() {
        true => call(talk),
        false => Err(format!("the guest has {seen} processors, not {cpus}")),
    }
}

/// Has the running guest measure what a system call takes.
pub(super) fn call(talk: &mut Talk) -> Found {
    let from = talk.open("con1", 24, 80)?;
    talk.write("con1", "calls\r")?;
    let said = |text: &str| {
        let (_, rest) = text.split_once("a call takes ")?;
        let (nanoseconds, _) = rest.split_once(" ns")?;
        nanoseconds.parse::<u32>().ok()
    };
    let text = talk.read("con1", from, PATIENCE, |text| said(text).is_some())?;
    let nanoseconds = said(&text).ok_or("the guest does not answer")?;
    let microseconds = f64::from(nanoseconds) / 1e3;
    Ok(format!("a system call takes {microseconds:.1} us"))
}
