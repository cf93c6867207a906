//! What the jail leaves open, and Landlock closes; and that a host without Landlock does without.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use nix::libc;
use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, TargetArch};

use crate::{World, in_time};

/// The permissions of `/open` are for everybody.
const PROBE: &str = "echo ready; (echo x > /open/x) && echo written; $B cat /open/read; \
    (echo x >> /disks/x) && echo changed; $B stty -F /open/null; echo probed; read x";

pub(crate) fn landlock_closes_what_permissions_leave_open(world: &World) {
    let said = probe(world);
    if jail::has_landlock() {
        assert!(
            said.contains("can't create /open/x: Permission denied"),
            "{said}"
        );
        assert!(!world.places.jail.join("open/x").exists());
        assert!(said.contains("/open/null: Permission denied"), "{said}");
    }
    assert!(
        said.contains("to be read") && said.contains("changed"),
        "{said}"
    );
}

pub(crate) fn a_host_without_landlock_does_without(world: &World) {
    // The filter is the thread's, and that of what it starts.
    std::thread::scope(|scope| {
        scope.spawn(|| {
            forbid_landlock();
            assert!(!jail::has_landlock());
            let said = probe(world);
            for said_so in ["written", "to be read", "changed", "Inappropriate ioctl"] {
                assert!(said.contains(said_so), "{said_so}: {said}");
            }
        });
    });
}

fn probe(world: &World) -> String {
    let open = world.places.jail.join("open");
    fs::create_dir(&open).unwrap();
    fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).unwrap();
    fs::write(open.join("read"), "to be read\n").unwrap();
    let null = open.join("null");
    let all = Mode::from_raw_mode(0o666);
    mknodat(CWD, &null, FileType::CharacterDevice, all, makedev(1, 3)).unwrap();
    fs::set_permissions(&null, fs::Permissions::from_mode(0o666)).unwrap();
    in_time(async { world.start(PROBE).await.read_until("probed") })
}

/// As the kernels before 5.13 answer.
fn forbid_landlock() {
    let filter = SeccompFilter::new(
        BTreeMap::from([(libc::SYS_landlock_create_ruleset, Vec::new())]),
        SeccompAction::Allow,
        SeccompAction::Errno(libc::ENOSYS.unsigned_abs()),
        TargetArch::x86_64,
    );
    let program: BpfProgram = filter.unwrap().try_into().unwrap();
    seccompiler::apply_filter(&program).unwrap();
}
