//! What can go wrong with networks: one variant per thing, worded for the administrator.

use std::io;
use std::path::PathBuf;

use config::{InterfaceName, MacAddr, NetworkName, Subnet};
use files::HeldError;

/// A refusal or a failure; the text names the interface, the reason and what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A call to the host's kernel failed.
    #[error("{what}: {source}")]
    Host {
        /// What was tried, as "give vm1p0 the address 10.0.0.1".
        what: String,
        /// Why it did not work.
        source: io::Error,
    },
    /// The driver for taps is missing.
    #[error(
        "the host has no /dev/net/tun: {0}; load the driver (modprobe tun), or compile the kernel with CONFIG_TUN"
    )]
    NoTun(io::Error),
    /// An interface that must exist does not.
    #[error("{eth}: {param}: the host has no interface {name}; {advice}")]
    Missing {
        /// Which interface of the VM needs it.
        eth: String,
        /// As what it is configured.
        param: &'static str,
        /// What it is called.
        name: InterfaceName,
        /// What to do.
        advice: &'static str,
    },
    /// The interface that is configured as a bridge is not a bridge.
    #[error(
        "{eth}: bridge_if: {name} is not a bridge; give the name of a bridge (ip link add br0 type bridge creates one)"
    )]
    NoBridge {
        /// Which interface of the VM needs it.
        eth: String,
        /// What it is called.
        name: InterfaceName,
    },
    /// An interface that is not ours has the name.
    #[error(
        "{eth}: proxy_if: the host already has an interface {name}, {holder}; give another name, or remove it \
         (ip link delete {name})"
    )]
    Foreign {
        /// Which interface of the VM wants it.
        eth: String,
        /// The name.
        name: InterfaceName,
        /// What is known of it.
        holder: String,
    },
    /// The program that makes the connections of a VM is missing.
    #[error("{eth}: user(...) needs {program}, which is not there; install it (apt install slirp4netns)", program = crate::user::PROGRAM)]
    NoProgram {
        /// Which interface of the VM needs it.
        eth: String,
    },
    /// A program that `nat(...)` needs is missing.
    #[error(
        "{eth}: nat(...) needs {program}, which is not there; install it (apt install {package})"
    )]
    NoTool {
        /// Which interface of the VM needs it.
        eth: String,
        /// The program.
        program: &'static str,
        /// The package of Debian that has it.
        package: &'static str,
    },
    /// An interface that is not ours has the name of a network's bridge.
    #[error(
        "the network {network}: the host already has an interface {bridge}, not made by this installation of UMLMON; \
         give the network another name, or remove that (ip link delete {bridge})"
    )]
    ForeignBridge {
        /// The network.
        network: NetworkName,
        /// The interface.
        bridge: String,
    },
    /// All addresses for networks overlap with others.
    #[error(
        "the network {network}: no 256 addresses of {pool} are free: the host has routes to them, or other networks \
         have them (umladmin network list); give others by the parameter nat_pool of the section [GLOBAL]"
    )]
    NoSubnet {
        /// The network.
        network: NetworkName,
        /// What is configured.
        pool: Subnet,
    },
    /// No address of a network is left.
    #[error("{eth}: all addresses of the network {network} are in use; use another network, too")]
    NetworkFull {
        /// Which interface of the VM wants one.
        eth: String,
        /// The network.
        network: NetworkName,
    },
    /// VMs run on a network that is to be deleted.
    #[error("the network {network} is in use by {vms}; stop that first")]
    InUse {
        /// The network.
        network: NetworkName,
        /// The VMs.
        vms: String,
    },
    /// A port of the host cannot be forwarded.
    #[error("{eth}: forward: the port {port} cannot be had: {why}")]
    Port {
        /// Which interface of the VM wants it.
        eth: String,
        /// Protocol, address and number.
        port: String,
        /// Why not, and what to do.
        why: String,
    },
    /// An address is in use on the host.
    #[error("{eth}: {param}: {what}; give another address, or remove it there")]
    AddressInUse {
        /// Which interface of the VM wants it.
        eth: String,
        /// As what it is configured.
        param: &'static str,
        /// Where it is in use.
        what: String,
    },
    /// Another VM has it.
    #[error("{eth}: {what} is in use by {vm} as {role}; each VM needs one of its own")]
    OtherVm {
        /// Which interface of the VM wants it.
        eth: String,
        /// The name or address.
        what: String,
        /// The other VM, or this one.
        vm: String,
        /// What for.
        role: String,
    },
    /// There is no address left.
    #[error(
        "{eth}: all {number} addresses of the pool from {first} on are in use; raise number in the parameter pool of \
         the section [GLOBAL]"
    )]
    PoolExhausted {
        /// Which interface of the VM wants one.
        eth: String,
        /// How many there are.
        number: u32,
        /// The first one.
        first: MacAddr,
    },
    /// The interface of a network namespace cannot become that of a VM.
    #[error("{eth}: {path}: {problem}")]
    Netns {
        /// Which interface of the VM is to be connected.
        eth: String,
        /// The file of the namespace.
        path: PathBuf,
        /// Why not, and what to do.
        problem: String,
    },
    /// The kernel of the VM cannot do it.
    #[error("{0}")]
    Kernel(String),
    /// The record of another VM's monitor cannot be read.
    #[error(
        "{path} of the VM {vm}, which runs, is damaged ({problem}), so its addresses are not known; stop \
         that VM (umladmin stop {vm}), or remove the file when it is down"
    )]
    Damaged {
        /// The file.
        path: String,
        /// The VM it belongs to.
        vm: String,
        /// What is wrong.
        problem: String,
    },
    /// The files of what VMs hold cannot be used.
    #[error(transparent)]
    Files(#[from] HeldError),
}

impl Error {
    /// Makes an error of a call that failed.
    pub(crate) fn host(what: impl Into<String>) -> impl FnOnce(io::Error) -> Error {
        let what = what.into();
        move |source| Error::Host { what, source }
    }
}
