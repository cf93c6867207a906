//! The section `[GLOBAL]`: the settings for all VMs of an installation. Used by every program.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use crate::mac::MacPool;
use crate::names::VmName;
use crate::password::Password;
use crate::remote::{AuthPolicy, SealPolicy, TlsPolicy};
use crate::subnet::Subnet;
use crate::values::{Device, UserRange};

/// The settings of `[GLOBAL]`, each as described in umlmon(5).
#[derive(Debug, Clone, PartialEq)]
pub struct Global {
    /// The data directory, where the VMs are stored.
    pub vardir: PathBuf,
    /// The directory that all VMs can access.
    pub shared: PathBuf,
    /// The directory of the pid files.
    pub rundir: PathBuf,
    /// Whether the monitors listen on TCP ports.
    pub tcp: bool,
    /// Whether umldir forwards TCP connections to the monitors.
    pub tcp_redir: bool,
    /// Block devices of the host for the VMs, with distinct names.
    pub devices: Vec<Device>,
    /// The MAC addresses given to network interfaces.
    pub pool: MacPool,
    /// The addresses of the networks of `nat(...)`.
    pub nat_pool: Subnet,
    /// The user IDs for VMs with `vmuser = auto`.
    pub user_pool: UserRange,
    /// The master password.
    pub password: Option<Password>,
    /// The site command, an absolute path.
    pub sitecmd: Option<PathBuf>,
    /// The address that TCP ports are opened on; None means all.
    pub listen: Option<IpAddr>,
    /// The TCP port of umldir; None means that of the service `umldir`.
    pub umldir_port: Option<u16>,
    /// The TCP port of the redirector; None means that of the service `umlredir`.
    pub umlredir_port: Option<u16>,
    /// Whether clients on other hosts must seal their messages.
    pub seal: SealPolicy,
    /// Which versions of the authentication are accepted?
    pub auth: AuthPolicy,
    /// Names of this host that it does not know by itself.
    pub host_names: Vec<String>,
    /// Is there TLS around their connections?
    pub tls: TlsPolicy,
    /// The certificate that umlmon presents then, with its chain, in PEM.
    pub tls_certificate: Option<PathBuf>,
    /// Its private key, in PEM.
    pub tls_key: Option<PathBuf>,
    /// Where umlweb listens.
    pub web_listen: SocketAddr,
    /// The names by which browsers may call it, besides its own address, in lower case.
    pub web_names: Vec<String>,
    /// The user as which umlweb runs.
    pub web_user: String,
    /// The certificate that it presents, with its chain, in PEM.
    pub web_certificate: Option<PathBuf>,
    /// Its private key, in PEM.
    pub web_key: Option<PathBuf>,
}

impl Global {
    /// The directory of a VM.
    pub fn vm_dir(&self, name: &VmName) -> PathBuf {
        self.vardir.join(name.as_str())
    }

    /// The Unix Domain socket of a VM's monitor.
    pub fn ctrl(&self, name: &VmName) -> PathBuf {
        self.vm_dir(name).join("ctrl")
    }

    /// The file of the user changes of a VM.
    pub fn user_file(&self, name: &VmName) -> PathBuf {
        self.vm_dir(name).join("config")
    }

    /// The pid file of a VM's monitor.
    pub fn pid_file(&self, name: &VmName) -> PathBuf {
        self.rundir.join(format!("{name}.pid"))
    }

    /// The directory of the directory service, with its socket `ctrl`. No VM can have the name `directory`.
    pub fn directory(&self) -> PathBuf {
        self.vardir.join("directory")
    }

    /// The pid file of the directory service.
    pub fn directory_pid_file(&self) -> PathBuf {
        self.rundir.join("directory.pid")
    }

    /// The directory of umlweb, in that of the directory service, as a VM can have any other name.
    pub fn web(&self) -> PathBuf {
        self.directory().join("web")
    }

    /// The pid file of umlweb. No name of a VM begins like this.
    pub fn web_pid_file(&self) -> PathBuf {
        self.rundir.join("_umlweb.pid")
    }

    /// Nothing set, not even the defaults.
    pub(crate) fn blank() -> Global {
        Global {
            vardir: PathBuf::new(),
            shared: PathBuf::new(),
            rundir: PathBuf::new(),
            tcp: false,
            tcp_redir: false,
            devices: Vec::new(),
            pool: MacPool::default(),
            nat_pool: Subnet::default(),
            user_pool: UserRange::none(),
            password: None,
            sitecmd: None,
            listen: None,
            umldir_port: None,
            umlredir_port: None,
            seal: SealPolicy::Require,
            auth: AuthPolicy::Any,
            host_names: Vec::new(),
            tls: TlsPolicy::Off,
            tls_certificate: None,
            tls_key: None,
            web_listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            web_names: Vec::new(),
            web_user: String::new(),
            web_certificate: None,
            web_key: None,
        }
    }

    /// Whether the directory of this VM would overlap with others of the installation.
    pub(crate) fn is_vm_dir_taken(&self, name: &VmName) -> bool {
        let dir = self.vm_dir(name);
        self.shared.starts_with(&dir) || self.rundir.starts_with(&dir)
    }
}
