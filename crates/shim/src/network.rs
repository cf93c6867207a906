//! The interfaces of a pod: what an engine puts into the network namespace of the pod becomes the VM's (the server of a
//! pod).

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;
use nix::sys::socket::{AddressFamily, SockaddrLike as _};

/// The namespace that a process is in.
pub(crate) fn of_process(pid: u32) -> PathBuf {
    format!("/proc/{pid}/ns/net").into()
}

/// The lines of the VM's section for the interfaces with addresses in the namespace, but for `lo`.
pub(crate) fn lines(namespace: &Path) -> anyhow::Result<String> {
    let shown = namespace.display();
    let names = interfaces(namespace).with_context(|| format!("cannot look into {shown}"))?;
    let lines = names
        .iter()
        .enumerate()
        .map(|(number, name)| format!("eth{number} = netns(path={shown},if={name})\n"));
    Ok(lines.collect())
}

fn interfaces(namespace: &Path) -> io::Result<BTreeSet<String>> {
    sys::in_network(File::open(namespace)?, || {
        let with_address = getifaddrs()?.filter(|found| {
            let family = found.address.and_then(|address| address.family());
            let is_ip = matches!(family, Some(AddressFamily::Inet | AddressFamily::Inet6));
            is_ip && !found.flags.contains(InterfaceFlags::IFF_LOOPBACK)
        });
        Ok(with_address.map(|found| found.interface_name).collect())
    })
}
