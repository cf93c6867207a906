//! `umladmin image`: the images from which VMs are made, in the directory `images` of the shared directory (umladmin).
//!
//! Whatever an image is built from, it becomes a tree of files first, in processes that are nobody on the host
//! (`apart`), and then a file system (`file_system`), which appears under its name when it is complete (`store`).

pub(crate) mod apart;
mod archive;
mod builder;
mod busybox;
mod debian;
mod file_system;
mod files;
mod list;
mod manifest;
pub(crate) mod oci;
mod store;
mod transfer;
pub(crate) mod unpack;

use std::path::Path;

use cli::{Exit, Failure, Line, similar};
use config::Global;

use builder::Builder;
use file_system::Shape;
use manifest::Kernel;
use monitors::choice;
use store::Store;

use crate::report::Report;

/// The image that needs no network.
const BUSYBOX: &str = "busybox";
/// The one that is used like a host.
const DEBIAN: &str = "debian";

/// The disk of an image whose guest is to have room. What is not used takes no space.
const LARGE: Shape = Shape {
    size: 2 << 30,
    journal: true,
};

/// What can be done with images: the word, its operands, how many there are, and the function.
struct Verb {
    word: &'static str,
    operands: &'static str,
    count: std::ops::RangeInclusive<usize>,
    run: fn(&Store, &[&str], &Line) -> Result<Exit, Failure>,
}

const VERBS: &[Verb] = &[
    Verb {
        word: "build",
        operands: "busybox|debian[:RELEASE] [NAME]",
        count: 1..=2,
        run: |store, operands, _| build(store, operands),
    },
    Verb {
        word: "from-tar",
        operands: "NAME FILE",
        count: 2..=2,
        run: |store, operands, _| with_two(store, operands, from_tar),
    },
    Verb {
        word: "from-oci",
        operands: "NAME FILE",
        count: 2..=2,
        run: |store, operands, _| with_two(store, operands, from_oci),
    },
    Verb {
        word: "import",
        operands: "FILE [NAME]",
        count: 1..=2,
        run: |store, operands, _| import(store, operands),
    },
    Verb {
        word: "export",
        operands: "NAME FILE",
        count: 2..=2,
        run: |store, operands, _| with_two(store, operands, export),
    },
    Verb {
        word: "list",
        operands: "",
        count: 0..=0,
        run: |store, _, line| list::run(store, line.has("json")),
    },
    Verb {
        word: "delete",
        operands: "NAME...",
        count: 1..=usize::MAX,
        run: |store, names, _| delete(store, names),
    },
];

/// Carries out what the operands say. The file of the configuration may be missing if it is the usual one.
pub(crate) fn run(config: &Path, line: &Line, operands: &[&str]) -> Result<Exit, Failure> {
    let words = || VERBS.iter().map(|verb| verb.word);
    let Some((word, operands)) = operands.split_first() else {
        let words: Vec<&str> = words().collect();
        return Err(Failure::usage(format_args!(
            "image needs one of {}",
            words.join(", ")
        )));
    };
    let Some(verb) = VERBS.iter().find(|verb| verb.word == *word) else {
        let hint = similar(word, words())
            .map_or(String::new(), |known| format!("; did you mean {known}?"));
        return Err(Failure::usage(format_args!(
            "image knows no '{word}'{hint}"
        )));
    };
    if !verb.count.contains(&operands.len()) {
        return Err(Failure::usage(format_args!(
            "it is used as: image {word} {}",
            verb.operands
        )));
    }
    if line.has("json") && *word != "list" {
        return Err(Failure::usage("-json can be used with image list only"));
    }
    let config = crate::run::read(config, line.config.is_some())?;
    (verb.run)(&Store::of(&config.global), operands, line)
}

fn build(store: &Store, operands: &[&str]) -> Result<Exit, Failure> {
    let (what, name) = match operands {
        [what, name] => (*what, Some(*name)),
        [what] => (*what, None),
        _ => ("", None),
    };
    let (system, release) = what.split_once(':').unwrap_or((what, debian::RELEASE));
    match system {
        BUSYBOX if !what.contains(':') => build_busybox(store, name.unwrap_or(BUSYBOX)),
        DEBIAN if debian::is_release(release) => {
            let usual = format!("{DEBIAN}-{release}");
            build_debian(store, release, name.unwrap_or(&usual))
        }
        _ => Err(Failure::usage(format_args!(
            "image build knows no '{what}': it builds busybox and debian[:RELEASE], such as debian:bookworm"
        ))),
    }
}

fn build_debian(store: &Store, release: &str, name: &str) -> Result<Exit, Failure> {
    let failed = |why: String| Failure::new(Exit::Failed, why);
    let helper = choice::helper().map_err(failed)?;
    let archive = debian::archive(&helper).map_err(failed)?;
    let builder = Builder::begin(store, name)?;
    let kernel = Kernel {
        memory: 128,
        ..Kernel::default()
    };
    let done = debian::install(&builder, release)
        .and_then(|()| builder.add("the files of a guest", archive))
        .and_then(|()| builder.publish(&format!("{DEBIAN}:{release}"), LARGE, kernel));
    builder.finish(done)
}

fn from_tar(store: &Store, name: &str, path: &Path) -> Result<Exit, Failure> {
    let part = archive::part(path).map_err(|why| Failure::new(Exit::Failed, why))?;
    let builder = Builder::begin(store, name)?;
    let source = format!("tar {}", path.display());
    let done = builder
        .unpack(part)
        .and_then(|()| builder.publish(&source, LARGE, Kernel::default()));
    builder.finish(done)
}

fn from_oci(store: &Store, name: &str, path: &Path) -> Result<Exit, Failure> {
    let container = oci::Container::open(path).map_err(|why| Failure::new(Exit::Failed, why))?;
    let builder = Builder::begin(store, name)?;
    let source = format!("oci {}", path.display());
    let mut layers = container.parts();
    let done = layers
        .try_for_each(|layer| builder.unpack(layer?))
        .and_then(|()| builder.publish(&source, LARGE, Kernel::default()));
    builder.finish(done)
}

fn import(store: &Store, operands: &[&str]) -> Result<Exit, Failure> {
    let (path, name) = match operands {
        [path, name] => (Path::new(path), (*name).to_owned()),
        [path] => {
            let path = Path::new(path);
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            (path, name.into_owned())
        }
        _ => return Err(Failure::usage("no file is given")),
    };
    let builder = Builder::begin(store, &name)?;
    let done = transfer::import(&builder, path);
    builder.finish(done)
}

fn export(store: &Store, name: &str, path: &Path) -> Result<Exit, Failure> {
    store::check_name(name).map_err(|why| Failure::new(Exit::Failed, why))?;
    builder::result(name, transfer::export(store, name, path)).map(|()| Exit::Done)
}

/// Calls a function with a name and a file.
fn with_two(
    store: &Store,
    operands: &[&str],
    run: fn(&Store, &str, &Path) -> Result<Exit, Failure>,
) -> Result<Exit, Failure> {
    match operands {
        [name, file] => run(store, name, Path::new(file)),
        _ => Err(Failure::usage("a name and a file are needed")),
    }
}

fn build_busybox(store: &Store, name: &str) -> Result<Exit, Failure> {
    let failed = |why: String| Failure::new(Exit::Failed, why);
    let helper = choice::helper().map_err(failed)?;
    let archive = busybox::archive(&helper).map_err(failed)?;
    let builder = Builder::begin(store, name)?;
    let shape = Shape {
        size: 64 << 20,
        journal: false,
    };
    let kernel = Kernel {
        memory: 64,
        ..Kernel::default()
    };
    let done = builder
        .add("busybox", archive)
        .and_then(|()| builder.publish(BUSYBOX, shape, kernel));
    builder.finish(done)
}

/// No VM is harmed: those that were created from an image have it by another name, and go on with that.
fn delete(store: &Store, names: &[&str]) -> Result<Exit, Failure> {
    let report = Report::new();
    for name in names {
        let deleted = store.delete(name);
        let kept = deleted.map_err(|why| Failure::new(Exit::Failed, why))?;
        if let Some(kept) = kept {
            let vms: Vec<_> = kept.vms.iter().map(String::as_str).collect();
            let users = match vms.is_empty() {
                true => "remove that if no VM uses it".to_owned(),
                false => format!("disks of {} are based on it", vms.join(", ")),
            };
            let path = kept.path.display();
            report.line(name, &format!("deleted, but stays as {path}: {users}"));
        }
    }
    Ok(Exit::Done)
}

/// The file of the image from which machines are made if nobody says which. It is built if it is not there.
pub(crate) fn usual(global: &Global) -> Result<std::path::PathBuf, Failure> {
    let store = Store::of(global);
    let path = store.path(BUSYBOX);
    if !path.exists() {
        build_busybox(&store, BUSYBOX)?;
    }
    Ok(path)
}
