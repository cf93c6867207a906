//! `-ssh`: the host's ssh(1), to a port of the host that is forwarded to the guest's ssh.

use std::ffi::{OsStr, OsString};
use std::net::Ipv4Addr;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use cli::{Exit, Failure};
use config::{Forward, Nic, Protocol};
use rpc_xdr::umlmonctrl::VmInfo;

/// The port of ssh in the guest.
const SSH: u16 = 22;
/// The keys of guests, apart from those of hosts.
const KNOWN_HOSTS: &str = "~/.ssh/umlmon_known_hosts";

/// Becomes ssh: as a user of the guest, the first of the words, between which NULs are. Returns only what prevents it.
pub(crate) fn ssh(info: &VmInfo, words: &[u8]) -> Failure {
    let Some(forward) = forwarded(info) else {
        let why = "no port of this host is forwarded to the guest's ssh; one is with eth0 = user(forward=2222:22) in the \
                   section of the VM, from its next start on";
        return Failure::new(Exit::Failed, why);
    };
    let error = Command::new("ssh")
        .args(arguments(&info.vm, forward, words))
        .exec();
    Failure::new(Exit::Failed, format_args!("cannot execute ssh: {error}"))
}

/// The port of the host that is forwarded to the ssh of a running guest.
fn forwarded(info: &VmInfo) -> Option<Forward> {
    let running = info.nics.iter().filter(|nic| nic.link.is_some());
    let nics = running.filter_map(|nic| {
        let text = std::str::from_utf8(&nic.specification).ok()?;
        text.parse::<Nic>().ok()
    });
    let mut forwards = nics.flat_map(|nic| nic.forwards().to_vec());
    forwards.find(|forward| forward.protocol == Protocol::Tcp && forward.guest == SSH)
}

/// The arguments of ssh. The key of a guest belongs to its name, whichever port it has.
fn arguments(vm: &str, forward: Forward, words: &[u8]) -> Vec<OsString> {
    let address = match forward.host.ip() {
        ip if ip.is_unspecified() => &Ipv4Addr::LOCALHOST,
        ip => ip,
    };
    let mut arguments: Vec<OsString> = [
        format!("-oUserKnownHostsFile={KNOWN_HOSTS}"),
        format!("-oHostKeyAlias={vm}"),
        format!("-p{}", forward.host.port()),
        "-l".to_owned(),
    ]
    .map(OsString::from)
    .to_vec();
    let mut words = words.split(|byte| *byte == 0).map(OsStr::from_bytes);
    arguments.extend(words.next().map(OsString::from));
    arguments.push(address.to_string().into());
    arguments.extend(words.map(OsString::from));
    arguments
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_comes_before_the_command() {
        let forward = "0.0.0.0:2222:22".parse().unwrap();
        let arguments = arguments("vm1", forward, b"root\0uname\0-a");
        let words: Vec<&str> = arguments.iter().filter_map(|word| word.to_str()).collect();
        let (options, rest) = words.split_at(2);
        assert!(options.iter().all(|word| word.starts_with("-o")));
        assert_eq!(rest, ["-p2222", "-l", "root", "127.0.0.1", "uname", "-a"]);
    }
}
