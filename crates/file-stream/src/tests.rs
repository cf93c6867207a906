//! A tree that is sent and received, and streams of somebody hostile.

use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::io::{Read, Write as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;
use std::process::Command;

use proptest::prelude::*;
use rustix::fs::{CWD, FileType, Mode, mknodat};

use crate::item::{self, Attributes, Item, MAX_DEPTH, Name};
use crate::{Error, Progress, Target, name_of, receive, send};

fn sent(source: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    send(source, &mut bytes, &mut |_| ()).unwrap();
    bytes
}

fn received(mut stream: &[u8], to: &Path, name: &str) -> Result<(), Error> {
    let target = Target::at(to, Some(OsStr::new(name)))?;
    receive(&mut stream, target, 0, &mut |_| ())
}

/// All that a copy keeps, of everything below a directory.
fn listing(root: &Path) -> String {
    let format = "%P %y %m %s %T@ %l\n";
    let found = Command::new("find")
        .current_dir(root)
        // The size of a directory depends on its history.
        .args([
            ".",
            "-type",
            "d",
            "-printf",
            "%P %m %T@\n",
            "-o",
            "-printf",
            format,
        ])
        .output()
        .unwrap();
    let text = String::from_utf8(found.stdout).unwrap();
    let mut lines: Vec<_> = text.lines().collect();
    lines.sort_unstable();
    lines.join("\n")
}

fn tree(root: &Path) {
    let write = |name: &str, mode, text: &[u8]| {
        fs::write(root.join(name), text).unwrap();
        fs::set_permissions(root.join(name), Permissions::from_mode(mode)).unwrap();
    };
    fs::create_dir_all(root.join("a/b/closed")).unwrap();
    write("a/program", 0o755, b"#!/bin/sh\n");
    write("a/b/closed/read only", 0o400, &vec![7; 100_000]);
    write("empty", 0o640, b"");
    symlink("../nowhere", root.join("a/link")).unwrap();
    symlink("/etc", root.join("etc")).unwrap();
    let sparse = File::create(root.join("sparse")).unwrap();
    sparse.set_len(1 << 40).unwrap();
    sparse.write_all_at(b"data", 1 << 30).unwrap();
    fs::set_permissions(root.join("a/b/closed"), Permissions::from_mode(0o500)).unwrap();
}

#[test]
fn a_tree_is_the_same_afterwards() {
    let directory = tempfile::tempdir().unwrap();
    let source = directory.path().join("source");
    fs::create_dir(&source).unwrap();
    tree(&source);
    received(&sent(&source), directory.path(), "copy").unwrap();
    let copy = directory.path().join("copy");
    assert_eq!(listing(&copy), listing(&source));
    let read = |path: &str| fs::read(copy.join(path)).unwrap();
    assert_eq!(read("a/b/closed/read only"), vec![7; 100_000]);
    let sparse = File::open(copy.join("sparse")).unwrap();
    let mut data = [0; 4];
    sparse.read_exact_at(&mut data, 1 << 30).unwrap();
    assert_eq!(&data, b"data");
    assert!(
        sparse.metadata().unwrap().blocks() < 1000,
        "it has no holes"
    );
}

#[test]
fn the_destination_follows_the_rules_of_cp() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    fs::write(at("file"), "1").unwrap();
    fs::create_dir_all(at("to/sub")).unwrap();
    let copy = |from: &str, to: &str| {
        let (from, to) = (at(from), at(to));
        let target = Target::at(&to, name_of(&from))?;
        receive(&mut &*sent(&from), target, 0, &mut |_| ())
    };
    copy("file", "to").unwrap();
    copy("file", "to/other").unwrap();
    copy("file", "to/other").unwrap();
    assert!(at("to/file").is_file() && at("to/other").is_file());
    for (from, to) in [("file", "none/"), ("file", "none/x"), ("to", "file")] {
        copy(from, to).unwrap_err();
    }
    fs::create_dir(at("into")).unwrap();
    copy("to", "into").unwrap();
    copy("to", "new").unwrap();
    copy("to/.", "into").unwrap();
    assert!(at("into/to/sub").is_dir() && at("new/sub").is_dir() && at("into/sub").is_dir());
    // What is there stays, but what has the same name is replaced.
    fs::write(at("to/file"), "2").unwrap();
    fs::write(at("into/to/more"), "more").unwrap();
    copy("to", "into").unwrap();
    assert_eq!(fs::read(at("into/to/file")).unwrap(), b"2");
    assert!(at("into/to/more").is_file());
    fs::create_dir(at("into/to/sub/other")).unwrap();
    copy("file", "into/to/sub").unwrap();
    fs::remove_file(at("to/file")).unwrap();
    fs::create_dir(at("to/file")).unwrap();
    copy("to", "into").unwrap_err();
}

#[test]
fn names_of_sources_are_those_of_cp() {
    let name = |path: &str| name_of(Path::new(path)).map(|name| name.to_str().unwrap().to_owned());
    assert_eq!(name("/a/b"), Some("b".into()));
    assert_eq!(name("a/"), Some("a".into()));
    for path in ["/", ".", "a/.", "a/..", ".."] {
        assert_eq!(name(path), None, "{path}");
    }
}

#[test]
fn what_is_no_file_is_left_out_and_setuid_bits_are_dropped() {
    let directory = tempfile::tempdir().unwrap();
    let source = directory.path().join("source");
    fs::create_dir(&source).unwrap();
    let fifo = source.join("fifo");
    mknodat(CWD, &fifo, FileType::Fifo, Mode::RWXU, 0).unwrap();
    fs::write(source.join("setuid"), "").unwrap();
    fs::set_permissions(source.join("setuid"), Permissions::from_mode(0o6755)).unwrap();
    let (mut stream, mut left_out) = (Vec::new(), Vec::new());
    send(&source, &mut stream, &mut |progress| {
        if let Progress::LeftOut(path) = progress {
            left_out.push(path.to_owned());
        }
    })
    .unwrap();
    assert_eq!(left_out, std::slice::from_ref(&fifo));
    received(&stream, directory.path(), "copy").unwrap();
    let copied = fs::metadata(directory.path().join("copy/setuid")).unwrap();
    assert_eq!(copied.mode() & 0o7777, 0o755);
    send(&fifo, &mut Vec::new(), &mut |_| ()).unwrap_err();
}

#[test]
fn a_file_that_does_not_know_its_size_is_sent() {
    let directory = tempfile::tempdir().unwrap();
    received(&sent(Path::new("/proc/self/status")), directory.path(), "x").unwrap();
    assert!(
        fs::read_to_string(directory.path().join("x"))
            .unwrap()
            .contains("VmRSS")
    );
}

/// A stream of these items, with the bytes of data.
fn stream(items: &[Item]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for item in [&[Item::Expect(0)], items].concat() {
        item::write(&mut bytes, &item).unwrap();
        if let Item::Data { length, .. } = item {
            bytes.extend(vec![b'x'; length as usize]);
        }
    }
    bytes
}

const PLAIN: Attributes = Attributes {
    mode: 0o7777,
    seconds: 0,
    nanoseconds: 0,
};

fn directory(name: &str) -> Item {
    Item::Directory(Name::try_from(name.as_bytes().to_vec()).unwrap(), PLAIN)
}

fn file(name: &str, size: u64) -> Item {
    Item::File(
        Name::try_from(name.as_bytes().to_vec()).unwrap(),
        PLAIN,
        size,
    )
}

fn link(name: &str, to: &str) -> Item {
    let name = Name::try_from(name.as_bytes().to_vec()).unwrap();
    Item::Link(name, PLAIN, to.as_bytes().to_vec())
}

#[test]
fn names_are_no_paths() {
    for name in ["..", ".", "/etc", "a/b", "../x", "a\0"] {
        Name::try_from(name.as_bytes().to_vec()).unwrap_err();
        // As they are on the way, as they cannot be made here.
        let good = stream(&[directory(""), file(&"n".repeat(name.len()), 0)]);
        let at = good
            .windows(name.len())
            .rposition(|w| w == "n".repeat(name.len()).as_bytes());
        let mut bad = good.clone();
        bad[at.unwrap()..][..name.len()].copy_from_slice(name.as_bytes());
        let to = tempfile::tempdir().unwrap();
        assert!(
            matches!(received(&bad, to.path(), "x"), Err(Error::Invalid(_))),
            "{name}"
        );
        assert_eq!(fs::read_dir(to.path()).unwrap().count(), 0);
    }
}

#[test]
fn nothing_is_written_through_a_link() {
    let outside = tempfile::tempdir().unwrap();
    let to = tempfile::tempdir().unwrap();
    let path = outside.path().to_str().unwrap();
    let inner = [
        directory("l"),
        file("f", 0),
        Item::End(0),
        Item::Leave,
        Item::Leave,
    ];
    let through = [&[directory(""), link("l", path)], &inner[..]].concat();
    received(&stream(&through), to.path(), "x").unwrap_err();
    // One that an earlier copy has left.
    let first = [directory(""), link("l", path), Item::Leave, Item::Done];
    received(&stream(&first), to.path(), "x").unwrap();
    received(
        &stream(&[&[directory("")], &inner[..]].concat()),
        to.path(),
        "x",
    )
    .unwrap_err();
    let target = format!("{path}/f");
    let first = [directory(""), link("f", &target), Item::Leave, Item::Done];
    received(&stream(&first), to.path(), "x").unwrap();
    let file = [
        directory(""),
        file("f", 0),
        Item::End(0),
        Item::Leave,
        Item::Done,
    ];
    received(&stream(&file), to.path(), "x").unwrap();
    assert!(
        fs::symlink_metadata(to.path().join("x/f"))
            .unwrap()
            .is_file()
    );
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
}

#[test]
fn what_is_not_complete_or_not_valid_leaves_nothing() {
    let data = |offset, length| Item::Data { offset, length };
    let deep = vec![directory(""), directory("d")].into_iter();
    let deep: Vec<_> = deep.chain(vec![directory("d"); MAX_DEPTH]).collect();
    let cases: [&[Item]; 13] = [
        &[],
        &[Item::Done],
        &[link("", "x"), Item::Done],
        &[file("named", 0), Item::End(0), Item::Done],
        &[file("", 4), data(0, 5), Item::End(4), Item::Done],
        &[file("", 4), data(u64::MAX, 4), Item::End(4), Item::Done],
        &[
            file("", 9),
            data(4, 2),
            data(0, 2),
            Item::End(9),
            Item::Done,
        ],
        &[file("", 9), data(4, 2), Item::End(5), Item::Done],
        &[file("", 4), Item::End(5), Item::Done],
        &[
            directory(""),
            file("", 0),
            Item::End(0),
            Item::Leave,
            Item::Done,
        ],
        &[directory(""), directory("a"), Item::Leave, directory("a")],
        &[
            directory(""),
            file("f", 4),
            data(0, 4),
            Item::End(4),
            Item::Leave,
            Item::Leave,
        ],
        &deep,
    ];
    for items in cases {
        let to = tempfile::tempdir().unwrap();
        received(&stream(items), to.path(), "x").unwrap_err();
        let left: Vec<_> = fs::read_dir(to.path()).unwrap().collect();
        let is_there = fs::exists(to.path().join("x")).unwrap();
        assert!(left.is_empty() || is_there, "{items:?} leave {left:?}");
        // A root that is complete has its name before the end of the stream is read.
        assert_eq!(
            is_there,
            items.len() == 6 && items[4] == Item::Leave,
            "{items:?}"
        );
    }
}

#[test]
fn a_tree_that_breaks_off_anywhere_leaves_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let source = directory.path().join("source");
    fs::create_dir(&source).unwrap();
    tree(&source);
    let stream = sent(&source);
    let to = directory.path().join("to");
    fs::create_dir(&to).unwrap();
    // The last item, and the end of the root before it.
    for length in (0..stream.len() - 6).step_by(997) {
        received(&stream[..length], &to, "x").unwrap_err();
        assert_eq!(fs::read_dir(&to).unwrap().count(), 0, "{length}");
    }
}

#[test]
fn an_endless_answer_takes_no_more_than_was_declared() {
    struct Endless(Vec<u8>);
    impl Read for Endless {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            if self.0.is_empty() {
                let data = Item::Data {
                    offset: 0,
                    length: 1,
                };
                item::write(&mut self.0, &data).unwrap();
                self.0.write_all(b"x").unwrap();
            }
            let length = buffer.len().min(self.0.len());
            buffer[..length].copy_from_slice(&self.0[..length]);
            self.0.drain(..length);
            Ok(length)
        }
    }
    let to = tempfile::tempdir().unwrap();
    let target = Target::at(to.path(), Some(OsStr::new("x"))).unwrap();
    let mut endless = Endless(stream(&[file("", 4)]));
    let error = receive(&mut endless, target, 0, &mut |_| ()).unwrap_err();
    assert!(matches!(error, Error::Invalid(_)), "{error}");
    assert_eq!(fs::read_dir(to.path()).unwrap().count(), 0);
}

proptest! {
    #[test]
    fn noise_makes_nothing(noise in prop::collection::vec(any::<u8>(), 0..2000)) {
        let to = tempfile::tempdir().unwrap();
        received(&noise, to.path(), "x").unwrap_err();
        prop_assert_eq!(fs::read_dir(to.path()).unwrap().count(), 0);
    }
}
