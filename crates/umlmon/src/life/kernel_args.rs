//! The argument list and environment of the kernel (umlmon, the monitor process).
//!
//! The arguments of the daemon come first, then those of the administrator and the user, each as one element.

use config::{ChannelName, Userspace, Vm};
use jail::Features;

use crate::channels::CON0;
use crate::disks::holdings::Ubd;
use crate::helper;
use crate::life::directories;
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

/// The arguments for what not every kernel has.
///
/// # Errors
/// What is asked for that this kernel does not have, and what to do.
pub fn options(vm: &Vm, features: &Features) -> Result<Vec<String>, String> {
    let lacks = |what: &str, argument: &str, instead: &str| {
        let kernel = vm.kernel.as_ref().map_or("", |kernel| kernel.as_str());
        Err(format!(
            "{what}, but the kernel {kernel} does not have {argument}; use another kernel, or {instead}"
        ))
    };
    let mut options = Vec::new();
    match (vm.userspace, features.seccomp) {
        (Userspace::Ptrace, _) => {}
        (Userspace::Seccomp, true) => options.push("seccomp=on".into()),
        (Userspace::Auto, true) => options.push("seccomp=auto".into()),
        (Userspace::Auto, false) => {}
        (Userspace::Seccomp, false) => {
            return lacks("userspace = seccomp", "seccomp=", "userspace = ptrace");
        }
    }
    if vm.cpus > 1 {
        if !features.ncpus {
            return lacks(&format!("cpus = {}", vm.cpus), "ncpus=", "cpus = 1");
        }
        options.push(format!("ncpus={}", vm.cpus));
    }
    Ok(options)
}

/// Builds the argument list. `options` are those of [`options`]; `flushes`: whether the kernel carries out what the
/// guest flushes. `channels` are in the order of their descriptors, con0 first, which has three; those of the others
/// begin with [`FIRST_CHANNEL_FD`], that of the helper's line and those of the open taps follow; `extra` are the
/// arguments of this start only.
pub fn build(
    vm: &Vm,
    options: Vec<String>,
    channels: &[ChannelName],
    (disks, flushes): (&[Ubd], bool),
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
        // 256 pairs of terminals of the old kind, which nothing uses, are two fifths of the processor time in which
        // Debian's 6.1 boots. Whoever needs some gives the argument again: the later one counts.
        "pty.legacy_count=0".into(),
        format!("con=fd:{NEVER_OPEN}"),
        "ssl=null".into(),
        "con0=fd:0".into(),
    ]);
    args.extend(options);
    args.extend(directories::arguments(vm));
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
    args.extend(disks.iter().map(|disk| ubd(vm, disk, flushes)));
    args.extend(wiring.arguments(vm, next));
    args.extend(vm.kernelargs.iter().cloned());
    args.extend(extra.iter().cloned());
    args
}

/// The argument for a disk; the kernel takes the same text while it runs. `flushes` as for [`build`].
pub fn ubd(vm: &Vm, ubd: &Ubd, flushes: bool) -> String {
    disks::ubd_argument(
        ubd.number,
        &ubd.name,
        &ubd.disk,
        ubd.backing.as_ref(),
        vm.sync_disks.contains(ubd.number, flushes),
    )
}

#[cfg(test)]
mod tests {
    use config::{Config, UserChanges};

    use super::*;

    fn asked(lines: &str, features: &Features) -> Result<String, String> {
        let text =
            format!("[vm1]\nvmuser = nobody\nmem = 64\nkernel = /shared/kernels/k\n{lines}\n");
        let config = Config::parse(&text, "umlmon".as_ref()).unwrap();
        let name = "vm1".parse().unwrap();
        let vm = config.vm_with(&name, &UserChanges::default()).unwrap();
        options(&vm, features).map(|options| options.join(" "))
    }

    #[test]
    fn a_kernel_is_given_what_it_has_and_nothing_else() {
        let none = Features::default();
        let all = Features {
            seccomp: true,
            ncpus: true,
            ..none
        };
        let given = |lines, features| asked(lines, features).unwrap();
        assert_eq!(given("", &all), "");
        assert_eq!(given("userspace = auto", &all), "seccomp=auto");
        assert_eq!(given("userspace = auto", &none), "");
        let two = "userspace = seccomp\ncpus = 2";
        assert_eq!(given(two, &all), "seccomp=on ncpus=2");
        let lacking = |features| asked(two, features).unwrap_err();
        assert_eq!(
            lacking(&none),
            "userspace = seccomp, but the kernel /shared/kernels/k does not have seccomp=; use another kernel, or \
             userspace = ptrace"
        );
        let one = Features {
            ncpus: false,
            ..all
        };
        assert!(lacking(&one).starts_with("cpus = 2, but the kernel"));
    }
}
