//! Who may call what: the one table of all procedures (umlmon, the monitor process).
//!
//! A connection that is not authenticated gets no further than the authentication itself (`rpc_xdr::server::Door`), and
//! one that is, or is local, has no use for it.

use std::rc::Rc;

use rpc_xdr::server::{Answer, Call, Program, Reject};
use rpc_xdr::umlmonctrl::{UMLMONCTRL_V1_PROCEDURES, UmlmonctrlV1Program};

use crate::service::Service;
use crate::service::session::{Session, Trust};

/// To whom a procedure is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Open {
    /// Local connections, and remote ones that are authenticated.
    Inside,
    /// Local connections, and remote ones whose messages are sealed.
    Sealed,
}

use Open::{Inside, Sealed};

/// Every procedure of UMLMONCTRL. Who knows the password may do what a local user may (umlwatch(1)).
const TABLE: &[(&str, Open)] = &[
    ("CTL_NULL", Inside),
    ("VM_INFO", Inside),
    ("VM_START", Inside),
    ("VM_SUSPEND", Inside),
    ("VM_CONTINUE", Inside),
    ("VM_HALT", Inside),
    ("VM_CTRLALTDEL", Inside),
    ("VM_KILL", Inside),
    ("VM_SYSRQ", Inside),
    ("VM_WAIT", Inside),
    ("VM_READY", Inside),
    ("CON_OPEN", Inside),
    ("CON_READ", Inside),
    ("CON_WRITE", Inside),
    ("CON_RESIZE", Inside),
    ("CON_CLOSE", Inside),
    ("CON_SCREEN", Inside),
    ("LOG_TAIL", Inside),
    ("LOG_READ", Inside),
    ("LOG_ROTATE", Inside),
    ("CONFIG_GET", Inside),
    ("CONFIG_SET", Inside),
    ("CONFIG_DEL", Inside),
    ("PORT_GET", Inside),
    ("SITE_RUN", Inside),
    // What comes over an open wire may have been changed on it.
    ("PASSWORD_SET", Sealed),
    ("DISK_BEGIN", Inside),
    ("DISK_WAIT", Inside),
    ("DISK_CANCEL", Inside),
    ("DISK_LIST", Inside),
    ("EVENT_READ", Inside),
];

/// Whether a connection that is let in may call the procedure; what is not in the table nobody may.
fn may_call(trust: Trust, procedure: u32) -> bool {
    let known = UMLMONCTRL_V1_PROCEDURES
        .iter()
        .find(|known| known.number == procedure);
    let open = known.and_then(|known| TABLE.iter().find(|(name, _)| *name == known.name));
    match (open, trust) {
        (None, _) => false,
        (Some((_, Inside)), _) | (Some((_, Sealed)), Trust::Local) => true,
        (Some((_, Sealed)), Trust::Remote { sealed, .. }) => sealed,
    }
}

/// UMLMONCTRL, as far as the session may call it.
#[derive(Debug)]
pub struct Guarded;

impl Program<Service> for Guarded {
    type Session = Session;
    const NUMBER: u32 = <UmlmonctrlV1Program as Program<Service>>::NUMBER;
    const VERSION: u32 = <UmlmonctrlV1Program as Program<Service>>::VERSION;

    fn dispatch(
        service: &Rc<Service>,
        session: &Rc<Session>,
        call: Call<'_>,
    ) -> Result<Answer, Reject> {
        if !may_call(session.trust(), call.procedure()) {
            return Err(Reject::ProcedureUnavailable);
        }
        UmlmonctrlV1Program::dispatch(service, session, call)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_procedure_is_in_the_table_once() {
        let listed: Vec<_> = TABLE.iter().map(|(name, _)| *name).collect();
        let set: BTreeSet<_> = listed.iter().copied().collect();
        assert_eq!(set.len(), listed.len(), "twice");
        let procedures = UMLMONCTRL_V1_PROCEDURES.iter().map(|it| it.name);
        assert_eq!(set, procedures.collect());
    }

    #[test]
    fn each_caller_may_call_what_the_table_says() {
        let remote = |sealed| Trust::Remote {
            sealed,
            nonce: [0; 16],
        };
        let all: Vec<u32> = UMLMONCTRL_V1_PROCEDURES
            .iter()
            .map(|it| it.number)
            .collect();
        let refused = |trust| -> Vec<u32> {
            let every = all.iter().copied();
            every.filter(|number| !may_call(trust, *number)).collect()
        };
        assert_eq!(refused(Trust::Local), [0; 0]);
        assert_eq!(refused(remote(true)), [0; 0]);
        assert_eq!(refused(remote(false)), [52]);
        for number in (0..1000).filter(|number| !all.contains(number)) {
            assert!(!may_call(Trust::Local, number), "{number}");
        }
    }
}
