//! What is known of a VM: its configuration, and what its monitor says (umladmin).

use std::io::ErrorKind;
use std::path::PathBuf;
use std::time::Duration;

use cli::{Exit, Failure};
use client::Client;
use client::words;
use config::{Config, VmName};
use daemon::Home;
use monitors::pods::Pod;
use monitors::{process, survivor};
use rpc_xdr::umlmonctrl::{NicInfo, NicLink, VmEnd, VmInfo, VmState};
use serde_json::{Value, json};

use crate::selection;

/// How long a monitor may take to answer.
const DEADLINE: Duration = Duration::from_secs(2);

/// What is known of one VM.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Seen {
    pub(crate) vm: String,
    pub(crate) state: &'static str,
    /// Whether it is configured, or runs.
    pub(crate) is_known: bool,
    /// Whether its configuration cannot be used.
    pub(crate) is_faulty: bool,
    /// `start`, `vmuser` and `mem` of the configuration, if it can be used.
    pub(crate) start: Option<String>,
    pub(crate) vmuser: Option<String>,
    pub(crate) mem_mb: Option<u32>,
    pub(crate) monitor_pid: Option<u32>,
    pub(crate) mem_used: Option<u64>,
    /// What the guest has of its memory, and what its programs can still get, if it is known.
    pub(crate) mem_now_mb: Option<u32>,
    pub(crate) mem_available: Option<u64>,
    pub(crate) uptime: Option<u32>,
    /// The processors of the host on which it may run now.
    pub(crate) processors: Option<String>,
    pub(crate) last_end: Option<&'static str>,
    /// Processor time in nanoseconds, and bytes, if the host counts them.
    pub(crate) cpu_ns: Option<u64>,
    pub(crate) disk_read: Option<u64>,
    pub(crate) disk_written: Option<u64>,
    /// The network interfaces that are connected, by name.
    pub(crate) nics: Vec<(String, NicLink)>,
    pub(crate) error: Option<String>,
}

/// All states, in the words of JSON.
pub(crate) const STATES: [&str; 9] = [
    OFF,
    "inactive",
    "starting",
    "running",
    "suspended",
    "stopping",
    NOT_RESPONDING,
    words::NO_MONITOR,
    UNKNOWN,
];
pub(crate) const OFF: &str = "off";
pub(crate) const NOT_RESPONDING: &str = "not-responding";
/// The caller may not ask the monitor.
pub(crate) const UNKNOWN: &str = "unknown";

/// Collects what is known of one VM.
pub(crate) fn look(config: &Config, vm: &VmName) -> Seen {
    let mut seen = Seen {
        vm: vm.to_string(),
        state: OFF,
        is_known: selection::is_configured(config, vm),
        ..Seen::default()
    };
    match config.vm(vm) {
        Ok(configured) => {
            seen.start = Some(configured.start.to_string());
            seen.mem_mb = Some(configured.mem);
            seen.vmuser = Some(configured.vmuser);
        }
        Err(e) => {
            seen.is_faulty = seen.is_known;
            seen.error = Some(e.to_string());
        }
    }
    let answer = match Home::of_monitor(&config.global, vm).holder() {
        Ok(None) => {
            if survivor::of(config, vm).is_some() {
                seen.is_known = true;
                seen.state = words::NO_MONITOR;
                seen.error = Some(survivor::advice(vm));
            }
            return seen;
        }
        Ok(Some(pid)) => {
            seen.monitor_pid = Some(pid);
            ask(vm, process::ctrl(config, vm, pid))
        }
        // Only root sees which process holds the lock; but a monitor that listens is visible to all.
        Err(daemon::Error::PidFile { source, .. })
            if source.kind() == ErrorKind::PermissionDenied =>
        {
            match ask(vm, config.global.ctrl(vm)) {
                Err(failure) if failure.exit == Exit::NotRunning => return seen,
                answer => answer,
            }
        }
        Err(e) => Err(Failure::new(Exit::Failed, e)),
    };
    if !seen.is_known {
        // A running VM that is named is no mistake, even if it has been removed from the configuration.
        seen.is_known = true;
        seen.error = None;
    }
    match answer {
        Ok(info) => seen.take(&info),
        Err(failure) => {
            seen.state = match failure.exit {
                Exit::NotAuthorised => UNKNOWN,
                _ => NOT_RESPONDING,
            };
            let fault = seen.error.take().map(|fault| format!("{fault}; "));
            seen.error = Some(fault.unwrap_or_default() + &failure.message);
        }
    }
    seen
}

/// Collects what is known of the VM of a pod, which the shim of containerd makes and ends.
pub(crate) fn look_at_pod(pod: &Pod) -> Seen {
    Seen {
        vm: format!("pod:{}", pod.name),
        start: None,
        ..look(&pod.config, &pod.vm)
    }
}

/// The monitor's answer, within the deadline.
fn ask(vm: &VmName, ctrl: PathBuf) -> Result<VmInfo, Failure> {
    Client::at(vm, ctrl).with_limit(DEADLINE).info()
}

impl Seen {
    /// Whether its monitor runs and has answered.
    pub(crate) fn answers(&self) -> bool {
        ![OFF, NOT_RESPONDING, words::NO_MONITOR, UNKNOWN].contains(&self.state)
    }

    fn take(&mut self, info: &VmInfo) {
        self.state = words::state(info.state);
        self.monitor_pid = Some(info.monitor_pid);
        self.mem_mb = Some(info.mem_mb);
        let how = info.last_end.how;
        self.last_end = (how != VmEnd::None).then(|| words::end(how));
        let linked = |nic: &NicInfo| Some((nic.eth.clone(), nic.link.clone()?));
        self.nics = info.nics.iter().filter_map(linked).collect();
        if info.state != VmState::Inactive {
            self.mem_used = Some(info.mem_used);
            self.mem_now_mb = Some(info.mem_now_mb);
            self.mem_available = Some(info.mem_available).filter(|bytes| *bytes > 0);
            self.uptime = Some(info.uptime);
            let counted = |count| Some(count).filter(|count| *count > 0);
            self.cpu_ns = counted(info.cpu_ns);
            self.disk_read = counted(info.disk_read_bytes);
            self.disk_written = counted(info.disk_written_bytes);
            self.processors = Some(info.processors.clone());
        }
    }

    pub(crate) fn json(&self) -> Value {
        json!({
            "vm": self.vm,
            "state": self.state,
            "start": self.start,
            "vmuser": self.vmuser,
            "monitor_pid": self.monitor_pid,
            "mem_mb": self.mem_mb,
            "mem_used": self.mem_used,
            "mem_now_mb": self.mem_now_mb,
            "mem_available": self.mem_available,
            "cpu_ns": self.cpu_ns,
            "disk_read_bytes": self.disk_read,
            "disk_written_bytes": self.disk_written,
            "uptime": self.uptime,
            "processors": self.processors,
            "last_end": self.last_end,
            "nics": self.nics.iter().map(nic).collect::<Vec<_>>(),
            "error": self.error,
        })
    }
}

/// The networks of a VM: its address, or the bridge where it can have any.
pub(crate) fn network(nics: &[(String, NicLink)]) -> String {
    let places = nics.iter().map(|(_, link)| {
        let place = [&link.guest_addr, &link.bridge_if]
            .into_iter()
            .find(|place| !place.is_empty());
        format!("{} {}", link.guest_if, place.unwrap_or(&link.proxy_if))
    });
    places.collect::<Vec<_>>().join(", ")
}

fn nic((eth, link): &(String, NicLink)) -> Value {
    json!({
        "eth": eth,
        "guest_if": link.guest_if,
        "proxy_if": link.proxy_if,
        "bridge_if": link.bridge_if,
        "guest_addr": link.guest_addr,
        "guest_hwaddr": link.guest_hwaddr,
        "open": link.open,
        "received_bytes": link.received_bytes,
        "sent_bytes": link.sent_bytes,
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn seen(vm: &str, state: &'static str, user: &str) -> Seen {
        Seen {
            vm: vm.into(),
            state,
            is_known: true,
            is_faulty: false,
            start: Some("boot".into()),
            vmuser: Some(user.into()),
            mem_mb: Some(64),
            monitor_pid: Some(4711),
            mem_used: Some(21 << 20),
            mem_now_mb: Some(48),
            mem_available: Some(30 << 20),
            uptime: Some(3723),
            processors: Some("1".into()),
            last_end: None,
            cpu_ns: Some(1_500_000_000),
            disk_read: Some(4096),
            disk_written: None,
            nics: Vec::new(),
            error: None,
        }
    }

    #[test]
    fn the_members_of_the_json_stay() {
        let text = seen("vm1", "running", "anna").json().to_string();
        assert_eq!(
            text,
            r#"{"cpu_ns":1500000000,"disk_read_bytes":4096,"disk_written_bytes":null,"error":null,"last_end":null,"mem_available":31457280,"mem_mb":64,"mem_now_mb":48,"mem_used":22020096,"monitor_pid":4711,"#
                .to_string()
                + r#""nics":[],"processors":"1","start":"boot","state":"running","uptime":3723,"vm":"vm1","vmuser":"anna"}"#
        );
    }
}
