//! A monitor that notes what it was asked exactly, and refuses everything but to tell about its VM.

use std::fmt::Debug;
use std::rc::Rc;

use rpc_xdr::umlmonctrl::*;
use tokio::net::UnixListener;
use tokio::task::spawn_local;

use crate::answers::info;

/// Notes each call as `PROCEDURE ARGUMENTS`, the arguments as `{:?}` shows them, and refuses it unless it is VM_INFO,
/// which some commands need first.
pub struct Recorder {
    note: Box<dyn Fn(String)>,
}

impl Recorder {
    /// `note` gets the calls.
    pub fn new(note: impl Fn(String) + 'static) -> Recorder {
        Recorder {
            note: Box::new(note),
        }
    }

    /// Serves all connections, until the program ends.
    pub async fn serve(self: Rc<Self>, listener: UnixListener) {
        while let Ok((stream, _)) = listener.accept().await {
            let service = Rc::clone(&self);
            spawn_local(serve_umlmonctrl_v1(
                stream,
                service,
                (),
                UMLMONCTRL_V1_LIMITS,
            ));
        }
    }
}

impl PartialUmlmonctrlV1 for Recorder {
    type Session = ();

    fn refusal(&self, procedure: &'static str, args: &dyn Debug) -> CtlError {
        (self.note)(format!("{procedure} {args:?}"));
        CtlError {
            code: CtlCode::Failed,
            text: "it is only recorded".to_owned(),
        }
    }

    async fn vm_info(&self, _: &()) -> VmInfoResult {
        (self.note)("VM_INFO ()".to_owned());
        VmInfoResult::Ok(info(VmState::Running, false))
    }
}
