//! Who may call which procedure (umlmon, the monitor process).
//!
//! A connection that is not authenticated can only call the authentication itself (`rpc_xdr::server::Door`); one that
//! is authenticated, or is local, cannot call it.

use std::rc::Rc;

use rpc_xdr::server::{Answer, Call, Program, Reject};
use rpc_xdr::umlmonctrl::{UMLMONCTRL_V1_PROCEDURES, UmlmonctrlV1Program};

use crate::service::Service;
use crate::service::session::{Session, Trust};

/// The procedures that are closed to remote connections whose messages are not sealed: messages on an unprotected
/// connection may have been changed. All others are open to a client that knows the password: it may do what a local
/// user may (umlwatch(1)).
const SEALED: &[&str] = &["PASSWORD_SET", "PASSWORD_START", "PASSWORD_FINISH"];

/// Whether a connection that is let in may call the procedure; false for procedures that do not exist.
fn may_call(trust: &Trust, procedure: u32) -> bool {
    let known = UMLMONCTRL_V1_PROCEDURES
        .iter()
        .find(|known| known.number == procedure);
    let is_open = |name| match trust {
        Trust::Local | Trust::Remote { sealed: true, .. } => true,
        Trust::Remote { sealed: false, .. } => !SEALED.contains(&name),
    };
    known.is_some_and(|known| is_open(known.name))
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
    use rpc_xdr::pake::Proved;

    /// The interface file documents it for authors of clients.
    #[test]
    fn the_interface_says_what_must_be_sealed() {
        let procedures = UMLMONCTRL_V1_PROCEDURES.iter();
        let said = procedures.filter(|it| it.doc.contains("A remote caller must seal."));
        let said: Vec<&str> = said.map(|it| it.name).collect();
        assert_eq!(said, SEALED);
    }

    #[test]
    fn each_caller_may_call_what_the_table_says() {
        let remote = |sealed| Trust::Remote {
            sealed,
            proved: Proved::V1([0; 16]),
        };
        let all: Vec<u32> = UMLMONCTRL_V1_PROCEDURES
            .iter()
            .map(|it| it.number)
            .collect();
        let refused = |trust: Trust| -> Vec<u32> {
            let every = all.iter().copied();
            every.filter(|number| !may_call(&trust, *number)).collect()
        };
        assert_eq!(refused(Trust::Local), [0; 0]);
        assert_eq!(refused(remote(true)), [0; 0]);
        assert_eq!(refused(remote(false)), [52, 53, 54]);
        for number in (0..1000).filter(|number| !all.contains(number)) {
            assert!(!may_call(&Trust::Local, number), "{number}");
        }
    }
}
