//! By which of its drivers a User Mode Linux kernel is connected to a network. Used by the monitor and by `umladmin`.

use std::fmt;

use serde::{Deserialize, Serialize};

/// By which of its drivers a kernel is connected with a tap. The configured one is `config::Transport`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Driver {
    /// The vector driver, which attaches to the tap.
    Vec,
    /// The driver of former kernels, which attaches to the tap.
    Tuntap,
    /// The vector driver with an open tap that it inherits.
    Fd,
}

impl Driver {
    /// What the guest calls the interface of this number.
    #[must_use]
    pub fn guest_if(self, number: u8) -> String {
        match self {
            Driver::Tuntap => format!("eth{number}"),
            Driver::Vec | Driver::Fd => format!("vec{number}"),
        }
    }

    /// Whether the kernel opens the tap itself, for which it needs `/dev/net/tun` and the network of the host.
    #[must_use]
    pub fn attaches(self) -> bool {
        match self {
            Driver::Vec | Driver::Tuntap => true,
            Driver::Fd => false,
        }
    }
}

impl fmt::Display for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Driver::Vec => "vec",
            Driver::Tuntap => "tuntap",
            Driver::Fd => "fd",
        })
    }
}

/// The network drivers of a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Drivers {
    /// `vecN:`, the vector driver.
    pub vec: bool,
    /// `ethN=`, the driver of former kernels.
    pub eth: bool,
}
