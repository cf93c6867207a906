//! A world to work at, and shorthands for tasks.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use config::DiskName;
use disks::work::{Entry, Error, Task, Watch, Workplace};

pub const MIB: u64 = 1 << 20;

/// An empty jail, which is gone after the test.
pub struct World {
    root: tempfile::TempDir,
    work: Workplace,
}

/// Remembers everything; cancels at a call of `progress`, counted from 1.
#[derive(Default)]
pub struct Log {
    pub cancel_at: Option<usize>,
    pub progress: Vec<(u64, u64)>,
    pub found: Vec<Entry>,
}

impl Watch for Log {
    fn progress(&mut self, done: u64, total: u64) -> bool {
        self.progress.push((done, total));
        self.cancel_at != Some(self.progress.len())
    }

    fn found(&mut self, entry: Entry) {
        self.found.push(entry);
    }
}

pub fn name(text: &str) -> DiskName {
    text.parse().unwrap()
}

impl World {
    pub fn new() -> World {
        Self::at(tempfile::tempdir().unwrap())
    }

    /// With the disks on a file system that the test chooses.
    pub fn at(root: tempfile::TempDir) -> World {
        for directory in ["disks", "shared/disks"] {
            fs::create_dir_all(root.path().join(directory)).unwrap();
        }
        let work = Workplace::open(root.path()).unwrap();
        World { root, work }
    }

    /// The file as the test sees it.
    pub fn path(&self, disk: &str) -> PathBuf {
        self.root.path().join(disk.trim_start_matches('/'))
    }

    /// A sparse file.
    pub fn file(&self, disk: &str, bytes: u64) -> File {
        let mut options = File::options();
        let options = options.read(true).write(true).create_new(true);
        let file = options.open(self.path(disk)).unwrap();
        file.set_len(bytes).unwrap();
        file
    }

    /// A sparse file of 4 MiB with data at two places that are not aligned to anything.
    pub fn image(&self, disk: &str) -> File {
        let file = self.file(disk, 4 * MIB);
        file.write_all_at(&[0xd5; 100_000], 300_123).unwrap();
        file.write_all_at(b"the end", 4 * MIB - 7).unwrap();
        file.sync_all().unwrap();
        file
    }

    pub fn perform(&self, task: &Task, log: &mut Log) -> Result<(), Error> {
        let result = self.work.perform(task, log);
        if *task != Task::List {
            self.check_no_partial();
        }
        result
    }

    /// Does the task.
    pub fn done(&self, task: &Task) -> Log {
        let mut log = Log::default();
        self.perform(task, &mut log).unwrap();
        log
    }

    /// Asserts that the task is refused, that nothing has changed by it, and that the sentence contains `why`.
    pub fn refused(&self, task: &Task, why: &str) {
        self.refused_at(task, None, why);
    }

    /// Asserts that the task can be cancelled at a call of `progress`, and that nothing has changed by it.
    pub fn cancelled(&self, task: &Task, call: usize) {
        self.refused_at(task, Some(call), "cancelled");
    }

    fn refused_at(&self, task: &Task, cancel_at: Option<usize>, why: &str) {
        let before = self.content();
        let mut log = Log {
            cancel_at,
            ..Log::default()
        };
        let error = self.perform(task, &mut log).expect_err("it was done");
        assert!(error.to_string().contains(why), "{error}");
        assert!(log.found.is_empty());
        assert_eq!(self.content(), before, "{task:?}");
    }

    /// What is there: name, inode, mode, size, and the space in MiB (ext4 keeps a block for what it knew of more).
    fn content(&self) -> Vec<(PathBuf, [u64; 4])> {
        let mut content = Vec::new();
        for directory in ["disks", "shared/disks"] {
            for entry in fs::read_dir(self.root.path().join(directory)).unwrap() {
                let path = entry.unwrap().path();
                let stat = fs::symlink_metadata(&path).unwrap();
                let facts = [
                    stat.ino(),
                    stat.mode().into(),
                    stat.len(),
                    stat.blocks() >> 11,
                ];
                content.push((path, facts));
            }
        }
        content.sort();
        content
    }

    fn check_no_partial(&self) {
        for entry in fs::read_dir(self.root.path().join("disks")).unwrap() {
            let name = entry.unwrap().file_name();
            assert!(
                !disks::work::is_partial(name.as_encoded_bytes()),
                "{name:?}"
            );
        }
    }

    /// Size and allocated bytes.
    pub fn sizes(&self, disk: &str) -> (u64, u64) {
        let stat = fs::symlink_metadata(self.path(disk)).unwrap();
        (stat.len(), stat.blocks() * 512)
    }

    pub fn assert_same(&self, one: &str, other: &str) {
        assert_same(&self.path(one), &self.path(other));
    }
}

pub fn assert_same(one: &Path, other: &Path) {
    let same = fs::read(one).unwrap() == fs::read(other).unwrap();
    assert!(same, "{} and {} differ", one.display(), other.display());
}

pub fn create(disk: &str, bytes: u64, sparse: bool) -> Task {
    Task::Create {
        disk: name(disk),
        bytes,
        sparse,
    }
}

pub fn create_cow(disk: &str, backing: &str) -> Task {
    Task::CreateCow {
        disk: name(disk),
        backing: name(backing),
    }
}

pub fn import(disk: &str, backing: &str) -> Task {
    Task::Import {
        disk: name(disk),
        backing: name(backing),
    }
}

pub fn copy(source: &str, destination: &str) -> Task {
    Task::Copy {
        source: name(source),
        destination: name(destination),
    }
}

pub fn commit(source: &str, destination: &str) -> Task {
    Task::Commit {
        source: name(source),
        destination: name(destination),
    }
}

pub fn resize(disk: &str, bytes: u64, sparse: bool) -> Task {
    Task::Resize {
        disk: name(disk),
        bytes,
        sparse,
    }
}

pub fn delete(disk: &str) -> Task {
    Task::Delete { disk: name(disk) }
}

/// Whether root's rights are there, which some tests need to make a situation.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Whether a program is installed, which some tests compare with.
pub fn installed(program: &str) -> bool {
    let found = std::process::Command::new("sh")
        .args(["-c", &format!("command -v {program}")])
        .output();
    found.is_ok_and(|output| output.status.success())
}

/// Runs a program, which must succeed.
pub fn run(program: &str, args: &[&Path]) {
    let output = std::process::Command::new(program).args(args).output();
    let output = output.unwrap();
    assert!(output.status.success(), "{program}: {output:?}");
}
