//! What the daemons umlmon, umldir and umlweb share: the start, the pid file, going to the background, the log, and
//! with the feature `server` the sockets they listen on.

#[cfg(feature = "account")]
mod account;
mod aside;
mod background;
#[cfg(feature = "server")]
mod crowd;
mod error;
mod home;
#[cfg(feature = "server")]
mod listen;
mod log;
mod notify;
mod oom;
mod pidfile;
#[cfg(feature = "server")]
mod signals;
mod startup;
#[cfg(feature = "server")]
mod tcp;

#[cfg(feature = "account")]
pub use account::Account;
pub use aside::aside;
pub use background::{Readiness, background};
#[cfg(feature = "server")]
pub use crowd::{Crowd, Place, source};
pub use error::Error;
pub use home::Home;
#[cfg(feature = "server")]
pub use listen::{Acceptor, CtrlSocket};
pub use log::{LogHandle, LogTo};
pub use oom::spare_when_memory_is_short;
pub use pidfile::PidFile;
#[cfg(feature = "server")]
pub use signals::{Signals, Told};
pub use startup::{run_directory, start_up};
#[cfg(feature = "server")]
pub use tcp::{TcpAcceptor, listen_tcp};
