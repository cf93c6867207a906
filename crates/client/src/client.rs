//! A VM and the calls a program makes to its monitor, and the connection for them. Runs in the clients.

use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use cli::{Exit, Failure};
use config::{Config, Overview, VmName};
use rpc_xdr::auth::Key;
use rpc_xdr::client::{ClientError, Ticket};
use rpc_xdr::umlmonctrl::{
    CtlError, VmCtrlaltdelArgs, VmInfo, VmMemoryArgs, VmStartArgs, VmSysrqArgs, VmWaitArgs,
    VmWaited,
};

use crate::call::{answered, broken, tell};
use crate::dial::LIMIT;
use crate::far::Far;
use crate::near::Near;
use crate::options::Options;
use crate::outage::Outage;
use crate::stream::{Connection, Monitor, Stream};
use crate::target::Target;

/// How soon it is tried again to reach a monitor that is absent.
const AGAIN: Duration = Duration::from_millis(10);

/// A VM, on this host or another one, and the connection to its monitor as soon as there is one.
///
/// Nothing is connected before the first call, and a call after a lost connection connects anew. On another host a
/// password is proved first: that of [`Options::password_file`], or one that the user is asked for on the terminal.
#[derive(Debug)]
pub struct Client {
    vm: VmName,
    address: Address,
    /// How long an answer may take; None is forever.
    limit: Option<Duration>,
    absence: Duration,
    connection: Option<Connection>,
}

/// Where a VM is.
#[derive(Debug)]
enum Address {
    Near(Near),
    Far(Box<Far>),
}

impl Client {
    /// The client of `VM`, `VM@localhost` or `VM@HOST`. `config` is the configuration of this host, which says where
    /// sockets are and has the known ports. Without it, `/etc/umlmon` is used, or the built-in values if that is
    /// missing or not readable, as users need no access to it. The options count for other hosts only.
    ///
    /// # Errors
    /// If the target is not valid, if the configuration that was given cannot be used, or if the user has no file of
    /// known hosts.
    pub fn new(target: &str, config: Option<&Path>, options: Options) -> Result<Client, Failure> {
        let Target { vm, host } = target.parse()?;
        let path = config.unwrap_or(Path::new(Config::DEFAULT_PATH));
        let read = read_config(path, config.is_some())?;
        let built_in = Overview::parse("", path).map_err(|e| Failure::new(Exit::Failed, e));
        let absent = absent(&vm, &read, path);
        let global = match read {
            Read::Config(config) => config.global,
            Read::Missing | Read::Unreadable => built_in?.global,
        };
        let address = match host {
            Some(host) => Address::Far(Box::new(Far::new(&vm, host, &global, options)?)),
            None => Address::Near(Near {
                socket: global.ctrl(&vm),
                absent,
            }),
        };
        Ok(Client::of(vm, address))
    }

    /// The client of a VM on this host whose monitor listens at this socket.
    pub fn at(vm: &VmName, socket: PathBuf) -> Client {
        let absent = Failure::new(
            Exit::NotRunning,
            format_args!("no monitor listens at {}", socket.display()),
        );
        Client::of(vm.clone(), Address::Near(Near { socket, absent }))
    }

    fn of(vm: VmName, address: Address) -> Client {
        Client {
            vm,
            address,
            limit: None,
            absence: Duration::ZERO,
            connection: None,
        }
    }

    /// Each answer on later connections may take as long as this, and each step of connecting, too, if that is less
    /// than [`LIMIT`]. Without it an answer may take forever.
    #[must_use]
    pub fn with_limit(mut self, limit: Duration) -> Client {
        self.limit = Some(limit);
        self
    }

    /// A monitor that cannot be reached is waited for at most so long: another one may be about to replace it.
    #[must_use]
    pub fn with_absence(mut self, limit: Duration) -> Client {
        self.absence = limit;
        self
    }

    /// The VM.
    pub fn vm(&self) -> &VmName {
        &self.vm
    }

    /// The name of the VM for questions to the user, with its host if that is another one.
    pub fn name(&self) -> String {
        match &self.address {
            Address::Near(_) => self.vm.to_string(),
            Address::Far(far) => far.name(),
        }
    }

    /// The monitor's information about the VM.
    ///
    /// # Errors
    /// As for [`Client::call`].
    pub fn info(&mut self) -> Result<VmInfo, Failure> {
        self.call(|monitor| Ok(monitor.vm_info()?.into_result()))
    }

    /// Starts the VM, with these arguments for its kernel in addition to the configured ones. The kernel runs when this
    /// returns; its guest has just begun to boot.
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

    /// Suspends the kernel.
    ///
    /// # Errors
    /// As for [`Client::call`].
    pub fn suspend(&mut self) -> Result<(), Failure> {
        self.call(|monitor| Ok(monitor.vm_suspend()?.into_result()))
    }

    /// Lets the suspended kernel continue.
    ///
    /// # Errors
    /// As for [`Client::call`].
    pub fn resume(&mut self) -> Result<(), Failure> {
        self.call(|monitor| Ok(monitor.vm_continue()?.into_result()))
    }

    /// Halts the kernel at once; the guest does not shut down.
    ///
    /// # Errors
    /// As for [`Client::call`].
    pub fn halt(&mut self) -> Result<(), Failure> {
        self.call(|monitor| Ok(monitor.vm_halt()?.into_result()))
    }

    /// Ends the kernel's processes by force.
    ///
    /// # Errors
    /// As for [`Client::call`].
    pub fn kill(&mut self) -> Result<(), Failure> {
        self.call(|monitor| Ok(monitor.vm_kill()?.into_result()))
    }

    /// Presses CTRL-ALT-DEL, at which a guest shuts down. With `stop` the VM does not come back if the guest reboots.
    ///
    /// # Errors
    /// As for [`Client::call`].
    pub fn ctrl_alt_del(&mut self, stop: bool) -> Result<(), Failure> {
        let args = VmCtrlaltdelArgs { stop };
        self.call(|monitor| Ok(monitor.vm_ctrlaltdel(&args)?.into_result()))
    }

    /// Sends a system request to the guest's kernel.
    ///
    /// # Errors
    /// As for [`Client::call`].
    pub fn sysrq(&mut self, letter: char) -> Result<(), Failure> {
        let letter = letter.to_string();
        let args = VmSysrqArgs { letter };
        self.call(|monitor| Ok(monitor.vm_sysrq(&args)?.into_result()))
    }

    /// Takes memory from the guest or gives it back, until it has so many megabytes.
    ///
    /// # Errors
    /// As for [`Client::call`].
    pub fn resize_memory(&mut self, megabytes: u32) -> Result<(), Failure> {
        let args = VmMemoryArgs { megabytes };
        self.call(|monitor| Ok(monitor.vm_memory(&args)?.into_result()))
    }

    /// Gives memory that the guest does not use to the host; returns how many bytes.
    ///
    /// # Errors
    /// As for [`Client::call`].
    pub fn reclaim(&mut self) -> Result<u64, Failure> {
        self.call(|monitor| Ok(monitor.vm_reclaim()?.into_result()))
            .map(|reclaimed| reclaimed.bytes)
    }

    /// Calls a procedure of the monitor; connects first if necessary. After a connection broke, the next call connects
    /// anew.
    ///
    /// # Errors
    /// If the monitor cannot be reached ([`Exit::NotRunning`] if none runs), if it refuses ([`crate::refused`]), or if
    /// the connection is lost before the answer ([`crate::broken`]): then it is not known whether the call was carried
    /// out.
    pub fn call<T>(
        &mut self,
        call: impl FnOnce(&mut Monitor) -> Result<Result<T, CtlError>, ClientError>,
    ) -> Result<T, Failure> {
        let answer = call(self.monitor()?);
        if answer.is_err() {
            self.disconnect();
        }
        answered(answer)
    }

    /// As [`Client::call`], for a call that changes nothing: if the connection breaks before the answer, and the
    /// monitor comes back, the call is made once more, and the user is told.
    ///
    /// # Errors
    /// As for [`Client::call`] and [`Client::ask_again`].
    pub fn ask<T>(
        &mut self,
        mut call: impl FnMut(&mut Monitor) -> Result<Result<T, CtlError>, ClientError>,
    ) -> Result<T, Failure> {
        loop {
            match call(self.monitor()?) {
                Err(error @ ClientError::Lost(_)) => {
                    let pause = |time| {
                        std::thread::sleep(time);
                        Ok(())
                    };
                    // Before the call, which may take long.
                    self.ask_again(error, pause, |monitor| monitor.ctl_null().map(Ok))?;
                    self.tell_that_it_is_back();
                }
                answer => return self.call(|_| answer),
            }
        }
    }

    /// Connects again after a connection broke with `error`, and makes a call that is answered at once. `pause` waits
    /// for so long between attempts to connect; its error ends them.
    ///
    /// # Errors
    /// How the connection broke, if the monitor does not come back in time; that it refuses the call, or no longer
    /// accepts the password.
    pub fn ask_again<T>(
        &mut self,
        error: ClientError,
        mut pause: impl FnMut(Duration) -> Result<(), Failure>,
        mut call: impl FnMut(&mut Monitor) -> Result<Result<T, CtlError>, ClientError>,
    ) -> Result<T, Failure> {
        self.disconnect();
        let mut outage = Outage::begin(error, false)?;
        loop {
            if let Some(mut connection) = self.attempt(&mut outage)? {
                match call(&mut connection.monitor) {
                    // It has come back only for a moment.
                    Err(ClientError::Lost(_)) => {}
                    answer => {
                        self.connection = Some(connection);
                        return self.call(|_| answer);
                    }
                }
            }
            if outage.is_noticed() {
                tell(&self.what_is_missing());
            }
            pause(outage.waits())?;
        }
    }

    /// Sends a call, and reads its answer if `wait` returns true because there is one to read. Otherwise the connection
    /// is closed: the answer could not be distinguished from a later one.
    ///
    /// # Errors
    /// As for [`Client::call`]; a refusal is in the answer.
    pub fn call_while<R>(
        &mut self,
        send: impl FnOnce(&mut Monitor) -> Result<Ticket<R>, ClientError>,
        wait: impl FnOnce(&Stream) -> bool,
    ) -> Result<R, Failure> {
        self.try_while(send, wait)?.map_err(broken)
    }

    /// As [`Client::call_while`], for a caller that goes on after the connection broke.
    ///
    /// # Errors
    /// As for [`Client::connect`].
    pub fn try_while<R>(
        &mut self,
        send: impl FnOnce(&mut Monitor) -> Result<Ticket<R>, ClientError>,
        wait: impl FnOnce(&Stream) -> bool,
    ) -> Result<Result<R, ClientError>, Failure> {
        let monitor = self.monitor()?;
        let answer = send(monitor).and_then(|ticket| match wait(monitor.rpc.stream()) {
            true => monitor.rpc.wait(ticket),
            false => Err(ClientError::TimedOut),
        });
        if answer.is_err() {
            self.disconnect();
        }
        Ok(answer)
    }

    /// Connects at once, so that a password is asked for before anything else, and a VM that does not exist is told. A
    /// monitor on this host may come later.
    ///
    /// # Errors
    /// As for [`Client::connect`].
    pub fn begin(&mut self) -> Result<(), Failure> {
        let is_near = matches!(self.address, Address::Near(_));
        match self.connection() {
            Err(failure) if is_near && failure.exit == Exit::NotRunning => Ok(()),
            connected => connected.map(|_| ()),
        }
    }

    /// The procedures of the monitor, for several calls at a time; connects if necessary.
    ///
    /// # Errors
    /// As for [`Client::connect`].
    pub fn monitor(&mut self) -> Result<&mut Monitor, Failure> {
        Ok(&mut self.connection()?.monitor)
    }

    /// The connection; connects if necessary.
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

    /// A connection of its own, for a caller that reads and writes at the same time.
    ///
    /// # Errors
    /// If the monitor cannot be reached, or the password is not right. Each step may take as long as [`LIMIT`].
    pub fn connect(&self) -> Result<Connection, Failure> {
        let limit = self.limit.map_or(LIMIT, |limit| limit.min(LIMIT));
        let until = Instant::now() + self.absence;
        loop {
            let connected = match &self.address {
                Address::Near(near) => near.connect(limit),
                Address::Far(far) => far.connect(limit),
            };
            match connected {
                Err(absent) if absent.exit == Exit::NotRunning && Instant::now() < until => {
                    std::thread::sleep(AGAIN);
                }
                connected => return self.prepared(connected?),
            }
        }
    }

    /// The connection, on which answers have the time limit of this client.
    fn prepared(&self, connection: Connection) -> Result<Connection, Failure> {
        if self.limit.is_some() {
            let stream = connection.monitor.rpc.stream();
            stream.set_patience(self.limit)?;
        }
        Ok(connection)
    }

    /// As [`Client::connect`], but without questions to the user, and with a short time limit, also for each call. None
    /// if that does not work.
    pub fn connect_quietly(&self, limit: Duration) -> Option<Monitor> {
        let monitor = self.connect_unasked(limit).ok()?.monitor;
        monitor.rpc.stream().set_patience(Some(limit)).ok()?;
        Some(monitor)
    }

    /// Tries to connect after an outage began, unless it is too early for it; None if there is no connection yet. The
    /// user is asked nothing: a password that was given before is used again.
    ///
    /// # Errors
    /// How the connection broke, if the monitor does not come back in time; that the password is no longer accepted.
    pub fn attempt(&self, outage: &mut Outage) -> Result<Option<Connection>, Failure> {
        let has_left = match &self.address {
            // A monitor that ends as it was told to removes its socket.
            Address::Near(near) => !near.socket.exists(),
            Address::Far(_) => false,
        };
        outage.attempt(has_left, |limit| self.connect_unasked(limit))
    }

    fn connect_unasked(&self, limit: Duration) -> Result<Connection, Failure> {
        self.prepared(match &self.address {
            Address::Near(near) => near.connect(limit),
            Address::Far(far) => far.connect_unasked(limit),
        }?)
    }

    /// What has happened when an [`Outage`] is over, and `but` more about it: for people.
    pub fn what_broke(&self, but: &str) -> String {
        let vm = &self.vm;
        let what = match &self.address {
            Address::Near(_) => format!("the monitor of {vm} was restarted"),
            // The network may have been the reason, too.
            Address::Far(_) => format!("the connection to the monitor of {vm} was lost"),
        };
        format!("{what}{but}; connected again")
    }

    /// Tells the user that the connection broke and there is another one.
    pub fn tell_that_it_is_back(&self) {
        tell(&self.what_broke(""));
    }

    /// What an [`Outage`] waits for: for people.
    pub fn what_is_missing(&self) -> String {
        let vm = &self.vm;
        match &self.address {
            Address::Near(_) => format!("the monitor of {vm} is gone; waiting until it is back"),
            Address::Far(_) => format!("no connection to the monitor of {vm}; trying again"),
        }
    }

    /// Ends the connection; the next call connects anew.
    pub fn disconnect(&mut self) {
        self.connection = None;
    }

    /// The password has been changed to this one.
    pub(crate) fn change_key(&self, key: Key) {
        if let Address::Far(far) = &self.address {
            far.change_key(key);
        }
    }
}

/// What was found as the configuration of this host. The default one need not be there, or readable.
#[derive(Debug)]
enum Read {
    Config(Box<Overview>),
    Missing,
    Unreadable,
}

/// Why no process listens at the socket of a VM, as far as the configuration at `path` tells.
fn absent(vm: &VmName, read: &Read, path: &Path) -> Failure {
    let path = path.display();
    let start = format!("'umladmin start {vm}' starts one");
    match read {
        Read::Config(config) if !config.has(vm) => {
            Failure::new(Exit::Failed, format_args!("there is no such VM in {path}"))
        }
        Read::Config(_) | Read::Missing => Failure::new(
            Exit::NotRunning,
            format_args!("no monitor is running for it; {start}"),
        ),
        Read::Unreadable => Failure::new(
            Exit::NotRunning,
            format_args!(
                "no monitor was found for it, but {path} is not readable, and may say where monitors are: make it \
                 readable (chmod a+r), or give a copy with -config; if none is running, {start}"
            ),
        ),
    }
}

fn read_config(path: &Path, asked_for: bool) -> Result<Read, Failure> {
    match File::open(path).map_err(|error| error.kind()) {
        Err(ErrorKind::NotFound) if !asked_for => Ok(Read::Missing),
        Err(ErrorKind::PermissionDenied) if !asked_for => Ok(Read::Unreadable),
        _ => Overview::load(path)
            .map(|config| Read::Config(Box::new(config)))
            .map_err(|e| Failure::new(Exit::Failed, e)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_need_no_configuration() {
        let missing = Path::new("/nonexistent/umlmon");
        let read = read_config(missing, false).unwrap();
        assert!(matches!(read, Read::Missing));
        assert_eq!(read_config(missing, true).unwrap_err().exit, Exit::Failed);
        let built_in = Overview::parse("", missing).unwrap();
        let socket = built_in.global.ctrl(&"vm1".parse().unwrap());
        assert_eq!(socket, Path::new("/var/lib/umlmon/vm1/ctrl"));
    }

    /// I18
    #[test]
    fn a_configuration_that_cannot_be_read_may_be_why_no_monitor_is_found() {
        let vm = "vm1".parse().unwrap();
        let why = |read| absent(&vm, &read, Path::new("/etc/umlmon")).message;
        let unreadable = why(Read::Unreadable);
        assert!(
            unreadable.contains("/etc/umlmon is not readable"),
            "{unreadable}"
        );
        assert!(why(Read::Missing).starts_with("no monitor is running for it; "));
    }
}
