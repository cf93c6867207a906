//! What is made of files, and made again only when a file is another one or has changed (umlmon, the monitor process):
//! a list of many VMs lets no monitor read a large configuration again, and strangers cannot let it read all the time.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::SystemTime;

use files::Mark;
use rustix::fs::stat;

/// Something that is made of files. It takes no memory until it is needed.
#[derive(Debug)]
pub struct Kept<T>(RefCell<Option<(Marks, Rc<T>)>>);

/// The files that something is made of, as they were before they were read.
#[derive(Debug, Default)]
pub struct Marks(Vec<(PathBuf, Option<Mark>)>);

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
        self.0.push((path.to_owned(), mark_of(path)));
    }

    fn are_current(&self) -> bool {
        self.0.iter().all(|(path, mark)| mark_of(path) == *mark)
    }

    fn are_older_than(&self, time: SystemTime) -> bool {
        let mut marks = self.0.iter().filter_map(|(_, mark)| *mark);
        marks.all(|mark| mark.is_older_than(time))
    }
}

fn mark_of(path: &Path) -> Option<Mark> {
    stat(path).ok().map(|found| Mark::from(&found))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::Duration;

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
