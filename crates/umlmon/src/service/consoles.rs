//! The procedures for channels: to attach, read, write and detach (umlmon, the monitor process).
//!
//! Whether a client gets the right to write is decided by the channel itself: `pty::Attachment::take`.

use std::rc::Rc;

use config::is_printable;
use pty::{Attachment, Channel, Hearing};
use rpc_xdr::umlmonctrl::*;

use crate::events::{Happening, Wish};
use crate::failure::{Denied, Failure};
use crate::service::session::Session;
use crate::service::{Service, patience, wire};
use crate::status::Phase;

impl Service {
    pub(super) fn open_channel(
        &self,
        session: &Session,
        args: &ConOpenArgs,
    ) -> Result<ConOpened, Failure> {
        let opened = self.open(session, args);
        if let Err(failure) = &opened {
            let wish = Wish::new(wire::connect_verb(args.mode), args.channel.as_str());
            self.refused(session, wish, failure);
        }
        opened
    }

    fn open(&self, session: &Session, args: &ConOpenArgs) -> Result<ConOpened, Failure> {
        let channel = self.channel(&args.channel)?;
        let attachment = match session.attachment(channel.name()) {
            Some(attachment) => attachment,
            None => Rc::new(channel.attach(&who(session, &args.who))?),
        };
        let taken_from = match args.mode {
            ConMode::Watch => {
                attachment.watch();
                None
            }
            ConMode::Write => {
                attachment.take()?;
                None
            }
            ConMode::Force => attachment.force_take(),
        };
        session.attach(channel.name(), attachment);
        let kept = channel.range();
        self.setup.events.tell_of(
            session.caller(),
            Happening::Attached {
                channel: channel.name(),
                who: session.peer().to_owned(),
                mode: wire::mode(args.mode),
            },
        );
        Ok(ConOpened {
            start: kept.start,
            end: kept.end,
            run_start: self.setup.channels.run_start(channel.name()),
            taken_from: wire::text(taken_from.unwrap_or_default()),
        })
    }

    pub(super) async fn read_channel(
        &self,
        session: &Session,
        args: &ConReadArgs,
    ) -> Result<ConChunk, Failure> {
        let attachment = self.attached(session, &args.channel)?;
        let wait = patience(args.wait_ms);
        let max = args.max.min(CTL_DATA_MAX) as usize;
        let chunk = attachment.read(args.offset, max, wait).await;
        Ok(ConChunk {
            offset: chunk.offset,
            data: chunk.data,
            state: wire::state(self.monitor.status().borrow().phase),
            writer: attachment.is_writer(),
            taken_by: wire::text(attachment.taken_by().unwrap_or_default()),
            standstill: self.standstill(attachment.channel()),
        })
    }

    fn standstill(&self, channel: &Channel) -> Option<ConStandstill> {
        let standstill = channel.standstill()?;
        let name = channel.name();
        let why = match (self.monitor.status().borrow().phase, standstill.hearing) {
            (Phase::Suspended, _) => "the VM is suspended (-continue resumes it)".to_owned(),
            (_, Hearing::Stopped) => format!(
                "no program of the guest reads {name}, and its kernel holds all it can; end the program that runs \
                 there, from another console, or reboot the guest"
            ),
            (_, Hearing::Reads) => "its kernel is busy, or hangs (see -info)".to_owned(),
            (_, Hearing::Unopened) => format!(
                "no program of the guest has opened {name}; start one there, such as a getty"
            ),
            (_, Hearing::Unknown(error)) => format!(
                "either no program of the guest reads {name}, or its kernel has stopped reading, and cannot be \
                 made to read again ({error}); then reboot the guest (umlwatch(1), BUGS)"
            ),
        };
        Some(ConStandstill {
            bytes: u32::try_from(standstill.bytes).unwrap_or(u32::MAX),
            seconds: u32::try_from(standstill.lasts.as_secs()).unwrap_or(u32::MAX),
            why: wire::text(why),
        })
    }

    pub(super) async fn write_channel(
        &self,
        session: &Session,
        args: &ConWriteArgs,
    ) -> Result<(), Failure> {
        let attachment = self.attached(session, &args.channel)?;
        self.must_run()?;
        attachment.write(&args.data).await?;
        match attachment.wait_until_taken().await {
            // It may well have ended because of what it took.
            Err(pty::Error::Ended { .. }) => Ok(()),
            taken => Ok(taken?),
        }
    }

    pub(super) fn resize_channel(
        &self,
        session: &Session,
        args: &ConResizeArgs,
    ) -> Result<(), Failure> {
        let size = |n: u32| {
            u16::try_from(n).map_err(|_| Failure::Invalid(format!("{n} is not a size of a window")))
        };
        let attachment = self.attached(session, &args.channel)?;
        Ok(attachment.resize(size(args.rows)?, size(args.columns)?)?)
    }

    pub(super) fn sizes(&self, args: &ConSizesArgs) -> Result<ConSizes, Failure> {
        let sizes = self.channel(&args.channel)?.sizes_after(args.after);
        let sizes = sizes.into_iter().map(|size| ConSize {
            number: size.number,
            offset: size.offset,
            rows: size.rows.into(),
            columns: size.columns.into(),
        });
        Ok(ConSizes {
            sizes: sizes.collect(),
        })
    }

    pub(super) fn close_channel(&self, session: &Session, name: &str) -> Result<(), Failure> {
        let channel = self.channel(name)?.name();
        match session.detach(channel) {
            true => Ok(()),
            false => Err(Failure::Invalid(format!("not attached to {channel}"))),
        }
    }

    /// The channel to which the session is attached.
    fn attached(&self, session: &Session, name: &str) -> Result<Rc<Attachment>, Failure> {
        let channel = self.channel(name)?.name();
        let unattached = || Failure::Invalid(format!("not attached to {name}"));
        session.attachment(channel).ok_or_else(unattached)
    }

    /// Without a kernel no process reads what is typed, and the next kernel must not read it.
    pub(super) fn must_run(&self) -> Result<(), Failure> {
        match self.monitor.status().borrow().phase {
            Phase::Running | Phase::Suspended => Ok(()),
            _ => Err(Denied::NotRunning.into()),
        }
    }
}

/// How the session is listed: its verified identity, and what it says of itself.
fn who(session: &Session, claimed: &str) -> String {
    let shown: String = claimed
        .chars()
        .filter(|c| is_printable(*c))
        .take(100)
        .collect();
    if shown.is_empty() {
        session.peer().to_owned()
    } else {
        format!("{} on {shown}", session.peer())
    }
}
