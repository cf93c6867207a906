//! `umladmin image from-oci`: an image of the layers of a container (umladmin).
//!
//! The source is a directory in the OCI image layout, or one that `docker save` has written, or an archive of either
//! (<https://github.com/opencontainers/image-spec>). Of its descriptions, only which layers there are is read here,
//! with a bound; the layers are unpacked apart.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt as _;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use sha2::{Digest as _, Sha256};

use super::archive;
use super::builder::Part;

/// How long a description may be, and how many layers and files of an archive there may be.
const MAX_JSON: u64 = 4 << 20;
const MAX_LAYERS: usize = 1000;
const MAX_ENTRIES: usize = 100_000;
/// How deep an index may lie in another one.
const MAX_DEPTH: usize = 4;

/// The machine for which an image must be.
const MACHINE: (&str, &str) = ("linux", "amd64");

/// Where descriptions and layers are.
enum Source {
    Directory(File),
    /// Names in an archive, and where in the file they begin and how long they are.
    Archive {
        file: Arc<File>,
        index: HashMap<PathBuf, (u64, u64)>,
    },
}

/// A layer: its name in the source, and what its SHA-256 sum must be if that is known.
#[derive(Debug, PartialEq, Eq)]
struct Layer {
    name: String,
    sum: Option<String>,
}

#[derive(Deserialize)]
struct Index {
    manifests: Vec<Descriptor>,
}

#[derive(Deserialize)]
struct Manifest {
    layers: Vec<Descriptor>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    #[serde(default)]
    media_type: String,
    digest: String,
    platform: Option<Platform>,
}

#[derive(Deserialize)]
struct Platform {
    os: String,
    architecture: String,
}

/// Of `manifest.json`, which `docker save` writes.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    layers: Vec<String>,
}

/// The container in a directory or an archive.
pub(super) struct Container {
    source: Source,
    layers: Vec<Layer>,
}

impl Container {
    /// Finds out which layers it has.
    pub(super) fn open(path: &Path) -> Result<Container, String> {
        let about = |why: String| format!("{}: {why}", path.display());
        let source = Source::open(path).map_err(about)?;
        let layers = source.layers().map_err(about)?;
        if layers.is_empty() || layers.len() > MAX_LAYERS {
            return Err(about(format!("it has {} layers", layers.len())));
        }
        Ok(Container { source, layers })
    }

    /// Its layers, the lowest one first.
    pub(super) fn parts(&self) -> impl Iterator<Item = Result<Part<'_>, String>> {
        let all = self.layers.len();
        (1..).zip(&self.layers).map(move |(number, layer)| {
            let about = |error: io::Error| format!("cannot read {}: {error}", layer.name);
            let (bytes, size) = self.source.get(Path::new(&layer.name)).map_err(about)?;
            let bytes: Box<dyn Read + Send> = match &layer.sum {
                Some(sum) => Box::new(Checked::new(bytes, sum.clone())),
                None => bytes,
            };
            let what = format!("layer {number} of {all}");
            archive::compressed(what, bytes, size, true).map_err(about)
        })
    }
}

/// How many layers there are in the container that a file or directory of others has.
///
/// # Errors
/// If it is none, or damaged.
pub fn count_layers(path: &Path) -> Result<usize, String> {
    Ok(Container::open(path)?.layers.len())
}

impl Source {
    fn open(path: &Path) -> Result<Source, String> {
        let text = |error: io::Error| error.to_string();
        let file = File::open(path).map_err(text)?;
        if file.metadata().map_err(text)?.is_dir() {
            return Ok(Source::Directory(file));
        }
        let file = Arc::new(file);
        let index = index(&file).map_err(|error| {
            format!(
                "it is no archive of a container (an OCI layout, or what docker save writes), or it is compressed: {error}"
            )
        })?;
        Ok(Source::Archive { file, index })
    }

    /// A file of it, and its size. Links lead to nothing outside.
    fn get(&self, name: &Path) -> io::Result<(Box<dyn Read + Send>, u64)> {
        match self {
            Source::Directory(directory) => {
                let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
                let within = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
                let file = File::from(openat2(directory, name, flags, Mode::empty(), within)?);
                let metadata = file.metadata()?;
                match metadata.is_file() {
                    true => Ok((Box::new(file), metadata.len())),
                    false => Err(io::Error::other("it is no file")),
                }
            }
            Source::Archive { file, index } => {
                let found = index.get(name).copied();
                let (at, size) = found.ok_or(io::ErrorKind::NotFound)?;
                let file = Arc::clone(file);
                Ok((
                    Box::new(Piece {
                        file,
                        at,
                        left: size,
                    }),
                    size,
                ))
            }
        }
    }

    fn json<T: DeserializeOwned>(&self, name: &str, sum: Option<&str>) -> Result<T, String> {
        let about = |why: &dyn std::fmt::Display| format!("{name}: {why}");
        let (reader, size) = self.get(Path::new(name)).map_err(|error| about(&error))?;
        if size > MAX_JSON {
            return Err(about(&"it is too long"));
        }
        let mut text = Vec::new();
        let mut reader = reader.take(MAX_JSON);
        reader
            .read_to_end(&mut text)
            .map_err(|error| about(&error))?;
        if sum.is_some_and(|sum| sum != format!("{:x}", Sha256::digest(&text))) {
            return Err(about(&WRONG_SUM));
        }
        serde_json::from_slice(&text).map_err(|error| about(&error))
    }

    fn has(&self, name: &str) -> bool {
        self.get(Path::new(name)).is_ok()
    }

    fn layers(&self) -> Result<Vec<Layer>, String> {
        if self.has("index.json") {
            let index = self.json("index.json", None)?;
            return self.layers_of_index(&index, 0);
        }
        if !self.has("manifest.json") {
            return Err(
                "it has neither index.json, as an OCI layout has, nor manifest.json, as docker save writes it".into(),
            );
        }
        let saved: Vec<Saved> = self.json("manifest.json", None)?;
        let [saved] = &saved[..] else {
            return Err(format!("it has {} images, and must have one", saved.len()));
        };
        let layers = saved.layers.iter().map(|name| {
            let layer = Layer {
                name: name.clone(),
                sum: None,
            };
            match is_plain(Path::new(name)) {
                true => Ok(layer),
                false => Err(format!("{name:?} is no name of a layer")),
            }
        });
        layers.collect()
    }

    fn layers_of_index(&self, index: &Index, depth: usize) -> Result<Vec<Layer>, String> {
        let fits = |found: &&Descriptor| {
            found
                .platform
                .as_ref()
                .is_none_or(|platform| (&*platform.os, &*platform.architecture) == MACHINE)
        };
        let fitting: Vec<&Descriptor> = index.manifests.iter().filter(fits).collect();
        let [found] = fitting[..] else {
            let (os, machine) = MACHINE;
            let count = fitting.len();
            return Err(format!(
                "it has {count} images for {os}/{machine}, and must have one"
            ));
        };
        let (name, sum) = blob(&found.digest)?;
        if found.media_type.contains("index") || found.media_type.contains("list") {
            if depth == MAX_DEPTH {
                return Err("its indexes are too deep".into());
            }
            let index = self.json(&name, Some(sum))?;
            return self.layers_of_index(&index, depth + 1);
        }
        let manifest: Manifest = self.json(&name, Some(sum))?;
        let layers = manifest.layers.iter().map(|layer| {
            let (name, sum) = blob(&layer.digest)?;
            let sum = Some(sum.to_owned());
            Ok(Layer { name, sum })
        });
        layers.collect()
    }
}

/// The file of a digest, and its sum.
fn blob(digest: &str) -> Result<(String, &str), String> {
    let sum = digest.strip_prefix("sha256:").filter(|sum| {
        sum.len() == 64 && sum.bytes().all(|byte| b"0123456789abcdef".contains(&byte))
    });
    let sum = sum.ok_or_else(|| format!("{digest:?} is no digest that is known (sha256)"))?;
    Ok((format!("blobs/sha256/{sum}"), sum))
}

fn is_plain(path: &Path) -> bool {
    path.components()
        .all(|part| matches!(part, Component::Normal(_)))
}

/// Where the files of an archive are in it.
fn index(file: &Arc<File>) -> io::Result<HashMap<PathBuf, (u64, u64)>> {
    let mut index = HashMap::new();
    let mut links = Vec::new();
    let mut archive = tar::Archive::new(&**file);
    for entry in archive.entries_with_seek()? {
        let entry = entry?;
        let plain = |path: &Path| -> PathBuf {
            let parts = path.components();
            parts.filter(|part| *part != Component::CurDir).collect()
        };
        let name = plain(&entry.path()?);
        let kind = entry.header().entry_type();
        if kind.is_file() {
            index.insert(name, (entry.raw_file_position(), entry.size()));
        } else if kind.is_symlink() || kind.is_hard_link() {
            // docker save has had a layer that occurs twice as a link to the first one.
            if let Some(to) = entry.link_name()? {
                let from = if kind.is_symlink() {
                    name.parent()
                } else {
                    None
                };
                links.push((name.clone(), joined(from.unwrap_or(Path::new("")), &to)));
            }
        }
        if index.len() + links.len() > MAX_ENTRIES {
            return Err(io::Error::other("it has too many files"));
        }
    }
    for (name, to) in links {
        if let Some(place) = index.get(&to).copied() {
            index.insert(name, place);
        }
    }
    Ok(index)
}

/// A relative path, without going up in it.
fn joined(directory: &Path, path: &Path) -> PathBuf {
    let mut all = directory.to_owned();
    for part in path.components() {
        match part {
            Component::Normal(part) => all.push(part),
            Component::ParentDir => drop(all.pop()),
            _ => {}
        }
    }
    all
}

/// A part of a file.
struct Piece {
    file: Arc<File>,
    at: u64,
    left: u64,
}

impl Read for Piece {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = usize::try_from(self.left)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        let buffer = buffer.get_mut(..length).unwrap_or_default();
        let read = self.file.read_at(buffer, self.at)?;
        if read == 0 && length > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.at += read as u64;
        self.left -= read as u64;
        Ok(read)
    }
}

const WRONG_SUM: &str = "its SHA-256 sum is not the one that its description says";

/// A reader that fails at the end if what was read is not what it should have been.
struct Checked<R> {
    reader: R,
    sum: Sha256,
    wanted: String,
}

impl<R: Read> Checked<R> {
    fn new(reader: R, wanted: String) -> Checked<R> {
        Checked {
            reader,
            sum: Sha256::new(),
            wanted,
        }
    }
}

impl<R: Read> Read for Checked<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.reader.read(buffer)?;
        self.sum.update(buffer.get(..read).unwrap_or_default());
        if read == 0
            && !buffer.is_empty()
            && format!("{:x}", self.sum.finalize_reset()) != self.wanted
        {
            return Err(io::Error::other(WRONG_SUM));
        }
        Ok(read)
    }
}

#[cfg(test)]
mod tests;
