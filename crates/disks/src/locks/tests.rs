//! Claims of several VMs in one directory.

use super::*;

/// The locks of three VMs in the same directory.
fn locks() -> (tempfile::TempDir, [Rc<Locks>; 3]) {
    let shared = tempfile::tempdir().unwrap();
    std::fs::create_dir(shared.path().join("locks")).unwrap();
    let of = |name: &str| Locks::open(shared.path(), &name.parse().unwrap()).unwrap();
    let all = [of("vm1"), of("vm2"), of("vm3")];
    (shared, all)
}

fn claim(disk: &str, ino: u64, access: Access) -> Claim {
    Claim {
        identity: Identity::File { dev: 1, ino },
        disk: disk.parse().unwrap(),
        access,
        role: "ubd0".into(),
        yields: false,
    }
}

#[test]
fn one_writes_or_many_read() {
    let (_shared, [one, two, three]) = locks();
    let base = || claim("/shared/disks/base.dsk", 7, Access::Read);
    let first = one.claim(vec![base()]).unwrap();
    let second = two.claim(vec![base()]).unwrap();
    let write = || claim("/shared/disks/alias.dsk", 7, Access::Write);
    let refused = three.claim(vec![write()]).unwrap_err().to_string();
    let expected = "/shared/disks/alias.dsk is open for reading by vm1 as /shared/disks/base.dsk, ubd0 \
                    (umlwatch vm1 -info shows it)";
    let expected_too = expected.replace("vm1", "vm2");
    assert!(refused == expected || refused == expected_too, "{refused}");
    drop((first, second));
    let _third = three.claim(vec![write()]).unwrap();
    assert!(one.claim(vec![base()]).is_err());
}

#[test]
fn who_may_only_read_keeps_no_writer_out() {
    let (_shared, [one, two, three]) = locks();
    let base = |access, yields| Claim {
        yields,
        ..claim("/shared/disks/base.dsk", 7, access)
    };
    let _reads = one.claim(vec![base(Access::Read, true)]).unwrap();
    let _writes = two.claim(vec![base(Access::Write, false)]).unwrap();
    // But a disk that one VM writes cannot be claimed for reading.
    assert!(three.claim(vec![base(Access::Read, true)]).is_err());
    assert!(three.claim(vec![base(Access::Write, false)]).is_err());
}

#[test]
fn all_or_none_is_claimed() {
    let (_shared, [one, two, _]) = locks();
    let _held = one
        .claim(vec![claim("/disks/b.dsk", 2, Access::Write)])
        .unwrap();
    let both = vec![
        claim("/disks/a.dsk", 1, Access::Write),
        claim("/disks/b.dsk", 2, Access::Read),
    ];
    assert!(two.claim(both).is_err());
    assert!(
        one.claim(vec![claim("/disks/a.dsk", 1, Access::Write)])
            .is_ok()
    );
}

#[test]
fn a_vm_is_told_of_its_own_use() {
    let (_shared, [one, ..]) = locks();
    let disk = || claim("/disks/a.dsk", 1, Access::Write);
    let refused = one.claim(vec![disk(), disk()]).unwrap_err().to_string();
    assert_eq!(
        refused,
        "/disks/a.dsk is in use by this VM read-write as ubd0"
    );
    let held = one.claim(vec![disk()]).unwrap();
    assert!(one.claim(vec![disk()]).is_err());
    drop(held);
    assert!(one.claim(vec![disk()]).is_ok());
}

#[test]
fn nothing_is_left_of_a_claim() {
    let (shared, [one, two, _]) = locks();
    let left = || {
        let entries = std::fs::read_dir(shared.path().join("locks")).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name != "mutex").collect::<Vec<_>>()
    };
    let held = one
        .claim(vec![claim("/disks/a.dsk", 1, Access::Write)])
        .unwrap();
    assert_eq!(left(), ["vm1.held"]);
    assert_eq!(two.holders().unwrap().len(), 1);
    drop(held);
    assert_eq!(left(), [""; 0]);
    // A monitor that was killed leaves its file, but no lock on it.
    std::fs::write(shared.path().join("locks/vm1.held"), "nonsense").unwrap();
    assert!(
        two.claim(vec![claim("/disks/a.dsk", 1, Access::Write)])
            .is_ok()
    );
    assert_eq!(left(), [""; 0]);
}

/// Where nothing can be written, what was written stays, and the other VMs can go on.
#[test]
fn a_list_that_cannot_be_written_stays_as_it_was() {
    let (shared, [one, two, _]) = locks();
    let held = |ino| vec![claim("/disks/a.dsk", ino, Access::Write)];
    let _first = one.claim(held(1)).unwrap();
    // Not even root writes to a directory.
    let draft = shared.path().join("locks/vm1.held.new");
    std::fs::create_dir(&draft).unwrap();
    let failed = one.claim(held(2)).unwrap_err().to_string();
    assert!(failed.starts_with("cannot write "), "{failed}");
    assert!(two.claim(held(1)).is_err(), "what was held is held");
    two.claim(held(2)).unwrap();
    std::fs::remove_dir(&draft).unwrap();
    one.claim(held(2)).unwrap();
}

#[test]
fn a_lease_can_change_what_it_claims() {
    let (_shared, [one, two, _]) = locks();
    let held = |ino| vec![claim("/disks/a.dsk", ino, Access::Write)];
    let lease = one.claim(held(1)).unwrap();
    let _other = two.claim(held(3)).unwrap();
    lease.change(held(1)).unwrap();
    lease.change(held(2)).unwrap();
    let _free = two.claim(held(1)).unwrap();
    let refused = lease.change(held(3)).unwrap_err().to_string();
    assert!(refused.contains("by vm2"), "{refused}");
    assert!(two.claim(held(2)).is_err(), "it has what it had");
}

/// The process that keeps the kernel has the lock of the one file.
#[test]
fn claims_of_a_kernel_change_in_their_file() {
    let (shared, [one, two, _]) = locks();
    let path = shared.path().join("locks/vm1+run.held");
    let inode = || std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(&path).unwrap());
    let held = |inodes: &[u64]| -> Vec<Claim> {
        let claim = |ino: &u64| claim("/disks/a.dsk", *ino, Access::Write);
        inodes.iter().map(claim).collect()
    };
    let lease = one.claim_for_run(Vec::new()).unwrap();
    let lock = lease
        .lock()
        .unwrap()
        .expect("there is a file without claims");
    let before = inode();
    let _other = two.claim(held(&[9])).unwrap();
    for inodes in [&[1, 2, 3][..], &[1], &[], &[1, 2]] {
        lease.amend(held(inodes)).unwrap();
        assert_eq!(lease.claims(), held(inodes));
        assert_eq!(two.holders().unwrap().len(), inodes.len() + 1);
        assert!(lease.amend(held(&[4, 9])).is_err());
        assert_eq!(lease.claims(), held(inodes), "it has what it had");
    }
    assert!(two.claim(held(&[2])).is_err());
    assert_eq!(inode(), before);
    let next = Locks::open(shared.path(), one.vm()).unwrap();
    let adopted = next.adopt_run(File::from(lock)).unwrap();
    assert_eq!(adopted.claims(), held(&[1, 2]));
    adopted.amend(held(&[1])).unwrap();
    assert!(two.claim(held(&[2])).is_ok());
    drop(adopted);
    assert!(!path.exists());
    drop(lease);
}

/// Two installations with one directory: neither takes the claims of the other away.
#[test]
fn a_namesake_is_refused_and_keeps_its_claims() {
    let (shared, [one, two, _]) = locks();
    let namesake = Locks::open(shared.path(), one.vm()).unwrap();
    let held = |ino| vec![claim("/disks/a.dsk", ino, Access::Write)];
    let _held = one.claim(held(1)).unwrap();
    let refused = namesake.claim(held(2)).unwrap_err().to_string();
    assert!(refused.contains("a VM of the same name"), "{refused}");
    assert!(two.claim(held(1)).is_err(), "it is held still");
}

#[test]
fn what_is_not_from_a_monitor_is_passed_over() {
    let (shared, [one, two, _]) = locks();
    let locks = shared.path().join("locks");
    std::fs::create_dir(locks.join("vm8.held")).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", locks.join("vm9.held")).unwrap();
    let fifo = locks.join("vm10.held");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &fifo,
        FileType::Fifo,
        rustix::fs::Mode::RUSR,
        0,
    )
    .unwrap();
    let _held = one
        .claim(vec![claim("/disks/a.dsk", 1, Access::Write)])
        .unwrap();
    assert_eq!(two.holders().unwrap().len(), 1);
    assert_eq!(
        two.relying_on(&claim("/disks/a.dsk", 1, Access::Read).identity)
            .unwrap(),
        []
    );
    // Nor are they removed: their purpose is not known.
    assert!(locks.join("vm8.held").is_dir() && fifo.exists());
}
