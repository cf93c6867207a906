//! Going on with a run that another monitor has started (umlmon, the monitor process).

use std::collections::BTreeMap;
use std::fs::File;
use std::mem::ManuallyDrop;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use disks::Lease;
use jail::ControlGroup;

use crate::disks::holdings::{self, Cows};
use crate::failure::Failure;
use crate::helper::HelperLine;
use crate::life::elastic::Elastic;
use crate::life::memory::Memory;
use crate::life::networks::Wiring;
use crate::life::outliving::Outliving;
use crate::life::placement::Placement;
use crate::life::run::{Exit, Run, Start, cannot, mconsole};
use crate::mconsole::Notices;
use crate::record::{self, Record};
use crate::second::link::Link;
use crate::setup::Setup;
use crate::survivor::{Survivor, names};

/// The descriptors of a run besides those of its channels.
struct Ends {
    pipe: OwnedFd,
    notices: Notices,
    helper: Option<HelperLine>,
    claims: Option<File>,
    /// Those of the networks.
    rest: BTreeMap<String, OwnedFd>,
}

impl Ends {
    fn take(setup: &Setup, survivor: &mut Survivor) -> Result<Ends, Failure> {
        let mut needed = |name: &str| {
            let missing = || Failure::Failed(format!("the second process does not hold {name}"));
            survivor.take(name).ok_or_else(missing)
        };
        let (pipe, notices) = (needed(names::PIPE)?, needed(names::NOTICES)?);
        let notices = Notices::adopt(notices);
        let helper = survivor.take(names::HELPER);
        let helper = helper.map(|socket| setup.helper.resume(socket));
        Ok(Ends {
            pipe,
            notices: notices.map_err(cannot("use the mconsole's notify socket"))?,
            helper: helper
                .transpose()
                .map_err(cannot("use the line of the guest's helper"))?,
            claims: survivor.take(names::CLAIMS).map(File::from),
            rest: survivor.take_rest(),
        })
    }
}

impl Run {
    /// Takes over a run, whose channels are in `setup` already. After an error the VM is as before.
    ///
    /// # Errors
    /// What is missing.
    pub fn adopt(setup: &Rc<Setup>, mut survivor: Survivor, cows: Cows) -> Result<Run, Failure> {
        let ends = Ends::take(setup, &mut survivor)?;
        let (mut record, vm) = (survivor.record, &survivor.reading.vm);
        let tmp = setup.jail.adopt_tmp(record.memory)?;
        let root = tmp.root().try_clone_to_owned();
        let root = root.map_err(cannot("hold the jail's tmp"))?;
        let link = Link::adopt(survivor.child, ends.pipe);
        let link = Rc::new(link.map_err(cannot("watch the second process"))?);
        let connected = record.networks.take();
        let wiring = Wiring::adopt(setup, vm, connected, ends.rest)?;
        let wiring = ManuallyDrop::new(wiring);
        let adopt = |file| setup.storage.locks.adopt_run(file);
        let lease = ends.claims.map(adopt).transpose()?;
        // Nothing fails any more: from here on the run is this monitor's.
        let wiring = ManuallyDrop::into_inner(wiring);
        record.networks = wiring.connected();
        setup.jail.take_over();
        tmp.take_over();
        link.take_over();
        let mconsole = mconsole(setup, root, &link, &wiring);
        let memory = Memory::new(vm.mem, Rc::clone(&mconsole), Rc::clone(&setup.helper));
        if record.state.up {
            setup.channels.nudged().begin(&link);
        }
        if record.state.ready {
            setup.helper.guest_is_ready();
        }
        give_up_unrecorded(lease.as_ref(), &record);
        Ok(Run {
            link,
            notices: ends.notices,
            helper: ends.helper,
            tmp,
            group: group(&record),
            placement: record.is_placed.then(Placement::new),
            elastic: Elastic::of(vm),
            reading: survivor.reading,
            start: Start {
                extra: record.extra.clone(),
                cows,
                lease,
                wiring: Some(Box::new(wiring)),
                ..Start::default()
            },
            disks: record.disks.clone(),
            disk_change: record.disk_change,
            flushes: record.flushes,
            owners: record.owners.clone(),
            exit: Exit::default(),
            kernel_pid: record.kernel,
            killed: record.state.killed,
            panic: record.state.panic.clone(),
            up: record.state.up,
            memory: Rc::new(memory),
            mconsole,
            started: record::at_clock(record.started),
            setup: Rc::clone(setup),
            outliving: Some(Outliving::adopted(setup, record)),
        })
    }
}

/// A monitor that died may have claimed one more disk, and not recorded it: then the kernel does not have it.
fn give_up_unrecorded(lease: Option<&Lease>, record: &Record) {
    let claimed = lease.map(|lease| holdings::claim_only(lease, &record.disks));
    if let Some(Err(why)) = claimed {
        tracing::warn!("more disks are claimed than the VM has: {why}");
    }
}

fn group(record: &Record) -> Option<ControlGroup> {
    let group = record.group.clone()?;
    Some(ControlGroup::adopt(group.directories, &group.controllers))
}
