//! What a run hands over to its second process, so that it outlives the monitor (umlmon, the monitor process).

use std::os::fd::OwnedFd;

use jail::ControlGroup;

use crate::failure::Failure;
use crate::life::outliving::Outliving;
use crate::life::run::Run;
use crate::record::{self, FORMAT, Group, Process, Record, StateRecord};
use crate::status::{Phase, Status};
use crate::survivor::{channel_names, names};

impl Run {
    /// Hands over what the next monitor needs, now that the kernel executes.
    pub(super) fn hand_over(&mut self) {
        match self.begin_to_outlive() {
            Ok(outliving) => self.outliving = Some(outliving),
            Err(why) => ends_with_monitor(&why.to_string()),
        }
    }

    fn begin_to_outlive(&self) -> Result<Outliving, Failure> {
        let cannot = |error: std::io::Error| Failure::Failed(error.to_string());
        let mut descriptors = vec![
            self.notices
                .socket()
                .try_clone_to_owned()
                .map(|fd| named(names::NOTICES, fd))
                .map_err(cannot)?,
        ];
        if let Some(helper) = &self.helper {
            let socket = helper.socket().try_clone_to_owned().map_err(cannot)?;
            descriptors.push(named(names::HELPER, socket));
        }
        if let Some(lease) = &self.start.lease {
            let lock = lease.lock().map_err(cannot)?;
            descriptors.extend(lock.map(|lock| named(names::CLAIMS, lock)));
        }
        if let Some(wiring) = &self.start.wiring {
            let held = wiring.held().map_err(cannot)?;
            descriptors.extend(held.into_iter().map(|(name, fd)| named(name, fd)));
        }
        let mut channels = Vec::new();
        for (record, held) in self.setup.channels.held()? {
            descriptors.extend(
                channel_names(&record.name)
                    .into_iter()
                    .zip(held.into_parts()),
            );
            channels.push(record);
        }
        let record = Record {
            channels,
            ..self.record().map_err(cannot)?
        };
        Outliving::begin(&self.setup, &self.link, record, &descriptors).map_err(cannot)
    }

    /// All but the descriptors.
    fn record(&self) -> std::io::Result<Record> {
        let pid = i32::try_from(self.link.pid()).map_err(std::io::Error::other)?;
        let group = self.group.as_ref().map(ControlGroup::parts);
        let wiring = self.start.wiring.as_ref();
        Ok(Record {
            format: FORMAT,
            boot: daemon::boot()?,
            child: Process::of(pid)?,
            kernel: self.kernel_pid,
            held: Vec::new(),
            channels: Vec::new(),
            configuration: self.reading.to_record(),
            extra: self.start.extra.clone(),
            disks: self.disks.clone(),
            disk_change: self.disk_change,
            flushes: self.flushes,
            owners: self.owners.clone(),
            networks: wiring.and_then(|wiring| wiring.connected()),
            group: group.map(|(directories, controllers)| Group {
                directories,
                controllers,
            }),
            is_placed: self.placement.is_some(),
            memory: self.tmp.device().map_err(std::io::Error::other)?,
            started: record::clock_at(self.started),
            state: self.state(Phase::Running, (false, None), &Status::initial()),
        })
    }

    fn state(
        &self,
        phase: Phase,
        (stop_pending, wanted): (bool, Option<Phase>),
        status: &Status,
    ) -> StateRecord {
        StateRecord {
            phase,
            stop_pending,
            wanted,
            up: self.up,
            killed: self.killed,
            panic: self.panic.clone(),
            reboots: status.reboots,
            ready: status.ready,
            last_end: status.last_end.clone(),
        }
    }

    /// The second process has told the numbers of what it holds.
    pub(super) fn is_held(&mut self, numbers: Vec<i32>) {
        let Some(outliving) = &mut self.outliving else {
            return;
        };
        if let Err(why) = outliving.numbered(&self.link, numbers) {
            self.outliving = None;
            ends_with_monitor(&why);
        }
    }

    /// Records its disks.
    ///
    /// # Errors
    /// If the next monitor would not know of them.
    pub(super) fn note_disks(&mut self) -> Result<(), Failure> {
        let Some(outliving) = &mut self.outliving else {
            return Ok(());
        };
        let configuration = self.reading.to_record();
        let noted = outliving.note_disks(&self.disks, self.disk_change, configuration);
        noted.map_err(Failure::Failed)
    }

    /// It outlives the monitor.
    pub fn outlives(&self) -> bool {
        self.outliving.as_ref().is_some_and(Outliving::does)
    }

    /// Records what changes while the kernel runs. `asked` is whether a client wants the VM down, and into which phase
    /// the kernel is being brought.
    pub fn note_state(&mut self, phase: Phase, asked: (bool, Option<Phase>), status: &Status) {
        let state = self.state(phase, asked, status);
        if let Some(outliving) = &mut self.outliving {
            outliving.note(state);
        }
    }
}

fn named(name: &str, fd: OwnedFd) -> (String, OwnedFd) {
    (name.to_owned(), fd)
}

fn ends_with_monitor(why: &str) {
    tracing::info!("the VM would not outlive this monitor: {why}");
}
