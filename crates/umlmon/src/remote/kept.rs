//! What is made of files for connections of strangers, and made again only when a file is another one or has changed
//! (umlmon, the monitor process): however many strangers there are, they do not let the monitor read all the time.

use std::cell::RefCell;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, SystemTime};

/// How late the time of a change can be: file systems take it from a clock that moves with the kernel's timer.
const LATENESS: Duration = Duration::from_millis(100);

/// Something that is made of files. It takes no memory until it is needed.
#[derive(Debug)]
pub struct Kept<T>(RefCell<Option<(Marks, Rc<T>)>>);

/// The files that something is made of, as they were before they were read.
#[derive(Debug, Default)]
pub struct Marks(Vec<(PathBuf, Option<Mark>)>);

/// A file, and when it was last changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Mark {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    /// inode(7), `st_ctime`: nobody can set it.
    changed: (i64, i64),
}

impl<T> Default for Kept<T> {
    fn default() -> Self {
        Kept(RefCell::default())
    }
}

impl<T> Kept<T> {
    /// What was made before, or what `make` makes now, which must mark each file before it reads it. A failure is not
    /// kept.
    ///
    /// # Errors
    /// That of `make`.
    pub fn get<E>(&self, make: impl FnOnce(&mut Marks) -> Result<T, E>) -> Result<Rc<T>, E> {
        if let Some((marks, made)) = &*self.0.borrow()
            && marks.are_current()
        {
            return Ok(Rc::clone(made));
        }
        let (mut marks, began) = (Marks::default(), SystemTime::now());
        let made = Rc::new(make(&mut marks)?);
        let kept = marks.are_older_than(began);
        self.0.replace(kept.then(|| (marks, Rc::clone(&made))));
        Ok(made)
    }
}

impl Marks {
    /// Marks a file that is about to be read. It may be missing.
    pub fn mark(&mut self, path: &Path) {
        self.0.push((path.to_owned(), Mark::of(path)));
    }

    fn are_current(&self) -> bool {
        self.0.iter().all(|(path, mark)| Mark::of(path) == *mark)
    }

    /// No file has changed since `time`, or so shortly before it that a further change would not be seen.
    fn are_older_than(&self, time: SystemTime) -> bool {
        let since = time
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        let limit = since.saturating_sub(LATENESS);
        let limit = i64::try_from(limit.as_nanos()).unwrap_or(i64::MAX);
        let nanoseconds =
            |(seconds, rest): (i64, i64)| seconds.saturating_mul(1_000_000_000) + rest;
        let mut marks = self.0.iter().filter_map(|(_, mark)| *mark);
        marks.all(|mark| nanoseconds(mark.changed) < limit)
    }
}

impl Mark {
    fn of(path: &Path) -> Option<Mark> {
        let found = fs::metadata(path).ok()?;
        Some(Mark {
            device: found.dev(),
            inode: found.ino(),
            size: found.size(),
            modified: (found.mtime(), found.mtime_nsec()),
            changed: (found.ctime(), found.ctime_nsec()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the file says now, and whether it was read for that.
    fn read(kept: &Kept<String>, path: &Path) -> (String, bool) {
        let mut was_read = false;
        let text = kept.get(|marks| {
            marks.mark(path);
            was_read = true;
            fs::read_to_string(path)
        });
        (
            text.map_or_else(|_| String::new(), |text| (*text).clone()),
            was_read,
        )
    }

    /// Waits until the file is so old that it is kept.
    fn settle(kept: &Kept<String>, path: &Path) -> String {
        let end = SystemTime::now() + Duration::from_secs(20);
        loop {
            let (text, was_read) = read(kept, path);
            if !was_read {
                return text;
            }
            assert!(SystemTime::now() < end, "it is read without end");
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_file_is_read_again_when_it_is_another() {
        let dir = tempfile::tempdir().unwrap();
        let (path, new) = (dir.path().join("file"), dir.path().join("new"));
        let kept = Kept::default();
        fs::write(&path, "one").unwrap();
        assert_eq!(read(&kept, &path), ("one".into(), true));
        assert_eq!(settle(&kept, &path), "one");
        // Of the same size, in place: at once, and once more.
        for text in ["two", "six"] {
            fs::write(&path, text).unwrap();
            assert_eq!(read(&kept, &path), (text.into(), true));
        }
        assert_eq!(settle(&kept, &path), "six");
        fs::write(&new, "ten").unwrap();
        fs::rename(&new, &path).unwrap();
        assert_eq!(settle(&kept, &path), "ten");
        fs::remove_file(&path).unwrap();
        assert_eq!(read(&kept, &path), (String::new(), true));
        assert_eq!(
            read(&kept, &path),
            (String::new(), true),
            "a failure is not kept"
        );
    }
}
