//! How long it takes to make and to copy disks, against the tools that do the same (cargo xtask bench).
//!
//! Ours is a command of umlwatch: the call, the check of names and claims, the confined process, and the work.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, chown};
use std::path::Path;
use std::process::Command;

use anyhow::Context as _;
use rustix::fs::sync;

use super::installation::{self, Installation};
use super::report::Figure;
use super::stats;
use super::subject::{Subject, program, run_time};

pub(super) const SUBJECT: Subject = Subject {
    name: "disks",
    metrics: &[
        "disk-create",
        "disk-create-qemu",
        "disk-copy-dense",
        "disk-copy-sparse",
        "disk-create-cow",
    ],
    packages: &["util-linux", "qemu-utils", "uml-utilities"],
    measure,
};

/// Bytes of a disk.
const GIB: u64 = 1 << 30;
const MIB: u64 = 1 << 20;

const ROUNDS: usize = 11;

fn measure() -> anyhow::Result<Vec<Figure>> {
    installation::with(&program("fake_linux"), "", |installation| {
        let bench = Bench { installation };
        bench.put("dense.dsk", 1)?;
        bench.put("sparse.dsk", 10)?;
        sync();
        let create = ["-disk-create", "/disks/new.dsk:1024"];
        let fallocate: Peer<'_> = &|new| {
            let mut fallocate = Command::new("fallocate");
            fallocate.args(["-l", "1G"]).arg(new);
            fallocate
        };
        let qemu: Peer<'_> = &|new| {
            let mut qemu = Command::new("qemu-img");
            let options = ["create", "-q", "-f", "raw", "-o", "preallocation=falloc"];
            qemu.args(options).arg(new).arg("1G");
            qemu
        };
        let copy_dense = ["-disk-copy", "/disks/dense.dsk:/disks/new.dsk"];
        let copy_sparse = ["-disk-copy", "/disks/sparse.dsk:/disks/new.dsk"];
        let cow = ["-disk-create-cow", "/disks/new.cow:/disks/dense.dsk"];
        let mkcow: Peer<'_> = &|new| {
            let mut mkcow = Command::new("uml_mkcow");
            mkcow.arg(new).arg(bench.path("dense.dsk"));
            mkcow
        };
        Ok(vec![
            bench.compare("disk-create", &create, "new.dsk", fallocate)?,
            bench.compare("disk-create-qemu", &create, "new.dsk", qemu)?,
            bench.compare("disk-copy-dense", &copy_dense, "new.dsk", &|new| {
                bench.cp("dense.dsk", new)
            })?,
            bench.compare("disk-copy-sparse", &copy_sparse, "new.dsk", &|new| {
                bench.cp("sparse.dsk", new)
            })?,
            bench.compare("disk-create-cow", &cow, "new.cow", mkcow)?,
        ])
    })
}

/// The command of a peer that makes this file.
type Peer<'a> = &'a dyn Fn(&Path) -> Command;

struct Bench<'a> {
    installation: &'a Installation,
}

impl Bench<'_> {
    fn path(&self, name: &str) -> std::path::PathBuf {
        self.installation.jail().join("disks").join(name)
    }

    /// A disk of 1 GiB of which every `nth` megabyte holds data.
    fn put(&self, name: &str, nth: u64) -> anyhow::Result<()> {
        let path = self.path(name);
        let file = File::create_new(&path).context("cannot make a disk")?;
        file.set_len(GIB)?;
        let data = vec![7; 1 << 20];
        for at in (0..GIB / MIB).filter(|at| at % nth == 0) {
            file.write_all_at(&data, at * MIB)
                .context("cannot fill a disk")?;
        }
        let owner = fs::metadata(self.installation.jail().join("disks"))?;
        chown(&path, Some(owner.uid()), Some(owner.gid()))?;
        file.sync_all().context("cannot write a disk out")
    }

    fn cp(&self, from: &str, to: &Path) -> Command {
        let mut cp = Command::new("cp");
        cp.arg(self.path(from)).arg(to);
        cp
    }

    /// Makes both create the file, alternately. It is removed each time, so that neither has to write back the other's
    /// data.
    fn compare(
        &self,
        metric: &'static str,
        ours: &[&str],
        name: &str,
        peer: Peer<'_>,
    ) -> anyhow::Result<Figure> {
        let new = self.path(name);
        let measured = |mut command: Command| {
            let taken = run_time(&mut command)?;
            fs::remove_file(&new).with_context(|| format!("{metric}: nothing was made"))?;
            sync();
            Ok(taken)
        };
        let pairs = stats::alternate(
            ROUNDS,
            || measured(self.installation.umlwatch(ours)),
            || measured(peer(&new)),
        )?;
        Figure::of_pairs(metric, "ms", &pairs)
    }
}
