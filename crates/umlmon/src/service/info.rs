//! The status page: configuration and run-time state (umlmon, the monitor process).

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use config::{DiskName, Nic, Setting, Share, Terminal, Vm};
use jail::Owner;
use pty::{Channel, ClientInfo};
use rpc_xdr::umlmonctrl::*;

use crate::failure::Failure;
use crate::life::kernels::{self, Seen};
use crate::life::memory::Meminfo;
use crate::life::networks::{self, NicLook};
use crate::life::run::Look;
use crate::mconsole;
use crate::service::settings::setting;
use crate::service::{Service, wire};
use crate::status::Phase;

/// How long the kernel may take to say its version before it counts as not responding.
const RESPONSE: Duration = Duration::from_millis(500);

impl Service {
    pub(super) async fn info(&self) -> VmInfo {
        let look = self.monitor.look().await;
        let (version, memory) = match &look {
            Some(look) => self.ask_kernel(look).await,
            None => (None, None),
        };
        let next = self.next();
        let shown = match (&look, &next) {
            (Some(look), _) => &look.vm,
            (None, Ok(next)) => next,
            // The best available data of a VM whose configuration is faulty or gone.
            (None, Err(_)) => &self.setup.configured.vm,
        };
        let seen = match look {
            None if kernels::is_shown(shown) => Some(kernels::look(&self.setup, shown).await),
            _ => None,
        };
        let flushes = match (&look, &seen) {
            (Some(look), _) => Some(look.flushes),
            (None, Some(Ok(seen))) => Some(seen.features.flush),
            (None, _) => None,
        };
        let mut info = self.compose(look.as_ref(), version, shown);
        info.mem_available = memory.map_or(0, |memory| memory.available);
        info.disks = self.disks(shown, look.as_ref(), flushes);
        info.nics = nics(shown, look.as_ref(), seen.as_ref());
        info.shares = shares(shown, look.as_ref(), info.uid);
        match &next {
            Ok(next) => info.pending = differences(shown, next),
            Err(fault) => info.fault = wire::text(fault.to_string()),
        }
        info
    }

    /// What the kernel says of itself, and of the guest's memory. One that is suspended is not to do anything.
    async fn ask_kernel(
        &self,
        look: &Look,
    ) -> (Option<Result<String, mconsole::Error>>, Option<Meminfo>) {
        let version = look.mconsole.call("version", RESPONSE);
        if self.monitor.status().borrow().phase != Phase::Running {
            return (Some(version.await), None);
        }
        let (version, memory) = tokio::join!(version, look.memory.recent(RESPONSE));
        (Some(version), memory.ok())
    }

    fn compose(
        &self,
        look: Option<&Look>,
        version: Option<Result<String, mconsole::Error>>,
        vm: &Vm,
    ) -> VmInfo {
        let status = self.monitor.status().borrow().clone();
        let cpu = look.and_then(|look| look.cpu).unwrap_or_default();
        let (read, written) = look.and_then(|look| look.transferred).unwrap_or_default();
        VmInfo {
            vm: self.setup.name().to_string(),
            daemon_version: env!("CARGO_PKG_VERSION").into(),
            monitor_pid: std::process::id(),
            monitor_since: wire::ago(self.since.elapsed()),
            uid: self.setup.jail.account().uid,
            state: wire::state(status.phase),
            state_since: wire::ago(status.since.elapsed()),
            responding: match version {
                Some(Ok(_)) => true,
                // It is not up yet.
                Some(Err(mconsole::Error::Unreachable(_))) => look.is_some_and(|look| !look.silent),
                _ => false,
            },
            uptime: look.map_or(0, |look| {
                u32::try_from(look.started.elapsed().as_secs()).unwrap_or(u32::MAX)
            }),
            reboots: status.reboots,
            ready: status.ready,
            last_end: wire::last_end(&status.last_end),
            child_pid: look.map_or(0, |look| look.child_pid),
            kernel_pid: look.map_or(0, |look| look.kernel_pid),
            kernel_version: wire::text(version.and_then(Result::ok).unwrap_or_default()),
            mem_mb: vm.mem,
            mem_used: look.map_or(0, |look| look.mem_used),
            bounded_by: look.map_or_else(String::new, |look| look.bounded_by.join(" ")),
            confined_by: look.map_or_else(String::new, |look| look.confined_by.join(" ")),
            processors: look
                .map_or_else(String::new, |look| config::processor_list(&look.processors)),
            channels: self
                .setup
                .channels
                .list()
                .iter()
                .map(|(terminal, channel)| con(terminal, channel))
                .collect(),
            disks: Vec::new(),
            nics: Vec::new(),
            settings: vm.settings().iter().map(setting).collect(),
            pending: Vec::new(),
            fault: String::new(),
            cpu_ns: u64::try_from(cpu.as_nanos()).unwrap_or(u64::MAX),
            disk_read_bytes: read,
            disk_written_bytes: written,
            shares: Vec::new(),
            mem_now_mb: look.map_or(vm.mem, |look| look.memory.now()),
            mem_available: 0,
        }
    }

    /// The disks as they were found at the start of the kernel, or as they are found now.
    fn disks(&self, vm: &Vm, look: Option<&Look>, flushes: Option<bool>) -> Vec<DiskInfo> {
        let opener = self.setup.opener();
        let disk = |(number, name): (&u8, &DiskName)| {
            let ubds = look.map_or(&[][..], |look| &look.disks);
            let running = ubds.iter().find(|ubd| ubd.number == *number);
            let found = match running {
                Some(ubd) => Ok(ubd.disk.clone()),
                None => self.setup.storage.disks.inspect(name, &opener),
            };
            let note = found
                .as_ref()
                .err()
                .map(ToString::to_string)
                .unwrap_or_default();
            let found = found.ok();
            let backing = running.and_then(|ubd| ubd.backing.as_ref());
            DiskInfo {
                ubd: format!("ubd{number}"),
                file: wire::value(name.as_ref()),
                size: found.as_ref().map_or(0, |disk| disk.size),
                allocated: found.as_ref().map_or(0, |disk| disk.allocated),
                backing: wire::value(backing.map_or("", DiskName::as_str)),
                durable: durable(vm, *number, flushes),
                read_only: found.is_some_and(|disk| disk.read_only),
                note: wire::text(note),
            }
        };
        vm.ubd.iter().map(disk).collect()
    }
}

/// When what is written to a disk is on the host's disk.
fn durable(vm: &Vm, disk: u8, flushes: Option<bool>) -> DiskDurable {
    let sync = |flushes| vm.sync_disks.contains(disk, flushes);
    match flushes {
        _ if sync(true) => DiskDurable::Write,
        None => DiskDurable::Unknown,
        Some(true) => DiskDurable::Flush,
        Some(false) if sync(false) => DiskDurable::Write,
        Some(false) => DiskDurable::Never,
    }
}

/// The network interfaces, as they are or will be.
fn nics(vm: &Vm, look: Option<&Look>, seen: Option<&Result<Seen, Failure>>) -> Vec<NicInfo> {
    let settings = vm.settings();
    let nic = |(number, nic): (&u8, &Nic)| {
        let eth = format!("eth{number}");
        let specification = settings.iter().find(|setting| setting.param == eth);
        let note = match (seen, nic) {
            (_, Nic::Raw(_)) => nic.doubt().unwrap_or_default(),
            (None, _) => String::new(),
            (Some(seen), _) => networks::prospect(vm, seen, *number),
        };
        let running = look.and_then(|look| look.nics.get(number));
        NicInfo {
            specification: wire::value(specification.map_or("", |setting| &setting.value)),
            eth,
            note: wire::text(note),
            link: running.map(nic_link),
        }
    };
    vm.eth.iter().map(nic).collect()
}

/// The directories of the host for the guest, and as whom it acts in them. `user` is that of the VM.
fn shares(vm: &Vm, look: Option<&Look>, user: u32) -> Vec<ShareInfo> {
    let info = |(number, share): (&u8, &Share)| {
        let (owner, uid, note) = match look.and_then(|look| look.owners.get(number)) {
            None => (ShareOwner::Unknown, 0, String::new()),
            Some(Owner::Same) => (ShareOwner::Same, user, String::new()),
            Some(Owner::Mapped(uid)) => (ShareOwner::Mapped, *uid, String::new()),
            Some(Owner::Unmapped(why)) => (ShareOwner::Unmapped, user, why.clone()),
        };
        ShareInfo {
            share: format!("share{number}"),
            directory: wire::value(&share.directory.to_string_lossy()),
            path: wire::value(&share.path.to_string_lossy()),
            read_only: share.read_only,
            owner,
            uid,
            note: wire::text(note),
        }
    };
    vm.shares.iter().map(info).collect()
}

/// What the next start would change: new and other values as they will be, removed ones with an empty value.
fn differences(now: &Vm, next: &Vm) -> Vec<ConfigSetting> {
    let key = |setting: &Setting| (setting.param.clone(), setting.value.clone());
    let (now, next) = (now.settings(), next.settings());
    let present: Vec<_> = now.iter().map(key).collect();
    let coming: BTreeMap<_, _> = next.iter().map(key).collect();
    let changed = next
        .iter()
        .filter(|setting| !present.contains(&key(setting)));
    let removed = now
        .iter()
        .filter(|setting| !coming.contains_key(&setting.param));
    let removed = removed.map(|gone| Setting {
        value: String::new(),
        ..gone.clone()
    });
    changed
        .cloned()
        .chain(removed)
        .map(|difference| setting(&difference))
        .collect()
}

fn con(terminal: &Terminal, channel: &Rc<Channel>) -> ConInfo {
    let (rows, columns) = channel.size().unwrap_or_default();
    let watchers = channel.watchers();
    ConInfo {
        channel: channel.name().to_string(),
        terminal: wire::value(&terminal.to_string()),
        writer: channel.writer().as_ref().map(client),
        watchers: watchers
            .iter()
            .take(CTL_CLIENTS_MAX as usize)
            .map(client)
            .collect(),
        bytes: channel.range().end,
        rows: rows.into(),
        columns: columns.into(),
    }
}

fn client(info: &ClientInfo) -> ConClient {
    ConClient {
        who: wire::text(info.who.clone()),
        since: wire::ago(info.present),
        idle: u32::try_from(info.idle.as_secs()).unwrap_or(u32::MAX),
    }
}

fn nic_link(look: &NicLook) -> NicLink {
    fn or_empty(value: Option<impl ToString>) -> String {
        value.map(|value| value.to_string()).unwrap_or_default()
    }
    let counters = &look.counters;
    NicLink {
        guest_if: look.guest_if.clone(),
        transport: look.driver.to_string(),
        proxy_if: look.proxy_if.to_string(),
        bridge_if: or_empty(look.bridge_if.as_ref()),
        host_if: or_empty(look.host_if.as_ref()),
        proxy_addr: or_empty(look.proxy_addr),
        guest_addr: or_empty(look.guest_addr),
        proxy_hwaddr: or_empty(look.proxy_mac),
        guest_hwaddr: or_empty(look.guest_mac),
        open: look.open,
        received_bytes: counters.received_bytes,
        received_packets: counters.received_packets,
        received_dropped: counters.received_dropped,
        sent_bytes: counters.sent_bytes,
        sent_packets: counters.sent_packets,
        sent_dropped: counters.sent_dropped,
    }
}
