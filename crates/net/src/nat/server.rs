//! The process that serves addresses (DHCP) and names (DNS) in a network: dnsmasq(8), in the background and as a user
//! of its own. Started by the monitor, as root.
//!
//! Its configuration comes on stdin, before it leaves root, so there is no file that it would have to read later. When
//! a VM is new, it is started anew: it has no state that matters, because each VM has one fixed address.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::time::Duration;

use config::NetworkName;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::member::{Entry, Known, Server, router};
use crate::nat::program::{ends, run};
use crate::records::Records;

/// The program.
pub(super) const PROGRAM: &str = "/usr/sbin/dnsmasq";
/// The user that it runs as; its package makes it.
const USER: &str = "dnsmasq";
/// How long it may take to end. It takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(2);

/// Its arguments, by which it is also known.
fn arguments(records: &Records, name: &NetworkName) -> [String; 2] {
    let file = records.directory().join(format!("{name}.pid"));
    [
        "--conf-file=-".to_owned(),
        format!("--pid-file={}", file.display()),
    ]
}

/// Its configuration: every VM that was on the network, so that it need not be started anew when one comes back.
pub(super) fn configuration(name: &NetworkName, entry: &Entry) -> String {
    let subnet = entry.subnet;
    let mut text = format!(
        "user={USER}\ninterface={}\nexcept-interface=lo\nbind-interfaces\nlisten-address={}\nno-hosts\n\
         domain={name}\nlocal=/{name}/\nbogus-priv\ndomain-needed\nleasefile-ro\ndhcp-authoritative\nquiet-dhcp\n\
         dhcp-range={},static,255.255.255.0,12h\n",
        name.bridge(),
        router(subnet),
        subnet.address(0),
    );
    for Known {
        host_name,
        address,
        mac,
    } in &entry.known
    {
        let _ = writeln!(
            text,
            "dhcp-host={mac},{address},{host_name}\nhost-record={host_name}.{name},{host_name},{address}"
        );
    }
    text
}

/// Starts it, unless it runs with the same configuration. When this returns, it answers.
pub(crate) fn ensure(records: &Records, name: &NetworkName, entry: &mut Entry) -> io::Result<()> {
    let configuration = configuration(name, entry);
    if let Some(former) = entry.server.take() {
        if former.configuration == configuration && is_it(records, name, former.pid) {
            entry.server = Some(former);
            return Ok(());
        }
        stop(records, name, former.pid);
    }
    let pid = start(records, name, &configuration)?;
    entry.server = Some(Server { pid, configuration });
    Ok(())
}

fn start(records: &Records, name: &NetworkName, configuration: &str) -> io::Result<i32> {
    let arguments = arguments(records, name);
    let words = arguments.each_ref().map(String::as_str);
    run(PROGRAM, &words, configuration)?;
    let file = records.directory().join(format!("{name}.pid"));
    let text = fs::read_to_string(&file);
    // Only for this; whose process it is, is looked up each time.
    let _ = fs::remove_file(&file);
    text?.trim().parse().map_err(io::Error::other)
}

/// Whether a process is the server: its number may be that of another one by now.
pub(crate) fn is_it(records: &Records, name: &NetworkName, pid: i32) -> bool {
    let arguments = arguments(records, name);
    let mut wanted = PROGRAM.as_bytes().to_vec();
    for word in &arguments {
        wanted.push(0);
        wanted.extend(word.as_bytes());
    }
    wanted.push(0);
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let owner = fs::metadata(format!("/proc/{pid}")).map(|it| it.uid());
    line == wanted && owner.is_ok_and(|owner| Some(owner) == user())
}

/// The number of its user.
fn user() -> Option<u32> {
    let found = nix::unistd::User::from_name(USER).ok().flatten();
    found.map(|user| user.uid.as_raw())
}

/// The server as a pidfd, if it runs.
pub(crate) fn open(records: &Records, name: &NetworkName, pid: i32) -> Option<OwnedFd> {
    let process = pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok()?;
    // Looked at after it was opened, so it is about that process.
    is_it(records, name, pid).then_some(process)
}

/// Ends it. Its ports are free when this returns.
pub(super) fn stop(records: &Records, name: &NetworkName, pid: i32) {
    let Some(process) = open(records, name, pid) else {
        return;
    };
    for signal in [Signal::TERM, Signal::KILL] {
        // It may have ended by now.
        let _ = pidfd_send_signal(&process, signal);
        if ends(&process, PATIENCE) {
            return;
        }
    }
    tracing::warn!("process {pid}, the server of the network {name}, does not end");
}

#[cfg(test)]
mod tests {
    use config::MacAddr;

    use super::*;

    #[test]
    fn each_vm_has_its_address_and_its_name() {
        let mut entry = Entry::new("10.86.0.0/24".parse().unwrap());
        for (name, number) in [("web", 2), ("db", 3)] {
            entry.note(Known {
                host_name: name.to_owned(),
                address: entry.subnet.address(number),
                mac: MacAddr::from_octets([0x0a, 0x12, 0xbc, 0xaf, 0x32, number]).unwrap(),
            });
        }
        let text = configuration(&"uml".parse().unwrap(), &entry);
        for line in [
            "user=dnsmasq",
            "interface=br-uml",
            "except-interface=lo",
            "dhcp-range=10.86.0.0,static,255.255.255.0,12h",
            "dhcp-host=0A:12:BC:AF:32:03,10.86.0.3,db",
            "host-record=web.uml,web,10.86.0.2",
        ] {
            assert!(text.lines().any(|it| it == line), "{line}: {text}");
        }
    }
}
