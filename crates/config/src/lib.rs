//! The common types of UMLMON: `/etc/umlmon` and the user changes, parsed into types that guarantee what was checked.
//!
//! Every program links this crate. It opens no sockets, needs no privileges, and only reads the main configuration file
//! and /etc/services, and reads and writes the user changes of a VM. The format is described in umlmon(5).
//!
//! ```
//! let text = "[vm1]\nvmuser = nobody\nmem = 64\ncon0 = pty:con0\n";
//! let config = config::Config::parse(text, "umlmon".as_ref())?;
//! let vm = config.vm_with(&"vm1".parse()?, &config::UserChanges::default())?;
//! assert_eq!((vm.mem, vm.con[&0].to_string().as_str()), (64, "pty:con0"));
//! # Ok::<(), config::Error>(())
//! ```

mod affinity;
mod assignment;
mod change;
mod cow_map;
mod document;
mod edit;
mod effective;
mod error;
mod form;
mod forward;
mod global;
mod ini;
mod kernelarg;
mod lint;
mod mac;
mod main_file;
mod names;
mod net;
pub mod params;
mod password;
mod remote;
mod services;
mod setting;
mod share;
mod size;
mod sound;
mod subnet;
mod template;
mod text;
mod user;
mod values;
mod vm;

pub use affinity::{Affinity, processor_list};
pub use cow_map::large_cow_maps;
pub use document::Document;
pub use edit::Edit;
pub use error::{Error, Place, Result};
pub use forward::{Forward, Protocol};
pub use global::Global;
pub use kernelarg::check_user_argument;
pub use lint::lint;
pub use mac::{HwAddr, MacAddr, MacPool};
pub use main_file::{Config, Overview};
pub use names::{
    ChannelName, DiskKind, DiskName, GroupName, InterfaceName, JailPath, LogName, NetworkName,
    SnapshotLabel, TemplateName, VmName,
};
pub use net::{Mtu, Nic, Transport};
pub use password::{Password, Verifier};
pub use remote::{AuthPolicy, SealPolicy, TlsPolicy};
pub use services::Service;
pub use setting::{Origin, SectionKind, Setting};
pub use share::{MAX_SHARE, Share};
pub use size::megabytes;
pub use subnet::Subnet;
pub use text::is_printable;
pub use user::UserChanges;
pub use values::{
    Device, Identity, MAX_ETH, MAX_UBD, MemoryUse, Scheduler, StartType, SyncDisks, Terminal,
    UserRange, Userspace,
};
pub use vm::Vm;

#[cfg(test)]
mod tests;
