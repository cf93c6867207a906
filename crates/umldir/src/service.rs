//! The procedures of the interface (umldir). Here, and nowhere else in the daemon, types of the wire meet those of the
//! daemon.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;

use config::VmName;
use rpc_xdr::umldir::*;

use crate::directory::{Directory, Monitor, Registration};
use crate::sparing::Sparing;

/// What the procedures need.
#[derive(Debug, Default)]
pub struct Service {
    directory: Rc<Directory>,
    /// The TCP port of the redirector, if there is one.
    redirector: Option<u16>,
    remarks: Sparing,
}

/// A connection: who it is, and what it has registered. The registration ends with it.
#[derive(Debug)]
pub struct Session {
    peer: Peer,
    registration: RefCell<Option<Registration>>,
}

#[derive(Debug, Clone, Copy)]
enum Peer {
    /// A process of this host, as reported by the kernel.
    Local { uid: u32, pid: u32 },
    /// The client at this address.
    Remote(SocketAddr),
}

impl Session {
    /// The connection of a process with these credentials (SO_PEERCRED).
    pub fn local(uid: u32, pid: Option<i32>) -> Session {
        let pid = pid.and_then(|pid| pid.try_into().ok()).unwrap_or(0);
        Session::of(Peer::Local { uid, pid })
    }

    /// A connection over TCP.
    pub fn remote(from: SocketAddr) -> Session {
        Session::of(Peer::Remote(from))
    }

    fn of(peer: Peer) -> Session {
        Session {
            peer,
            registration: RefCell::default(),
        }
    }

    /// Whether it may register a VM; gives its process ID then. Only root runs monitors: another user who registers one
    /// could collect the passwords of clients that connect to his port.
    pub fn may_register(&self) -> Option<u32> {
        match self.peer {
            Peer::Local { uid: 0, pid } => Some(pid),
            Peer::Local { .. } | Peer::Remote(_) => None,
        }
    }
}

impl Service {
    /// The service of a host with a redirector at this TCP port, or without one.
    pub fn new(directory: Rc<Directory>, redirector: Option<u16>) -> Service {
        Service {
            directory,
            redirector,
            ..Service::default()
        }
    }

    fn register(&self, session: &Session, args: VmRegisterArgs) -> Result<(), DirError> {
        let VmRegisterArgs { vm, port } = args;
        let Some(pid) = session.may_register() else {
            match session.peer {
                Peer::Local { uid, pid } => tracing::warn!(uid, pid, vm, "registration refused"),
                Peer::Remote(from) if self.remarks.may() => {
                    tracing::warn!(%from, vm, "registration refused");
                }
                Peer::Remote(_) => {}
            }
            let text = format!("cannot register {vm}: only root of this host may");
            return Err(error(DirCode::NotAuthorised, text));
        };
        let vm = name(&vm)?;
        let port = u16::try_from(port)
            .map_err(|_| error(DirCode::Invalid, format!("{port} is not a TCP port")))?;
        let monitor = Monitor { pid, port };
        let full = || {
            let text = format!("cannot register {vm}: there are {DIR_VMS_MAX} VMs already");
            error(DirCode::Failed, text)
        };
        // One more than the interface can list would make the list an error.
        let max = DIR_VMS_MAX as usize;
        let registration = self.directory.register(vm.clone(), monitor, max);
        session
            .registration
            .replace(Some(registration.ok_or_else(full)?));
        Ok(())
    }

    fn port(&self, vm: &str) -> Result<DirPort, DirError> {
        let vm = name(vm)?;
        let Some(monitor) = self.directory.get(&vm) else {
            let text = format!("no monitor for {vm} is running; umladmin start starts it");
            return Err(error(DirCode::NotFound, text));
        };
        match monitor.port {
            0 => Err(error(DirCode::NoTcp, "TCP is not enabled for this VM")),
            port => Ok(DirPort { port: port.into() }),
        }
    }
}

impl UmldirV1 for Service {
    type Session = Session;

    async fn get_port(&self, _: &Session, args: DirName) -> GetPortResult {
        self.port(&args).into()
    }

    async fn vm_list(&self, session: &Session) -> VmListResult {
        // Other hosts get a VM that they name, as the redirector allows it.
        if let Peer::Remote(_) = session.peer {
            let text = "over TCP there is no list of VMs; GET_PORT tells of one that is named";
            return VmListResult::Error(error(DirCode::NotAuthorised, text));
        }
        let all = self.directory.all().into_iter();
        VmListResult::Ok(
            all.map(|(vm, Monitor { pid, port })| DirVm {
                vm: vm.to_string(),
                pid,
                port: port.into(),
            })
            .collect(),
        )
    }

    async fn vm_register(&self, session: &Session, args: VmRegisterArgs) -> DirResult {
        self.register(session, args).into()
    }

    async fn host_info(&self, _: &Session) -> HostInfoResult {
        HostInfoResult::Ok(DirHost {
            redirector: self.redirector.unwrap_or(0).into(),
            release: env!("CARGO_PKG_VERSION").to_owned(),
        })
    }
}

fn name(text: &str) -> Result<VmName, DirError> {
    text.parse()
        .map_err(|e: config::Error| error(DirCode::Invalid, e.to_string()))
}

/// The error arm of a result.
pub fn error(code: DirCode, text: impl Into<String>) -> DirError {
    DirError {
        code,
        text: text.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn register(session: &Session, service: &Service, vm: &str, port: u32) -> Result<(), DirCode> {
        let args = VmRegisterArgs {
            vm: vm.into(),
            port,
        };
        service.register(session, args).map_err(|error| error.code)
    }

    #[test]
    fn only_root_registers() {
        let service = Service::default();
        let root = Session::local(0, Some(7));
        let far = Session::remote(([127, 0, 0, 1], 1000).into());
        for other in [Session::local(1000, Some(8)), far] {
            let refused = register(&other, &service, "vm1", 4711);
            assert_eq!(refused, Err(DirCode::NotAuthorised), "{other:?}");
        }
        let unknown = service.port("vm1").unwrap_err();
        assert_eq!(unknown.code, DirCode::NotFound);
        assert_eq!(register(&root, &service, "vm1", 4711), Ok(()));
        assert_eq!(service.port("vm1"), Ok(DirPort { port: 4711 }));
        drop(root);
        assert_eq!(service.port("vm1"), Err(unknown));
    }

    #[test]
    fn without_a_port_a_vm_is_known_and_has_no_tcp() {
        let (service, session) = (Service::default(), Session::local(0, None));
        assert_eq!(register(&session, &service, "vm1", 0), Ok(()));
        let refused = service.port("vm1").unwrap_err();
        assert_eq!(refused.code, DirCode::NoTcp);
        assert_eq!(refused.text, "TCP is not enabled for this VM");
    }

    #[test]
    fn what_makes_no_sense_is_refused_and_changes_nothing() {
        let (service, session) = (Service::default(), Session::local(0, None));
        assert_eq!(register(&session, &service, "vm1", 1), Ok(()));
        for (vm, port) in [("vm1", 65536), ("../vm1", 1), ("directory", 1), ("", 1)] {
            assert_eq!(
                register(&session, &service, vm, port),
                Err(DirCode::Invalid),
                "{vm}:{port}"
            );
        }
        assert_eq!(service.port("shared").unwrap_err().code, DirCode::Invalid);
        assert_eq!(service.directory.all().len(), 1);
        // A second registration of the connection takes the place of the first.
        assert_eq!(register(&session, &service, "vm2", 1), Ok(()));
        assert_eq!(service.port("vm1").unwrap_err().code, DirCode::NotFound);
    }
}
