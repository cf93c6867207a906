//! `umladmin image import` and `export`: images as files (umladmin).

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use client::bar::Bar;
use client::signals::Signals;
use client::when;
use monitors::cannot;
use nix::sys::signal::Signal;
use sha2::{Digest as _, Sha256};

use super::apart::Stopped;
use super::builder::Builder;
use super::file_system::IMAGE;
use super::manifest::{Kernel, Manifest};
use super::store::{MAX_MANIFEST, Store, digits};

/// Where file systems have what they are known by.
const KNOWN: [(u64, &[u8]); 6] = [
    (1080, b"\x53\xef"),
    (0, b"XFSB"),
    (65600, b"_BHRfS_M"),
    (1024, b"\x10\x20\xf5\xf2"),
    (0, b"hsqs"),
    (1024, b"\xe2\xe1\xf5\xe0"),
];
/// What disks of others begin with.
const QCOW2: &[u8] = b"QFI\xfb";

/// Copies a file into the directory of the builder, and makes it an image.
pub(super) fn import(builder: &Builder<'_>, path: &Path) -> Result<(), Stopped> {
    let failed = |error: io::Error| cannot("read", path, &error);
    let file = File::open(path).map_err(failed)?;
    check(&file).map_err(|why| format!("{}: {why}", path.display()))?;
    let described = described(path)?;
    let to = builder.place.path().join(IMAGE);
    let mut made = File::create_new(&to).map_err(|error| cannot("write", &to, &error))?;
    let mut sum = Sha256::new();
    let (signals, bar) = (&builder.signals, &builder.bar);
    copy(&file, &mut made, signals, bar, &mut |piece| {
        sum.update(piece);
    })?;
    let sha256 = digits(sum);
    if described.as_ref().is_some_and(|it| it.sha256 != sha256) {
        return Err(Stopped::Failed(format!(
            "{}: its SHA-256 sum is not the one in {}: it is damaged",
            path.display(),
            beside(path).display()
        )));
    }
    builder.store(&described.unwrap_or_else(|| Manifest {
        source: format!("import {}", path.display()),
        size: 0,
        sha256,
        date: when::rfc3339(when::now()),
        kernel: Kernel::default(),
    }))
}

/// Writes an image and its manifest as files that are not there yet.
pub(super) fn export(store: &Store, name: &str, path: &Path) -> Result<(), Stopped> {
    let from = store.path(name);
    let file = File::open(&from).map_err(|error| cannot("read", &from, &error))?;
    let signals = Signals::hold().map_err(|error| error.to_string())?;
    let bar = Bar::default();
    let directory = path.parent().filter(|path| !path.as_os_str().is_empty());
    let directory = directory.unwrap_or(Path::new("."));
    let failed = |error: io::Error| cannot("write", path, &error);
    if path.exists() {
        return Err(Stopped::Failed(failed(io::ErrorKind::AlreadyExists.into())));
    }
    // It goes away with this process, unless it is whole.
    let mut new = tempfile::NamedTempFile::new_in(directory).map_err(failed)?;
    copy(&file, new.as_file_mut(), &signals, &bar, &mut |_| ())?;
    new.as_file().sync_all().map_err(failed)?;
    if let Some(manifest) = store.manifest(name) {
        let text = serde_json::to_string_pretty(&manifest).map_err(|error| error.to_string())?;
        let beside = beside(path);
        let write = || File::create_new(&beside)?.write_all(format!("{text}\n").as_bytes());
        write().map_err(|error| cannot("write", &beside, &error))?;
    }
    let written = new.persist_noclobber(path);
    written.map(drop).map_err(|error| {
        let _ = fs::remove_file(beside(path));
        Stopped::Failed(failed(error.error))
    })
}

/// The manifest beside a file.
fn beside(path: &Path) -> PathBuf {
    let mut name: OsString = path.as_os_str().to_owned();
    name.push(".json");
    name.into()
}

fn described(path: &Path) -> Result<Option<Manifest>, String> {
    let path = beside(path);
    let mut text = Vec::new();
    let read = File::open(&path).and_then(|file| file.take(MAX_MANIFEST).read_to_end(&mut text));
    match read {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(cannot("read", &path, &error)),
        Ok(_) => {
            let manifest = serde_json::from_slice(&text);
            let manifest = manifest.map_err(|error| format!("{}: {error}", path.display()));
            manifest.map(Some)
        }
    }
}

/// Whether a guest could use it.
fn check(file: &File) -> Result<(), String> {
    let begins = |at: u64, magic: &[u8]| {
        let mut found = vec![0; magic.len()];
        file.read_exact_at(&mut found, at).is_ok() && found == magic
    };
    if begins(0, QCOW2) {
        return Err(
            "it is a disk of QEMU; make a raw one of it first (qemu-img convert -O raw)".into(),
        );
    }
    if begins(510, b"\x55\xaa") && !begins(1080, b"\x53\xef") {
        return Err(
            "it has a table of partitions; an image is the file system of one of them".into(),
        );
    }
    match KNOWN.iter().any(|(at, magic)| begins(*at, magic)) {
        true => Ok(()),
        false => Err("it has no file system that a guest could have as its root".into()),
    }
}

/// Copies a file, of which `each` piece is looked at; what are zeros takes no space.
fn copy(
    from: &File,
    to: &mut File,
    signals: &Signals,
    bar: &Bar,
    each: &mut dyn FnMut(&[u8]),
) -> Result<(), Stopped> {
    let failed = |error: io::Error| Stopped::Failed(format!("cannot copy the image: {error}"));
    let size = from.metadata().map_err(failed)?.len();
    bar.bytes("Copying the image", size);
    // As long as any piece that is read.
    let zeros = vec![0; files::PIECE];
    let mut done = 0;
    let mut signal = None;
    let copied = files::read_sparse(from, &mut |piece| {
        signal = signals.next().filter(|signal| *signal != Signal::SIGWINCH);
        if signal.is_some() {
            return Err(io::ErrorKind::Interrupted.into());
        }
        each(piece);
        done += piece.len() as u64;
        match zeros.starts_with(piece) {
            true => to.seek(SeekFrom::Start(done)).map(drop)?,
            false => to.write_all(piece)?,
        }
        bar.at(done);
        Ok(())
    });
    if let Some(signal) = signal {
        return Err(Stopped::Signal(signal));
    }
    copied.and_then(|()| to.set_len(done)).map_err(failed)
}
