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
mod process;
#[cfg(feature = "server")]
mod signals;
mod source;
mod startup;
#[cfg(feature = "server")]
mod tcp;
#[cfg(feature = "tls")]
mod tls;

#[cfg(feature = "account")]
pub use account::Account;
pub use aside::aside;
pub use background::{Readiness, background, has_terminal};
#[cfg(feature = "server")]
pub use crowd::{Crowd, Place};
pub use error::Error;
pub use home::Home;
#[cfg(feature = "server")]
pub use listen::{Acceptor, CtrlSocket};
pub use log::{LogHandle, LogTo};
pub use oom::spare_when_memory_is_short;
pub use pidfile::PidFile;
pub use process::{ProcessStat, boot};
#[cfg(feature = "server")]
pub use signals::{Signals, Told};
pub use source::source;
pub use startup::{run_directory, start_up};
#[cfg(feature = "server")]
pub use tcp::{TcpAcceptor, listen_tcp};
#[cfg(feature = "tls")]
pub use tls::server_config;
