//! What a VM uses per second: the difference of two looks (umladmin).

use std::time::Instant;

use serde_json::{Value, json};

use crate::seen::Seen;

/// What was seen of a VM, and when.
pub(super) struct Sample {
    at: Instant,
    seen: Seen,
}

impl Sample {
    /// Seen just now.
    pub(super) fn now(seen: Seen) -> Sample {
        Sample {
            at: Instant::now(),
            seen,
        }
    }
}

/// What a VM uses now. A rate is None if the host does not count it.
#[derive(Debug, Default, Clone, PartialEq)]
pub(super) struct Rates {
    pub(super) vm: String,
    /// The state, as JSON has it.
    pub(super) state: &'static str,
    /// Processors: 1.0 is a whole one.
    pub(super) cpu: Option<f64>,
    /// Bytes of the host's memory, and megabytes of the guest's.
    pub(super) mem_used: Option<u64>,
    pub(super) mem_mb: Option<u32>,
    /// What the guest has of these, and bytes that its programs can still get.
    pub(super) mem_now_mb: Option<u32>,
    pub(super) mem_available: Option<u64>,
    /// Bytes per second.
    pub(super) disk_read: Option<f64>,
    pub(super) disk_written: Option<f64>,
    pub(super) received: Option<f64>,
    pub(super) sent: Option<f64>,
    pub(super) processors: Option<String>,
    pub(super) uptime: Option<u32>,
}

impl Rates {
    /// Those of the VMs that run now, in the same order.
    pub(super) fn between(last: &[Sample], now: &[Sample]) -> Vec<Rates> {
        let running = now.iter().filter(|sample| sample.seen.uptime.is_some());
        let before = |sample: &Sample| last.iter().find(|last| last.seen.vm == sample.seen.vm);
        running
            .map(|sample| Rates::since(before(sample), sample))
            .collect()
    }

    fn since(last: Option<&Sample>, now: &Sample) -> Rates {
        // A kernel that was started meanwhile counts from zero.
        let last = last.filter(|last| last.seen.uptime <= now.seen.uptime);
        let per_second = |count: fn(&Seen) -> Option<u64>| {
            let last = last?;
            let grown = count(&now.seen)?.checked_sub(count(&last.seen).unwrap_or(0))?;
            let seconds = now.at.saturating_duration_since(last.at).as_secs_f64();
            (seconds > 0.0).then(|| grown as f64 / seconds)
        };
        let seen = &now.seen;
        Rates {
            vm: seen.vm.clone(),
            state: seen.state,
            cpu: per_second(|seen| seen.cpu_ns).map(|ns| ns / 1e9),
            mem_used: seen.mem_used,
            mem_mb: seen.mem_mb,
            mem_now_mb: seen.mem_now_mb,
            mem_available: seen.mem_available,
            disk_read: per_second(|seen| seen.disk_read),
            disk_written: per_second(|seen| seen.disk_written),
            received: per_second(|seen| {
                let bytes = seen.nics.iter().map(|(_, link)| link.received_bytes);
                bytes.reduce(u64::saturating_add)
            }),
            sent: per_second(|seen| {
                let bytes = seen.nics.iter().map(|(_, link)| link.sent_bytes);
                bytes.reduce(u64::saturating_add)
            }),
            processors: seen.processors.clone(),
            uptime: seen.uptime,
        }
    }

    pub(super) fn json(&self) -> Value {
        json!({
            "vm": self.vm,
            "state": self.state,
            "cpu": self.cpu,
            "mem_used": self.mem_used,
            "mem_mb": self.mem_mb,
            "mem_now_mb": self.mem_now_mb,
            "mem_available": self.mem_available,
            "disk_read": self.disk_read,
            "disk_written": self.disk_written,
            "received": self.received,
            "sent": self.sent,
            "processors": self.processors,
            "uptime": self.uptime,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn sample(at: Instant, cpu_ns: u64, uptime: u32) -> Sample {
        Sample {
            at,
            seen: Seen {
                vm: "vm1".into(),
                cpu_ns: Some(cpu_ns),
                uptime: Some(uptime),
                ..Seen::default()
            },
        }
    }

    #[test]
    fn a_rate_is_the_growth_per_second() {
        let start = Instant::now();
        let later = start + Duration::from_secs(2);
        let between = |before: u64, up: u32, after: u64, still_up: u32| {
            let last = [sample(start, before, up)];
            Rates::between(&last, &[sample(later, after, still_up)])[0].cpu
        };
        assert_eq!(between(1_000_000_000, 1, 4_000_000_000, 3), Some(1.5));
        assert_eq!(between(9_000_000_000, 60, 1_000_000_000, 1), None);
        assert_eq!(Rates::between(&[], &[sample(later, 1, 1)])[0].cpu, None);
    }

    #[test]
    fn what_does_not_run_is_not_shown() {
        let mut off = sample(Instant::now(), 0, 0);
        off.seen.uptime = None;
        assert_eq!(Rates::between(&[], &[off]), []);
    }
}
