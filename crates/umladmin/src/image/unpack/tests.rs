//! Hostile and odd archives, unpacked without any of what keeps the real process apart.

use std::os::unix::fs::{MetadataExt as _, symlink};

use tar::{Builder, Header};

use super::*;

/// An archive of entries; names and targets are written as they are.
#[derive(Default)]
struct Tar(Vec<u8>);

impl Tar {
    fn add(mut self, name: &str, kind: EntryType, link: &str, content: &[u8]) -> Tar {
        let mut header = Header::new_gnu();
        let put =
            |field: &mut [u8], text: &str| field[..text.len()].copy_from_slice(text.as_bytes());
        put(&mut header.as_gnu_mut().unwrap().name, name);
        put(&mut header.as_gnu_mut().unwrap().linkname, link);
        header.set_entry_type(kind);
        header.set_mode(0o4755);
        let ids = (rustix::process::getuid(), rustix::process::getgid());
        header.set_uid(ids.0.as_raw().into());
        header.set_gid(ids.1.as_raw().into());
        header.set_mtime(7);
        header.set_size(content.len() as u64);
        header.set_cksum();
        let mut builder = Builder::new(Vec::new());
        builder.append(&header, content).unwrap();
        let bytes = builder.into_inner().unwrap();
        // Without the two blocks of zeros at the end.
        self.0.extend_from_slice(&bytes[..bytes.len() - 1024]);
        self
    }

    fn file(self, name: &str, content: &str) -> Tar {
        self.add(name, EntryType::Regular, "", content.as_bytes())
    }

    fn directory(self, name: &str) -> Tar {
        self.add(name, EntryType::Directory, "", b"")
    }

    fn symlink(self, name: &str, to: &str) -> Tar {
        self.add(name, EntryType::Symlink, to, b"")
    }

    fn hard_link(self, name: &str, to: &str) -> Tar {
        self.add(name, EntryType::Link, to, b"")
    }

    fn unpack(self, root: &Path, is_layer: bool) -> Result<u64, String> {
        unpack(&mut self.0.as_slice(), root, is_layer)
    }
}

/// A directory to unpack in, inside one that must not change.
fn world() -> (tempfile::TempDir, PathBuf) {
    let outside = tempfile::tempdir().unwrap();
    let root = outside.path().join("root");
    fs::create_dir(&root).unwrap();
    fs::write(outside.path().join("secret"), "secret").unwrap();
    (outside, root)
}

/// All files below a directory, sorted.
fn names(root: &Path) -> Vec<String> {
    let mut names = Vec::new();
    for entry in fs::read_dir(root).unwrap().flatten() {
        let name = entry.file_name().into_string().unwrap();
        if entry.file_type().unwrap().is_dir() {
            let inside = super::tests::names(&entry.path());
            names.extend(inside.iter().map(|inside| format!("{name}/{inside}")));
        }
        names.push(name);
    }
    names.sort();
    names
}

#[test]
fn an_archive_is_unpacked_as_it_is() {
    let (_outside, root) = world();
    let tar = Tar::default()
        .directory("./")
        .directory("./a")
        .file("./a/b", "text")
        .hard_link("./a/c", "./a/b")
        .symlink("./a/d", "/nowhere")
        .file("/absolute", "x")
        .add("a/null", EntryType::Char, "", b"")
        .add("a/pipe", EntryType::Fifo, "", b"");
    assert_eq!(tar.unpack(&root, false), Ok(1));
    assert_eq!(
        names(&root),
        ["a", "a/b", "a/c", "a/d", "a/pipe", "absolute"]
    );
    let b = fs::metadata(root.join("a/b")).unwrap();
    assert_eq!((b.mode() & 0o7777, b.nlink(), b.mtime()), (0o4755, 2, 7));
    // In an archive that is no layer, these are names as others.
    let tar = Tar::default().file("a/.wh.b", "");
    assert_eq!(tar.unpack(&root, false), Ok(0));
    assert!(root.join("a/b").exists() && root.join("a/.wh.b").exists());
}

#[test]
fn no_name_leads_out_of_the_directory() {
    let hostile = [
        Tar::default().file("../secret", "changed"),
        Tar::default().file("a/../../secret", "changed"),
        Tar::default()
            .symlink("up", "..")
            .file("up/secret", "changed"),
        Tar::default().symlink("up", "../").file("up/new", "new"),
        Tar::default()
            .hard_link("copy", "../secret")
            .file("copy", "changed"),
        Tar::default()
            .symlink("up", "..")
            .hard_link("copy", "up/secret"),
        Tar::default().file(".wh...", ""),
        Tar::default().file(".wh..", ""),
        Tar::default().file(".wh.", ""),
        Tar::default().file("../.wh.secret", ""),
    ];
    for (number, tar) in hostile.into_iter().enumerate() {
        let (outside, root) = world();
        let why = tar.unpack(&root, true).unwrap_err();
        let secret = fs::read_to_string(outside.path().join("secret")).unwrap();
        assert_eq!(secret, "secret", "{number}: {why}");
        assert!(!outside.path().join("new").exists(), "{number}: {why}");
    }
}

#[test]
fn a_layer_removes_what_it_says_of_those_below() {
    let (_outside, root) = world();
    let below = Tar::default()
        .directory("a")
        .file("a/gone", "1")
        .file("a/stays", "1")
        .directory("b")
        .directory("b/old")
        .file("b/old/x", "1")
        .file("b/y", "1")
        .directory("kind")
        .file("kind/x", "1");
    below.unpack(&root, true).unwrap();
    let above = Tar::default()
        .file("a/.wh.gone", "")
        .file("a/.wh.never-there", "")
        .file(".wh..wh.plnk", "")
        .directory("b")
        .file("b/new", "2")
        .file("b/.wh..wh..opq", "")
        .file("b/after", "2")
        .file("kind", "2")
        .directory("a/stays");
    above.unpack(&root, true).unwrap();
    assert_eq!(
        names(&root),
        ["a", "a/stays", "b", "b/after", "b/new", "kind"]
    );
    assert!(root.join("a/stays").is_dir() && root.join("kind").is_file());
    // Of its own files, it removes none.
    let own = Tar::default().file("c", "3").file(".wh.c", "");
    own.unpack(&root, true).unwrap();
    assert!(root.join("c").exists());
}

#[test]
fn a_link_is_replaced_and_not_followed() {
    let (outside, root) = world();
    symlink(outside.path().join("secret"), root.join("link")).unwrap();
    symlink(outside.path(), root.join("directory")).unwrap();
    let tar = Tar::default()
        .file("link", "mine")
        .directory("directory")
        .file("directory/secret", "mine");
    tar.unpack(&root, false).unwrap();
    let secret = fs::read_to_string(outside.path().join("secret")).unwrap();
    assert_eq!(secret, "secret");
    assert_eq!(names(&root), ["directory", "directory/secret", "link"]);
}

#[test]
fn what_is_no_archive_is_refused() {
    let (_outside, root) = world();
    let mut damaged = Tar::default().file("a", "1").0;
    damaged[0] = b'b';
    let mut short = Tar::default().file("a", "0123456789").0;
    short.truncate(515);
    let large = {
        let mut header = Header::new_gnu();
        header.set_path("a").unwrap();
        header.set_size(u64::MAX / 2);
        header.set_cksum();
        header.as_bytes().to_vec()
    };
    for bytes in [vec![0x55; 2048], damaged, short, large] {
        let refused = unpack(&mut bytes.as_slice(), &root, false);
        assert!(refused.is_err(), "{refused:?}");
    }
    assert_eq!(unpack(&mut [0; 1024].as_slice(), &root, false), Ok(0));
}
