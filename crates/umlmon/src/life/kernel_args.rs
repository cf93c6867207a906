//! The argument list and environment of the kernel (umlmon, the monitor process).
//!
//! The arguments of the daemon come first, then those of the administrator and the user, each as one element.

use config::{ChannelName, Vm};

use crate::channels::CON0;
use crate::disks::holdings::Ubd;
use crate::helper;
use crate::life::networks::Wiring;
use crate::mconsole::NOTIFY_NAME;

/// The kernel's whole environment: it looks for a place for its memory file and for its sockets.
pub const ENVIRONMENT: [&str; 3] = ["TMPDIR=/tmp", "HOME=/tmp", "PATH=/"];

/// The descriptor under which the kernel inherits the first channel after con0, which is 0, 1 and 2.
pub const FIRST_CHANNEL_FD: i32 = 3;

/// A descriptor that the kernel never has: its number is beyond every limit of open files. A guest program that opens a
/// console that is not configured gets EBADF. `con=none` has the same purpose, but the kernel reports it as a failure
/// of each console (arch/um/drivers/line.c, `setup_one_line`).
const NEVER_OPEN: i32 = i32::MAX;

/// Builds the argument list. `channels` are in the order of their descriptors, con0 first, which has three; those of
/// the others begin with [`FIRST_CHANNEL_FD`], that of the helper's line and those of the open taps follow; `extra` are
/// the arguments of this start only.
pub fn build(
    vm: &Vm,
    channels: &[ChannelName],
    disks: &[Ubd],
    wiring: &Wiring,
    extra: &[String],
) -> Vec<String> {
    // argv[0] is the path, because a kernel that re-executes itself uses it.
    let mut args: Vec<String> = vm.kernel.iter().map(ToString::to_string).collect();
    args.extend([
        format!("mem={}M", vm.mem),
        format!("umid={}", vm.name),
        "uml_dir=/tmp".into(),
        format!("mconsole=notify:/tmp/{NOTIFY_NAME}"),
        // The monitor itself carries a reboot out, on the same channels.
        "noreboot".into(),
        // Not a protection, only a hint: the jail is the protection.
        "hostfs=/nonexistent".into(),
        // 256 pairs of terminals of the old kind, which nothing uses, are two fifths of the processor time in which
        // Debian's 6.1 boots. Whoever needs some gives the argument again: the later one counts.
        "pty.legacy_count=0".into(),
        format!("con=fd:{NEVER_OPEN}"),
        "ssl=null".into(),
        "con0=fd:0".into(),
    ]);
    args.extend(
        channels
            .iter()
            .filter(|channel| **channel != CON0)
            .zip(FIRST_CHANNEL_FD..)
            .map(|(channel, fd)| format!("{channel}=fd:{fd}")),
    );
    // con0 counts as one and has three.
    let channels = i32::try_from(channels.len()).unwrap_or(0);
    let mut next = channels - 1 + FIRST_CHANNEL_FD;
    if helper::has_line(vm) {
        args.push(format!("{}=fd:{next}", helper::LINE));
        next += 1;
    }
    args.extend(disks.iter().map(|ubd| {
        disks::ubd_argument(
            ubd.number,
            &ubd.name,
            &ubd.disk,
            ubd.backing.as_ref(),
            vm.sync_disks.contains(ubd.number),
        )
    }));
    args.extend(wiring.arguments(vm, next));
    args.extend(vm.kernelargs.iter().cloned());
    args.extend(extra.iter().cloned());
    args
}
