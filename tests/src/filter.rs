//! A host that refuses system calls, as the filters of containers and older kernels do (the end-to-end tests).

use std::collections::BTreeMap;
use std::process::Command;
use std::thread;

use nix::libc::c_long;
use rustix::io::Errno;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch, apply_filter,
};

use crate::program::{begin, finish};
use crate::{Outcome, PATIENCE};

/// A system call that fails.
#[derive(Clone, Copy, Debug)]
pub struct Refused {
    /// Its number, `libc::SYS_...`.
    pub number: c_long,
    /// Only with this first argument.
    pub argument: Option<u64>,
    /// How it fails.
    pub error: Errno,
}

impl Refused {
    /// A call that the kernel does not have.
    pub fn missing(number: c_long) -> Self {
        Self {
            number,
            argument: None,
            error: Errno::NOSYS,
        }
    }

    /// Runs a command, which inherits the filter, as does everything that it starts.
    ///
    /// # Panics
    /// As [`crate::run`], or if there can be no filter.
    #[track_caller]
    pub fn run(self, command: &mut Command) -> Outcome {
        let program = self.program();
        // The filter is that of one thread, and stays until the thread ends.
        let child = thread::scope(|scope| {
            let filtered = scope.spawn(|| {
                apply_filter(&program).unwrap();
                begin(command)
            });
            filtered.join().unwrap()
        });
        finish(child, format!("{command:?}"), PATIENCE)
    }

    fn program(self) -> BpfProgram {
        let rules = self.argument.map(|value| {
            let (length, equal) = (SeccompCmpArgLen::Qword, SeccompCmpOp::Eq);
            let condition = SeccompCondition::new(0, length, equal, value).unwrap();
            SeccompRule::new(vec![condition]).unwrap()
        });
        let rules = BTreeMap::from([(self.number, rules.into_iter().collect())]);
        let errno = SeccompAction::Errno(self.error.raw_os_error().unsigned_abs());
        let filter = SeccompFilter::new(rules, SeccompAction::Allow, errno, TargetArch::x86_64);
        filter.unwrap().try_into().unwrap()
    }
}
