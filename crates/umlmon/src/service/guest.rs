//! The procedures for the helper in the guest: streams of pieces, which the monitor only carries (umlmon, the monitor
//! process).

use std::rc::Rc;

use rpc_xdr::umlmonctrl::*;

use crate::failure::Failure;
use crate::helper::Stream;
use crate::service::session::Session;
use crate::service::{MAX_WAIT, Service, patience};

impl Service {
    pub(super) async fn open_stream(
        &self,
        session: &Session,
        args: &GuestOpenArgs,
    ) -> Result<GuestStream, Failure> {
        self.must_run()?;
        let stream = self.setup.helper.open(patience(args.wait_ms)).await?;
        let number = stream.number();
        session.open(Rc::new(stream))?;
        Ok(GuestStream { stream: number })
    }

    pub(super) async fn send_pieces(
        &self,
        session: &Session,
        args: &GuestSendArgs,
    ) -> Result<(), Failure> {
        let stream = stream(session, args.stream)?;
        for piece in &args.pieces {
            stream.send(piece, MAX_WAIT).await?;
        }
        Ok(())
    }

    pub(super) async fn receive_pieces(
        &self,
        session: &Session,
        args: &GuestReceiveArgs,
    ) -> Result<GuestReceived, Failure> {
        let stream = stream(session, args.stream)?;
        let received = stream
            .receive(CTL_PIECES_MAX as usize, patience(args.wait_ms))
            .await?;
        Ok(GuestReceived {
            pieces: received.pieces,
            ended: received.ended,
        })
    }
}

pub(super) fn close_stream(session: &Session, number: u32) -> Result<(), Failure> {
    session
        .close(number)
        .then_some(())
        .ok_or_else(|| unknown(number))
}

fn stream(session: &Session, number: u32) -> Result<Rc<Stream>, Failure> {
    session.stream(number).ok_or_else(|| unknown(number))
}

fn unknown(number: u32) -> Failure {
    Failure::NotFound(format!("this connection has no stream {number}"))
}
