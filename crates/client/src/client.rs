//! A VM as a program commands it, and the connection to its monitor. Runs in the clients.

use std::fs::File;
use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use cli::{Exit, Failure};
use config::{Config, Overview, VmName};
use rpc_xdr::auth::Key;
use rpc_xdr::client::ClientError;
use rpc_xdr::umlmonctrl::{CtlError, VmInfo, VmStartArgs, VmWaitArgs, VmWaited};

use crate::call::{broken, refused};
use crate::dial::LIMIT;
use crate::far::Far;
use crate::near::Near;
use crate::options::Options;
use crate::stream::{Connection, Monitor};
use crate::target::Target;

/// A VM, on this host or another one, and the connection to its monitor as soon as there is one.
///
/// Nothing is connected before the first call, and a call after a lost connection connects anew. On another host a password
/// is proved first: that of [`Options::password_file`], or one that the user is asked for on the terminal.
#[derive(Debug)]
pub struct Client {
    vm: VmName,
    address: Address,
    connection: Option<Connection>,
}

/// Where a VM is.
#[derive(Debug)]
enum Address {
    Near(Near),
    Far(Box<Far>),
}

impl Client {
    /// The client of `VM`, `VM@localhost` or `VM@HOST`. `config` is the configuration of this host, which says where sockets
    /// are and has the known ports. Without it, `/etc/umlmon` is used, or the built-in values if that is missing or not
    /// readable, as users need no access to it. The options count for other hosts only.
    ///
    /// # Errors
    /// If the target is none, if the configuration that was given cannot be used, or if the user has no file of known hosts.
    pub fn new(target: &str, config: Option<&Path>, options: Options) -> Result<Client, Failure> {
        let Target { vm, host } = target.parse()?;
        let path = config.unwrap_or(Path::new(Config::DEFAULT_PATH));
        let read = read_config(path, config.is_some())?;
        let built_in = Overview::parse("", path).map_err(|e| Failure::new(Exit::Failed, e));
        let configured = read.as_ref().map(|config| config.has(&vm));
        let global = read.map_or(built_in, Ok)?.global;
        let address = match host {
            Some(host) => Address::Far(Box::new(Far::new(&vm, host, &global, options)?)),
            None => Address::Near(Near {
                socket: global.ctrl(&vm),
                configured,
                config: path.to_owned(),
            }),
        };
        Ok(Client {
            vm,
            address,
            connection: None,
        })
    }

    /// The VM.
    pub fn vm(&self) -> &VmName {
        &self.vm
    }

    /// The VM as it is called in questions, with its host if that is another one.
    pub fn name(&self) -> String {
        match &self.address {
            Address::Near(_) => self.vm.to_string(),
            Address::Far(far) => far.name(),
        }
    }

    /// What the monitor tells about the VM.
    ///
    /// # Errors
    /// As for [`Client::call`].
    pub fn info(&mut self) -> Result<VmInfo, Failure> {
        self.call(|monitor| Ok(monitor.vm_info()?.into_result()))
    }

    /// Starts the VM, with these arguments for its kernel in addition to the configured ones. The kernel runs when this comes
    /// back; its guest has just begun to boot.
    ///
    /// # Errors
    /// As for [`Client::call`]; the VM is not started then.
    pub fn start(&mut self, extra: &[Vec<u8>]) -> Result<(), Failure> {
        let args = VmStartArgs {
            extra: extra.to_vec(),
        };
        self.call(|monitor| Ok(monitor.vm_start(&args)?.into_result()))
    }

    /// Waits until the VM is inactive, at most for so many seconds; says whether it is, and how its last run ended.
    ///
    /// # Errors
    /// As for [`Client::call`].
    pub fn wait(&mut self, seconds: u32) -> Result<VmWaited, Failure> {
        let args = VmWaitArgs { seconds };
        self.call(|monitor| Ok(monitor.vm_wait(&args)?.into_result()))
    }

    /// Calls a procedure of the monitor, connecting first if need be. After one that broke off, the next call connects anew.
    ///
    /// # Errors
    /// If the monitor cannot be reached ([`Exit::NotRunning`] if none runs), if it refuses ([`refused`]), or if the connection
    /// is lost before the answer ([`broken`]): then nobody knows whether the call was carried out.
    pub fn call<T>(
        &mut self,
        call: impl FnOnce(&mut Monitor) -> Result<Result<T, CtlError>, ClientError>,
    ) -> Result<T, Failure> {
        match call(self.monitor()?) {
            Ok(answer) => answer.map_err(refused),
            Err(error) => {
                self.disconnect();
                Err(broken(error))
            }
        }
    }

    /// Connects with another host at once, so that a password is asked for before anything else. A monitor on this host
    /// may come later.
    ///
    /// # Errors
    /// As for [`Client::connect`].
    pub fn begin(&mut self) -> Result<(), Failure> {
        match self.address {
            Address::Near(_) => Ok(()),
            Address::Far(_) => self.connection().map(|_| ()),
        }
    }

    /// The procedures of the monitor, for several calls at a time; connects if need be.
    ///
    /// # Errors
    /// As for [`Client::connect`].
    pub fn monitor(&mut self) -> Result<&mut Monitor, Failure> {
        Ok(&mut self.connection()?.monitor)
    }

    /// The connection; connects if need be.
    ///
    /// # Errors
    /// As for [`Client::connect`].
    pub fn connection(&mut self) -> Result<&mut Connection, Failure> {
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.connect()?,
        };
        Ok(self.connection.insert(connection))
    }

    /// A connection of its own, for who reads and writes at the same time.
    ///
    /// # Errors
    /// If the monitor cannot be reached, or the password is not right. Each step may take as long as [`LIMIT`].
    pub fn connect(&self) -> Result<Connection, Failure> {
        match &self.address {
            Address::Near(near) => near.connect(&self.vm, LIMIT),
            Address::Far(far) => far.connect(LIMIT),
        }
    }

    /// As [`Client::connect`], where nobody wants to be asked, nor to wait for long. No call may take longer either. None if
    /// that does not work.
    pub fn connect_quietly(&self, limit: Duration) -> Option<Monitor> {
        let connection = match &self.address {
            Address::Near(near) => near.connect(&self.vm, limit).ok()?,
            Address::Far(far) => far.connect_quietly(limit)?,
        };
        let monitor = connection.monitor;
        monitor.rpc.stream().set_patience(Some(limit)).ok()?;
        Some(monitor)
    }

    /// Ends the connection; the next call connects anew.
    pub fn disconnect(&mut self) {
        self.connection = None;
    }

    /// The password has been changed to this one.
    pub fn change_key(&self, key: Key) {
        if let Address::Far(far) = &self.address {
            far.change_key(key);
        }
    }
}

fn read_config(path: &Path, asked_for: bool) -> Result<Option<Overview>, Failure> {
    match File::open(path) {
        Err(e)
            if !asked_for
                && matches!(e.kind(), ErrorKind::NotFound | ErrorKind::PermissionDenied) =>
        {
            Ok(None)
        }
        _ => Overview::load(path)
            .map(Some)
            .map_err(|e| Failure::new(Exit::Failed, e)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_need_no_configuration() {
        let missing = Path::new("/nonexistent/umlmon");
        assert!(read_config(missing, false).unwrap().is_none());
        assert_eq!(read_config(missing, true).unwrap_err().exit, Exit::Failed);
        let built_in = Overview::parse("", missing).unwrap();
        let socket = built_in.global.ctrl(&"vm1".parse().unwrap());
        assert_eq!(socket, Path::new("/var/lib/umlmon/vm1/ctrl"));
    }
}
