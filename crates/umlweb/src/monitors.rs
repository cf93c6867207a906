//! The way from a session to the monitors (umlweb).

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::time::Duration;

use cli::{Exit, Failure};
use client::{Monitor, Passage, Passed};
use config::VmName;
use rpc_xdr::auth::Key;
use rpc_xdr::client::connect;
use rpc_xdr::umldir::UmldirV1Client;

use crate::sessions::Session;
use crate::settings::Settings;

/// How long each step of connecting, and each answer to a call that does not wait for the VM, may take.
pub const LIMIT: Duration = Duration::from_secs(5);
/// How long an order may take: CTRL-ALT-DEL waits for the guest's init.
const ORDER: Duration = Duration::from_secs(60);

/// The monitors of this host.
#[derive(Debug)]
pub struct Monitors {
    passage: Passage,
    directory: PathBuf,
}

impl Monitors {
    /// Those that umldir knows.
    ///
    /// # Errors
    /// Those of [`Passage::new`].
    pub fn new(settings: &Settings) -> Result<Monitors, Failure> {
        Ok(Monitors {
            passage: Passage::new(settings.redirector.clone())?,
            directory: settings.directory.clone(),
        })
    }

    /// Logs in to a VM for a browser at this address.
    ///
    /// # Errors
    /// As [`Passage::connect`].
    pub fn log_in(&self, vm: &VmName, key: &Key, from: SocketAddr) -> Result<Passed, Failure> {
        self.passage.connect(vm, key, from, LIMIT)
    }

    /// A connection to the monitor of a VM. Answers that do not come are an error after a while.
    ///
    /// # Errors
    /// As [`Passage::connect`], or if the session has no right to this VM.
    pub fn connect(
        &self,
        session: &Session,
        vm: &VmName,
        from: SocketAddr,
    ) -> Result<Monitor, Failure> {
        if !session.may(vm) || session.has_ended() {
            let why = format!("this login is for {} only", session.vm);
            return Err(Failure::new(Exit::NotAuthorised, why));
        }
        let monitor = self.log_in(vm, session.key(), from)?.monitor;
        monitor.rpc.stream().set_patience(Some(LIMIT))?;
        Ok(monitor)
    }

    /// The same, for an order that takes its time.
    ///
    /// # Errors
    /// As [`Monitors::connect`].
    pub fn connect_for_order(
        &self,
        session: &Session,
        vm: &VmName,
        from: SocketAddr,
    ) -> Result<Monitor, Failure> {
        let monitor = self.connect(session, vm, from)?;
        monitor.rpc.stream().set_patience(Some(ORDER))?;
        Ok(monitor)
    }

    /// The VMs that a session may reach and whose monitors run, in the order of their names.
    pub fn list(&self, session: &Session) -> Vec<VmName> {
        if !session.master {
            return vec![session.vm.clone()];
        }
        self.all().unwrap_or_default()
    }

    /// All VMs whose monitors run.
    fn all(&self) -> Option<Vec<VmName>> {
        // Only root's directory service is asked.
        fs::metadata(&self.directory)
            .ok()
            .filter(|it| it.uid() == 0)?;
        let stream = connect(&self.directory, LIMIT).ok()?;
        let mut directory = UmldirV1Client::new(stream);
        let vms = directory.vm_list().ok()?.into_result().ok()?;
        Some(
            vms.into_iter()
                .filter_map(|it| it.vm.parse().ok())
                .collect(),
        )
    }
}
