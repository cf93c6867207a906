//! `cargo xtask install [--destdir DIR] [--prefix PREFIX]`: the programs and everything that belongs to them, where a
//! host expects them. `cargo xtask dist` makes its package from exactly this.
//!
//! What is installed is built apart from everything else, in `TARGET/dist`, with no path of this machine in it.

use std::fs::{self, DirBuilder, Permissions};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail, ensure};
use xtask::completions;

use crate::programs::{self, HELPER, KEEPER, PROGRAMS, SHIM};
use crate::steps::{self, heading, output, repository, target_dir};

/// The configuration of an administrator, which is never replaced by a sample.
const CONFIGURATION: &str = "etc/umlmon";
const DEFAULTS: &str = "etc/default/umlmon";

/// Files of the repository under the prefix, as they are.
const SHARED: [(&str, &str); 30] = [
    ("etc/systemd/umldir.service", "lib/systemd/system"),
    ("etc/systemd/umlweb.service", "lib/systemd/system"),
    ("etc/systemd/umlmon.service", "lib/systemd/system"),
    ("etc/systemd/umlmon@.service", "lib/systemd/system"),
    ("etc/systemd/umlmon.target", "lib/systemd/system"),
    ("etc/guest/umlguest.service", "lib/umlmon"),
    ("etc/tmpfiles.d/umlmon.conf", "lib/tmpfiles.d"),
    ("etc/sysusers.d/umlmon.conf", "lib/sysusers.d"),
    ("etc/sysusers.d/umlweb.conf", "lib/sysusers.d"),
    ("README.md", "share/doc/umlmon"),
    ("docs/SECURITY.md", "share/doc/umlmon"),
    ("etc/umlmon", "share/doc/umlmon/examples"),
    ("etc/services", "share/doc/umlmon/examples"),
    ("proto/umlmonctrl.x", "share/doc/umlmon/examples"),
    ("proto/umldir.x", "share/doc/umlmon/examples"),
    ("contrib/README.md", "share/doc/umlmon/examples"),
    (
        "contrib/autopkgtest/README.md",
        "share/doc/umlmon/examples/autopkgtest",
    ),
    (
        "contrib/autopkgtest/autopkgtest-virt-umlmon",
        "share/doc/umlmon/examples/autopkgtest",
    ),
    (
        "contrib/fakemachine/README.md",
        "share/doc/umlmon/examples/fakemachine",
    ),
    (
        "contrib/fakemachine/fakemachine-umlmon",
        "share/doc/umlmon/examples/fakemachine",
    ),
    ("contrib/ci/README.md", "share/doc/umlmon/examples/ci"),
    ("contrib/ci/github.yml", "share/doc/umlmon/examples/ci"),
    ("contrib/ci/gitlab.yml", "share/doc/umlmon/examples/ci"),
    ("contrib/ci/same-in-qemu", "share/doc/umlmon/examples/ci"),
    ("docs/FLEET.md", "share/doc/umlmon"),
    (
        "contrib/containerd/README.md",
        "share/doc/umlmon/examples/containerd",
    ),
    (
        "contrib/containerd/config.toml",
        "share/doc/umlmon/examples/containerd",
    ),
    (
        "contrib/containerd/daemon.json",
        "share/doc/umlmon/examples/containerd",
    ),
    (
        "contrib/containerd/runtimeclass.yaml",
        "share/doc/umlmon/examples/containerd",
    ),
    (
        "contrib/containerd/deployment.yaml",
        "share/doc/umlmon/examples/containerd",
    ),
];

/// What is installed together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// All but the next.
    Suite,
    /// The web interface, which not every host wants.
    Web,
    /// What containerd executes, which not every host wants either.
    Containerd,
}

impl Part {
    /// Each of them.
    pub(crate) const ALL: [Part; 3] = [Part::Suite, Part::Web, Part::Containerd];

    /// To which part a file belongs. Those of a program have its name; zsh puts a `_` before it.
    fn of(path: &Path) -> Part {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let is_of = |program: &str| name.trim_start_matches('_').starts_with(program);
        let is_sample = path
            .parent()
            .is_some_and(|parent| parent.ends_with("containerd"));
        if is_of("umlweb") {
            Part::Web
        } else if is_of(SHIM) || is_sample {
            Part::Containerd
        } else {
            Part::Suite
        }
    }
}

/// A file to install.
struct Entry {
    /// Relative to the destination.
    to: PathBuf,
    mode: u32,
    content: Vec<u8>,
}

pub(crate) fn run(words: &[&str]) -> anyhow::Result<()> {
    let (mut destination, mut prefix) = (PathBuf::from("/"), "/usr/local");
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let value = words
            .next()
            .with_context(|| format!("{word}: a directory is missing"))?;
        match *word {
            "--destdir" => destination = std::path::absolute(value)?,
            "--prefix" => prefix = value,
            _ => bail!("install knows no {word:?}: --destdir DIR, --prefix PREFIX"),
        }
    }
    let programs = build(&repository(), &target_dir().join("dist"))?;
    heading(&format!("Installing in {}", destination.display()));
    for path in place(&programs, &destination, prefix, &Part::ALL)? {
        println!("{}", path.display());
    }
    Ok(())
}

/// Builds the programs of the sources in `source`; returns the directory that has them. The same sources yield the same
/// bytes, wherever they lie.
pub(crate) fn build(source: &Path, target: &Path) -> anyhow::Result<PathBuf> {
    let home = |variable: &str, usual: &str| {
        let given = std::env::var_os(variable).map(PathBuf::from);
        given.or_else(|| std::env::home_dir().map(|home| home.join(usual)))
    };
    let sysroot = output(Command::new("rustc").args(["--print", "sysroot"]))?;
    // The later one counts where two fit.
    let mut remapped = vec![(PathBuf::from(sysroot.trim()), "rust")];
    remapped.extend(home("CARGO_HOME", ".cargo").map(|cargo| (cargo, "cargo")));
    remapped.push((source.to_owned(), "umlmon"));
    let flags = remapped
        .iter()
        .map(|(path, name)| format!("--remap-path-prefix={}={name}", path.display()));
    // Separated by what is in no path.
    let flags = flags.collect::<Vec<_>>().join("\u{1f}");
    let mut build = steps::cargo(&["build", "--release", "--locked", "--target-dir"]);
    build.arg(target).current_dir(source);
    build.args(programs::packages());
    // The configuration of cargo is that of the sources.
    build
        .env("CARGO_ENCODED_RUSTFLAGS", &flags)
        .env_remove("RUSTFLAGS");
    steps::run(&mut build)?;
    let programs = target.join("release");
    programs::add_static(source, target, &flags, &programs)?;
    Ok(programs)
}

/// Puts everything of these parts in place; returns what was written, as the host will call it. A configuration that is
/// there stays.
pub(crate) fn place(
    programs: &Path,
    destination: &Path,
    prefix: &str,
    parts: &[Part],
) -> anyhow::Result<Vec<PathBuf>> {
    let mut written = Vec::new();
    for entry in entries(programs, prefix)? {
        if !parts.contains(&Part::of(&entry.to)) {
            continue;
        }
        let path = destination.join(&entry.to);
        if [CONFIGURATION, DEFAULTS]
            .iter()
            .any(|kept| entry.to == Path::new(kept))
            && path.exists()
        {
            continue;
        }
        let directory = path.parent().context("a file lies nowhere")?;
        make_directory(directory)?;
        replace(&path, &entry).with_context(|| format!("cannot write {}", path.display()))?;
        written.push(Path::new("/").join(&entry.to));
    }
    Ok(written)
}

/// Makes a directory and those above it, with the same mode for every caller.
pub(crate) fn make_directory(path: &Path) -> anyhow::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(above) = path.parent() {
        make_directory(above)?;
    }
    let made = DirBuilder::new().mode(0o755).create(path);
    made.and_then(|()| fs::set_permissions(path, Permissions::from_mode(0o755)))
        .with_context(|| format!("cannot make {}", path.display()))
}

/// In one step, as the old program may be running.
fn replace(path: &Path, entry: &Entry) -> std::io::Result<()> {
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    fs::write(&new, &entry.content)?;
    fs::set_permissions(&new, Permissions::from_mode(entry.mode))?;
    fs::rename(new, path)
}

fn entries(programs: &Path, prefix: &str) -> anyhow::Result<Vec<Entry>> {
    let prefix = Path::new(prefix.trim_start_matches('/'));
    let mut entries = vec![
        from_file("etc/init.d/umlmon".into(), 0o755, "init.d/umlmon")?,
        from_file("etc/init.d/umlweb".into(), 0o755, "init.d/umlweb")?,
        from_file(
            "etc/logrotate.d/umlmon".into(),
            0o644,
            "etc/logrotate.d/umlmon",
        )?,
        from_file(DEFAULTS.into(), 0o644, DEFAULTS)?,
        Entry {
            to: CONFIGURATION.into(),
            mode: 0o644,
            content: without_vms(&fs::read_to_string(repository().join("etc/umlmon"))?).into(),
        },
    ];
    for (from, directory) in SHARED {
        let name = Path::new(from).file_name().unwrap_or_default();
        let mut entry = from_file(prefix.join(directory).join(name), 0o644, from)?;
        if entry.content.starts_with(b"#!") {
            entry.mode = 0o755;
        }
        entries.push(entry);
    }
    for (program, directory) in PROGRAMS {
        let path = programs.join(program);
        let content = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let to = prefix.join(directory).join(program);
        entries.push(Entry {
            to,
            mode: 0o755,
            content,
        });
        // Nobody types the name of the shim.
        if program != SHIM {
            entries.extend(completions_of(program, prefix)?);
        }
    }
    for program in [KEEPER, HELPER] {
        let path = programs.join(program);
        entries.push(Entry {
            to: prefix.join("lib/umlmon").join(program),
            mode: 0o755,
            content: fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?,
        });
    }
    let mut pages: Vec<_> = fs::read_dir(repository().join("man"))?.collect::<Result<_, _>>()?;
    pages.sort_by_key(fs::DirEntry::file_name);
    for page in pages {
        entries.push(manual_page(&page.path(), prefix)?);
    }
    Ok(entries)
}

fn from_file(to: PathBuf, mode: u32, from: &str) -> anyhow::Result<Entry> {
    let content =
        fs::read(repository().join(from)).with_context(|| format!("cannot read {from}"))?;
    Ok(Entry { to, mode, content })
}

/// The scripts for the three shells, where each of them looks.
fn completions_of(name: &str, prefix: &Path) -> anyhow::Result<[Entry; 3]> {
    let mut programs = completions::PROGRAMS.iter();
    let program = programs.find(|program| program.name == name);
    let program = program.with_context(|| format!("no table of words of {name}"))?;
    // Debian's zsh looks for those of packages elsewhere than for those of the host.
    let zsh = if prefix == Path::new("usr") {
        "vendor-completions"
    } else {
        "site-functions"
    };
    let entry = |to: String, content: String| Entry {
        to: prefix.join("share").join(to),
        mode: 0o644,
        content: content.into(),
    };
    Ok([
        entry(
            format!("bash-completion/completions/{name}"),
            completions::bash(program),
        ),
        entry(format!("zsh/{zsh}/_{name}"), completions::zsh(program)),
        entry(
            format!("fish/vendor_completions.d/{name}.fish"),
            completions::fish(program),
        ),
    ])
}

/// A page, compressed without a date.
fn manual_page(page: &Path, prefix: &Path) -> anyhow::Result<Entry> {
    let name = page.file_name().unwrap_or_default().to_string_lossy();
    let section = page.extension().unwrap_or_default().to_string_lossy();
    let to = prefix.join(format!("share/man/man{section}/{name}.gz"));
    let mut gzip = Command::new("gzip");
    gzip.args(["-9", "-n", "-c"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    let mut gzip = gzip.spawn().context("cannot run gzip")?;
    let text = fs::read(page).with_context(|| format!("cannot read {}", page.display()))?;
    let mut stdin = gzip.stdin.take().context("gzip has no input")?;
    // It reads all before it writes more than a pipe holds.
    stdin.write_all(&text).context("cannot write to gzip")?;
    drop(stdin);
    let done = gzip.wait_with_output().context("cannot wait for gzip")?;
    ensure!(done.status.success(), "gzip: {}", done.status);
    Ok(Entry {
        to,
        mode: 0o644,
        content: done.stdout,
    })
}

/// The sample configuration with its VM as a comment: an installation must not start a VM by itself.
fn without_vms(sample: &str) -> String {
    let mut of_a_vm = false;
    let mut text = String::new();
    for line in sample.lines() {
        of_a_vm |= line.starts_with('[') && line != "[GLOBAL]";
        if of_a_vm && !line.is_empty() && !line.starts_with('#') {
            text.push('#');
        }
        text.push_str(line);
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_that_is_installed_has_no_vm() {
        let sample = fs::read_to_string(repository().join("etc/umlmon")).unwrap();
        let text = without_vms(&sample);
        let counts: Vec<_> = text
            .lines()
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
            .collect();
        assert_eq!(counts, ["[GLOBAL]"]);
        assert!(
            text.contains("\n#[vm1]\n") && text.contains("\n#mem = 64\n"),
            "{text}"
        );
        assert_eq!(text.lines().count(), sample.lines().count());
    }

    /// Programs of which only the help counts.
    fn stand_ins(directory: &Path) {
        let help = "Usage: it VM\n  -config FILE            a\n  -version                b\n  -help                   c\n";
        let programs = PROGRAMS.iter().map(|(program, _)| *program);
        for program in programs.chain([KEEPER, HELPER]) {
            let path = directory.join(program);
            fs::write(&path, format!("#!/bin/sh\nprintf '%s' '{help}'\n")).unwrap();
            fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
        }
    }

    #[test]
    fn a_configuration_that_is_there_stays() {
        let directory = tempfile::tempdir().unwrap();
        stand_ins(directory.path());
        let root = directory.path().join("root");
        let first = place(directory.path(), &root, "/usr/local", &Part::ALL).unwrap();
        assert!(
            first.contains(&"/etc/umlmon".into())
                && first.contains(&"/usr/local/bin/umlwatch".into())
        );
        assert!(first.contains(&"/usr/local/share/man/man7/umlmon.7.gz".into()));
        fs::write(root.join(CONFIGURATION), "[GLOBAL]\n").unwrap();
        let second = place(directory.path(), &root, "/usr/local", &Part::ALL).unwrap();
        assert_eq!(second.len(), first.len() - 2);
        assert_eq!(
            fs::read_to_string(root.join(CONFIGURATION)).unwrap(),
            "[GLOBAL]\n"
        );
        let mode =
            |name: &str| fs::metadata(root.join(name)).unwrap().permissions().mode() & 0o7777;
        assert_eq!(
            (mode("etc/init.d/umlmon"), mode("etc/umlmon"), mode("etc")),
            (0o755, 0o644, 0o755)
        );
    }

    #[test]
    fn the_web_interface_is_a_part_of_its_own() {
        let directory = tempfile::tempdir().unwrap();
        stand_ins(directory.path());
        let root = directory.path().join("root");
        let part = |part| place(directory.path(), &root, "/usr", &[part]).unwrap();
        let web = part(Part::Web);
        for path in [
            "/usr/sbin/umlweb",
            "/etc/init.d/umlweb",
            "/usr/lib/systemd/system/umlweb.service",
            "/usr/lib/sysusers.d/umlweb.conf",
            "/usr/share/man/man8/umlweb.8.gz",
            "/usr/share/zsh/vendor-completions/_umlweb",
        ] {
            assert!(web.contains(&path.into()), "{path}: {web:?}");
        }
        let suite = part(Part::Suite);
        let names = |part: &[PathBuf]| part.iter().any(|path| path.ends_with("umlweb"));
        assert!(names(&web) && !names(&suite));
        assert!(web.iter().all(|path| !suite.contains(path)));
        let containerd = part(Part::Containerd);
        assert!(containerd.iter().all(|path| !suite.contains(path)));
    }

    #[test]
    fn what_containerd_needs_is_a_part_of_its_own() {
        let directory = tempfile::tempdir().unwrap();
        stand_ins(directory.path());
        let root = directory.path().join("root");
        let part = place(directory.path(), &root, "/usr", &[Part::Containerd]).unwrap();
        for path in [
            "/usr/sbin/containerd-shim-uml-v2",
            "/usr/share/doc/umlmon/examples/containerd/config.toml",
            "/usr/share/man/man8/containerd-shim-uml-v2.8.gz",
        ] {
            assert!(part.contains(&path.into()), "{path}: {part:?}");
        }
        assert_eq!(part.len(), 7, "{part:?}");
    }

    #[test]
    fn everything_that_a_host_needs_is_installed() {
        // What lies there and is forgotten here would be missed on some host.
        let known = |path: &Path| {
            let path = path
                .strip_prefix(repository())
                .unwrap()
                .to_str()
                .unwrap()
                .to_owned();
            SHARED.iter().any(|(from, _)| *from == path)
                || path == "etc/logrotate.d/umlmon"
                || path == DEFAULTS
                // What a kernel is built of.
                || path.starts_with("etc/kernel/")
        };
        let mut directories = ["etc", "contrib"].map(|it| repository().join(it)).to_vec();
        while let Some(directory) = directories.pop() {
            for entry in fs::read_dir(directory).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    directories.push(path);
                } else {
                    assert!(known(&path), "{} is not installed", path.display());
                }
            }
        }
    }
}
