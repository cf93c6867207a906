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

/// Its arguments, by which it is also known: the file, which is never written, is that of one network of one
/// installation.
fn arguments(records: &Records, name: &NetworkName) -> [String; 3] {
    let file = records.directory().join(format!("{name}.leases"));
    [
        "--conf-file=-".to_owned(),
        "--pid-file=".to_owned(),
        format!("--dhcp-leasefile={}", file.display()),
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
    let is_fit =
        |server: &Server| server.configuration == configuration && is_it(records, name, server.pid);
    if entry.server.as_ref().is_some_and(is_fit) {
        return Ok(());
    }
    entry.server = None;
    end(records, name);
    let arguments = arguments(records, name);
    run(
        PROGRAM,
        &arguments.each_ref().map(String::as_str),
        &configuration,
    )?;
    let pid = processes(records, name).next();
    let pid = pid.ok_or_else(|| io::Error::other(format!("{PROGRAM} has ended at once")))?;
    entry.server = Some(Server { pid, configuration });
    Ok(())
}

/// The processes that serve the network. One that a monitor had started when it was killed is recorded nowhere.
fn processes(records: &Records, name: &NetworkName) -> impl Iterator<Item = i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let numbers = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    numbers.filter(|pid| is_it(records, name, *pid))
}

/// Whether a process is the server: its number may be that of another one by now.
pub(crate) fn is_it(records: &Records, name: &NetworkName, pid: i32) -> bool {
    let mut wanted = PROGRAM.as_bytes().to_vec();
    for word in arguments(records, name) {
        wanted.push(0);
        wanted.extend(word.into_bytes());
    }
    wanted.push(0);
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let owner = fs::metadata(format!("/proc/{pid}")).map(|it| it.uid());
    // It begins as root.
    line == wanted && owner.is_ok_and(|owner| owner == 0 || Some(owner) == user())
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

/// Ends it, if it runs. Its ports are free when this returns.
pub(super) fn end(records: &Records, name: &NetworkName) {
    for pid in processes(records, name) {
        let process = open(records, name, pid);
        let has_ended = process.is_none_or(|process| {
            [Signal::TERM, Signal::KILL].into_iter().any(|signal| {
                // It may have ended by now.
                let _ = pidfd_send_signal(&process, signal);
                ends(&process, PATIENCE)
            })
        });
        if !has_ended {
            tracing::warn!("process {pid}, the server of the network {name}, does not end");
        }
    }
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
