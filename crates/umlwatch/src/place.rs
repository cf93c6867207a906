//! Where a client is in the output of a channel, so that it can go on there after the monitor was restarted.

use rpc_xdr::umlmonctrl::{ConOpened, VmInfo};

/// The place of the next byte.
#[derive(Debug, Default)]
pub(crate) struct Place {
    /// Its offset, counted from the first byte of the channel.
    pub(crate) offset: u64,
    /// The process that is the VM, as far as it is known; 0 if it is down.
    child: Option<u32>,
}

impl Place {
    /// At this offset.
    pub(crate) fn at(offset: u64) -> Place {
        Place {
            offset,
            child: None,
        }
    }

    /// Notes which process the VM is.
    pub(crate) fn learn(&mut self, info: &VmInfo) {
        self.child = Some(info.child_pid);
    }

    /// Goes on with another monitor. Its channel has the same output if it has taken the VM over. Else the VM has ended
    /// with its monitor: then this returns false, and the place is the begin of the next run.
    pub(crate) fn find(&mut self, opened: &ConOpened, info: &VmInfo) -> bool {
        let is_same_vm = self.child.is_none_or(|child| child == info.child_pid);
        // One that was taken over may have been rebooted since; its second run does not begin at 0.
        let is_found = opened.end >= self.offset && (is_same_vm || opened.run_start > 0);
        if !is_found {
            self.offset = opened.run_start.max(opened.start);
        }
        self.learn(info);
        is_found
    }
}
