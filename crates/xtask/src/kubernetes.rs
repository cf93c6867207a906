//! `cargo xtask kubernetes DIR`: a Kubernetes of three nodes on this host, whose pods are VMs. DIR has its programs,
//! which are built from the source package of Debian in a quarter of an hour, see docs/TESTING.md.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, ensure};
use xtask::busybox;

use crate::apt::Apt;
use crate::programs;
use crate::setup;
use crate::steps::{self, heading, repository, target_dir};

/// What is built.
const PROGRAMS: [&str; 5] = [
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kubelet",
    "kube-proxy",
];

/// The release with these packages, which need not be installed.
const SUITE: &str = "bookworm";
const UNPACKED: [&str; 2] = ["etcd-server", "kubernetes-client"];

const PACKAGES: [&str; 6] = [
    "busybox-static",
    "bsdutils",
    "containerd",
    "containernetworking-plugins",
    "iptables",
    "user-mode-linux",
];

pub(crate) fn run(built: &Path) -> anyhow::Result<()> {
    let why = "it makes network namespaces, and its pods are VMs";
    setup::require_root("kubernetes DIR", why)?;
    for name in PROGRAMS {
        let there = built.join(name).is_file();
        ensure!(there, "{} has no {name}", built.display());
    }
    heading("What it needs");
    setup::install(&PACKAGES)?;
    let unpacked = target_dir().join("kubernetes");
    if !unpacked.exists() {
        let part = unpacked.with_extension("part");
        let apt = Apt::new(part.join("apt"), &[SUITE])?;
        for package in UNPACKED {
            apt.unpack(package, SUITE, &part.join("tree"))?;
        }
        fs::rename(part.join("tree"), &unpacked).context("cannot rename a directory")?;
    }
    programs::build_release()?;
    let directory = tempfile::tempdir().context("cannot make a directory")?;
    let binaries = directory.path().join("bin");
    fs::create_dir(&binaries)?;
    let built = built.canonicalize()?;
    let ours = PROGRAMS.map(|name| built.join(name));
    let theirs = ["etcd", "kubectl"].map(|name| unpacked.join("usr/bin").join(name));
    for program in ours.iter().chain(&theirs) {
        let name = program.file_name().context("no name")?;
        symlink(program, binaries.join(name))?;
    }
    let prefix = directory.path().join("prefix");
    programs::copy_released(&prefix)?;
    let image = busybox::archive(&directory.path().join("image"))?;
    heading("The cluster");
    let mut cluster = Command::new(repository().join("tests/kubernetes/cluster"));
    steps::run(cluster.arg(binaries).arg(prefix).arg(image))
}
