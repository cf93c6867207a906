//! A container of a pod, and its processes (the server of a pod).

use std::collections::BTreeMap;

use guest_line::{Command, Place, Size};
use oci_spec::runtime::{Process as Spec, Spec as Whole};
use tokio::sync::watch;

use crate::bundle::{Bundle, Kind};
use crate::io::Streams;
use crate::process::{Exit, Process};

/// What is known of a process from its creation until it is deleted.
#[derive(Debug)]
pub(crate) struct Task {
    pub(crate) streams: Streams,
    /// While it runs; the one of a sandbox has no program.
    pub(crate) process: Option<Process>,
    pub(crate) is_started: bool,
    pub(crate) exit: watch::Sender<Option<Exit>>,
}

impl Task {
    pub(crate) fn new(streams: Streams) -> Task {
        Task {
            streams,
            process: None,
            is_started: false,
            exit: watch::channel(None).0,
        }
    }

    pub(crate) fn has_ended(&self) -> Option<Exit> {
        *self.exit.borrow()
    }

    /// It runs.
    pub(crate) fn runs(&self) -> bool {
        self.is_started && self.has_ended().is_none()
    }
}

/// A command that is run in a container that is there.
#[derive(Debug)]
pub(crate) struct Exec {
    pub(crate) task: Task,
    pub(crate) spec: Spec,
}

/// A container.
#[derive(Debug)]
pub(crate) struct Container {
    pub(crate) bundle: Bundle,
    pub(crate) kind: Kind,
    /// The number of its disk.
    pub(crate) disk: u8,
    pub(crate) task: Task,
    pub(crate) execs: BTreeMap<String, Exec>,
    pub(crate) is_paused: bool,
}

impl Container {
    /// Its process, or that of a command in it.
    pub(crate) fn task(&self, exec: &str) -> Option<&Task> {
        match exec {
            "" => Some(&self.task),
            exec => self.execs.get(exec).map(|exec| &exec.task),
        }
    }

    pub(crate) fn task_mut(&mut self, exec: &str) -> Option<&mut Task> {
        match exec {
            "" => Some(&mut self.task),
            exec => self.execs.get_mut(exec).map(|exec| &mut exec.task),
        }
    }
}

/// The command of a process, to be run at this place.
pub(crate) fn command(spec: &Spec, place: Place, terminal: bool) -> Command {
    let bytes = |words: &Option<Vec<String>>| -> Vec<Vec<u8>> {
        words
            .iter()
            .flatten()
            .map(|word| word.clone().into_bytes())
            .collect()
    };
    let size = spec.console_size();
    let side = |side: u64| u16::try_from(side).unwrap_or(u16::MAX);
    Command {
        words: bytes(spec.args()),
        environment: bytes(spec.env()),
        directory: Some(spec.cwd().as_os_str().as_encoded_bytes().to_vec()),
        terminal: terminal.then(|| Size {
            rows: size.map_or(24, |size| side(size.height())),
            columns: size.map_or(80, |size| side(size.width())),
        }),
        place,
        ..Command::default()
    }
}

/// The first process of a container.
pub(crate) fn first_process(spec: &Whole) -> Spec {
    spec.process().clone().unwrap_or_default()
}
