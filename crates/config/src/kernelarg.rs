//! Which arguments may be passed to the kernel, and which of them by users. umlmon checks them before every start.

use crate::error::{Error, Result};

/// Longest single argument in bytes; the kernel takes 4096 for all of them (COMMAND_LINE_SIZE).
const MAX_ARGUMENT: usize = 1024;

/// Prefixes of arguments that users may not pass, with `-` written as `_`, and why. The kernel compares prefixes too:
/// `con0x9=` is its console 9. Its names of these options are in its `--help`, arch/um and drivers/virtio.
pub(crate) const RESERVED: &[(&str, &str)] = &[
    ("ubd", "disks are configured with ubdN"),
    ("udb", "disks are configured with ubdN"),
    ("con", "consoles are configured with conN"),
    ("ssl", "serial lines are configured with sslN"),
    ("eth", "networks are configured with ethN"),
    ("vec", "networks are configured with ethN"),
    ("mem=", "memory is configured with mem"),
    ("memmap=", "memory is configured with mem"),
    ("iomem", "it maps a file of the host"),
    ("initrd", "it opens a file of the host"),
    ("dtb=", "it opens a file of the host"),
    ("hostfs", "shared directories are configured with shareN"),
    ("hostaudio", "it opens a device of the host"),
    ("dsp=", "it opens a device of the host"),
    ("mixer=", "it opens a device of the host"),
    ("virtio_uml", "it connects to a socket of the host"),
    ("vfio_uml", "it opens a device of the host"),
    ("time_travel", "it connects to a socket of the host"),
    ("xterm=", "it names a program of the host"),
    ("gdb", "it opens a debugger on the host"),
    ("umid", "the monitor sets it"),
    ("uml_", "the monitor sets it"),
    ("mconsole", "the monitor sets it"),
    ("stderr", "the monitor owns the channel it writes to"),
    ("seccomp=", "it is configured with userspace"),
    ("ncpus=", "processors are configured with cpus"),
    // They make the kernel print something and exit; a bare -- would hide the monitor's arguments from the kernel.
    ("__", "it is an instruction for the kernel program itself"),
];

/// An argument of the kernel, from a user or the administrator: one element of the argument list, so nothing that would
/// split it.
pub(crate) fn check_argument(argument: &str) -> Result<()> {
    let why = if argument.is_empty() {
        "it is empty"
    } else if argument.len() > MAX_ARGUMENT {
        "it is longer than 1024 bytes"
    } else if argument.contains(|c: char| c.is_control() || c.is_whitespace()) {
        "it must not contain white space or control characters"
    } else {
        return Ok(());
    };
    Err(Error::value("one kernel argument", argument, why))
}

/// An argument of the kernel that the administrator gives: refused if it cannot work in the jail.
pub(crate) fn check_administrators_argument(argument: &str) -> Result<()> {
    check_argument(argument)?;
    let why = match argument.trim_matches('"').split_once('=') {
        Some(("ncpus", count)) if count != "1" => "processors are configured with cpus",
        Some(("hostfs", _)) => "shared directories are configured with shareN",
        _ => return Ok(()),
    };
    Err(Error::value(
        "a kernel argument for this jail",
        argument,
        why,
    ))
}

/// An argument of the kernel that a user gives, as `kernelarg` or for one start: refused if the monitor sets it itself,
/// or if it opens something outside the VM.
pub fn check_user_argument(argument: &str) -> Result<()> {
    check_argument(argument)?;
    let reserved = |why| Error::ReservedArgument {
        argument: argument.to_owned(),
        why,
    };
    // The kernel removes double quotes, which would hide the prefix, and treats - and _ in names as the same.
    if argument.contains('"') {
        return Err(reserved("it contains a double quote"));
    }
    let normal = argument.replace('-', "_");
    if normal.starts_with("console=") {
        return Ok(());
    }
    match RESERVED.iter().find(|(start, _)| normal.starts_with(start)) {
        Some((_, why)) => Err(reserved(why)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_may_talk_to_their_guest() {
        let good = [
            "single",
            "3",
            "-b",
            "root=/dev/ubda",
            "ro",
            "rw",
            "init=/bin/sh",
            "debug",
            "quiet",
            "panic=5",
            "loglevel=7",
            "systemd.unit=rescue.target",
            "rootfstype=ext4",
            "ip=dhcp",
            "console=ttyS0",
            "memtest=1",
            "noreboot",
            "é",
        ];
        for argument in good {
            check_user_argument(argument).unwrap();
        }
    }

    #[test]
    fn users_may_not_reach_the_host_or_the_monitor() {
        let bad = [
            "ubd7c=/shared/disks/other.dsk",
            "ubda=/x",
            "ubd=sync",
            "con9=port:22222",
            "con=xterm",
            "con0x9=port:1",
            "ssl0=tty:/dev/tty",
            "ssl-non-raw",
            "eth0=tuntap",
            "vec0:transport=raw,ifname=eth0",
            "mem=8G",
            "memmap=1G",
            "umid=x",
            "uml_dir=/disks",
            "mconsole=notify:/disks/x",
            "hostfs=/",
            "iomem=a,/dev/mem",
            "initrd=/x",
            "dtb=/x",
            "initrdmem=0,1",
            "xterm=/bin/sh,-T,-e",
            "virtio_uml.device=/s:1",
            "virtio-uml.device=/s:1",
            "\"virtio_uml.device=/s:1\"",
            "time-travel=ext:/s",
            "seccomp=on",
            "stderr=1",
            "--help",
            "--",
            "ncpus=64",
            "vfio_uml.device=0000:00:01.0",
            "gdb-pid=1",
        ];
        for argument in bad {
            let e = check_user_argument(argument).expect_err(argument);
            assert!(matches!(e, Error::ReservedArgument { .. }), "{e}");
            check_argument(argument).unwrap();
        }
    }

    #[test]
    fn what_cannot_work_in_the_jail_is_refused_to_administrators_too() {
        for (argument, why) in [
            ("ncpus=2", "configured with cpus"),
            ("hostfs=/share", "configured with shareN"),
            ("\"hostfs=/\"", "configured with shareN"),
            ("a b", "white space"),
        ] {
            let e = check_administrators_argument(argument).expect_err(argument);
            assert!(e.to_string().contains(why), "{e}");
        }
        for argument in ["ncpus=1", "hostfstype=x", "root=/dev/ubda", "ncpus"] {
            check_administrators_argument(argument).unwrap();
        }
    }

    #[test]
    fn nobody_may_smuggle_a_second_argument() {
        let long = "x".repeat(1025);
        for argument in [
            "",
            "single ubd0=/x",
            "a\tb",
            "a\nb",
            "a\0b",
            "a\u{a0}b",
            &long,
        ] {
            assert!(check_argument(argument).is_err(), "{argument:?}");
            assert!(check_user_argument(argument).is_err(), "{argument:?}");
        }
    }
}
