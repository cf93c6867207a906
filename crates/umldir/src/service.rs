//! The procedures of the interface (umldir). Here, and nowhere else in the daemon, types of the wire meet those of the
//! daemon.

use std::cell::RefCell;
use std::rc::Rc;

use config::VmName;
use rpc_xdr::umldir::*;

use crate::directory::{Directory, Monitor, Registration};

/// What the procedures need.
#[derive(Debug, Default)]
pub struct Service {
    directory: Rc<Directory>,
}

/// A connection: who it is, as the kernel says, and what it has registered. The registration ends with it.
#[derive(Debug)]
pub struct Session {
    uid: u32,
    pid: u32,
    registration: RefCell<Option<Registration>>,
}

impl Session {
    /// The connection of a process with these credentials (SO_PEERCRED).
    pub fn new(uid: u32, pid: Option<i32>) -> Session {
        Session {
            uid,
            pid: pid.and_then(|pid| pid.try_into().ok()).unwrap_or(0),
            registration: RefCell::default(),
        }
    }

    /// Only root runs monitors: whoever else says so wants the passwords of those who connect to his port.
    pub fn may_register(&self) -> bool {
        self.uid == 0
    }
}

impl Service {
    fn register(&self, session: &Session, args: VmRegisterArgs) -> Result<(), DirError> {
        let VmRegisterArgs { vm, port } = args;
        if !session.may_register() {
            tracing::warn!(
                uid = session.uid,
                pid = session.pid,
                vm,
                "registration refused"
            );
            let text = format!("cannot register {vm}: only root may");
            return Err(error(DirCode::NotAuthorised, text));
        }
        let vm = name(&vm)?;
        let port = u16::try_from(port)
            .map_err(|_| error(DirCode::Invalid, format!("{port} is not a TCP port")))?;
        let monitor = Monitor {
            pid: session.pid,
            port,
        };
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

    async fn vm_list(&self, _: &Session) -> VmListResult {
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
}

fn name(text: &str) -> Result<VmName, DirError> {
    text.parse()
        .map_err(|e: config::Error| error(DirCode::Invalid, e.to_string()))
}

fn error(code: DirCode, text: impl Into<String>) -> DirError {
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
        let (root, other) = (Session::new(0, Some(7)), Session::new(1000, Some(8)));
        assert_eq!(
            register(&other, &service, "vm1", 4711),
            Err(DirCode::NotAuthorised)
        );
        let unknown = service.port("vm1").unwrap_err();
        assert_eq!(unknown.code, DirCode::NotFound);
        assert_eq!(register(&root, &service, "vm1", 4711), Ok(()));
        assert_eq!(service.port("vm1"), Ok(DirPort { port: 4711 }));
        drop(root);
        assert_eq!(service.port("vm1"), Err(unknown));
    }

    #[test]
    fn without_a_port_a_vm_is_known_and_has_no_tcp() {
        let (service, session) = (Service::default(), Session::new(0, None));
        assert_eq!(register(&session, &service, "vm1", 0), Ok(()));
        let refused = service.port("vm1").unwrap_err();
        assert_eq!(refused.code, DirCode::NoTcp);
        assert_eq!(refused.text, "TCP is not enabled for this VM");
    }

    #[test]
    fn what_makes_no_sense_is_refused_and_changes_nothing() {
        let (service, session) = (Service::default(), Session::new(0, None));
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
