//! `umladmin create`: a section, a directory and disks for a new VM, or nothing (umladmin).
//!
//! Its monitor, which runs from then on, makes the directories and the disks, as it does for every VM.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cli::{Exit, Failure, Line};
use client::Client;
use config::{Config, Forward, Global, Nic, Protocol, VmName};
use guest_line::Seed;
use jail::Program;
use monitors::{
    cannot, choice, disk_work, furnish, look,
    start::{self, Group},
};
use rpc_xdr::umlmonctrl::{DiskBacking, DiskPair, DiskSize, DiskTask};

use crate::delete::must_be_root;
use crate::furnish::Backing;
use crate::report::Report;
use crate::rewrite::Rewrite;
use crate::selection::bad_config;
use crate::undo::{Directory, Interruption, Section};
use crate::{account, image, rename, seed};

/// What the VM has if nothing else is asked for.
const MEMORY: &str = "512";
/// The value of `vmuser` that gives a VM a user of its own.
const AUTO: &str = "auto";
/// Where a kernel of its own is, in the jail.
const OWN_KERNEL: &str = "kernel";
/// Its disk.
const COW: &str = "/disks/root.cow";
const DISK: &str = "/disks/root.dsk";
/// The port of the guest's ssh.
const SSH: u16 = 22;
/// How long the monitor may take for an answer.
const ANSWER: Duration = Duration::from_secs(60);

/// What is to be made.
struct Plan {
    vm: VmName,
    kernel: PathBuf,
    image: Option<PathBuf>,
    /// The size of the disk in megabytes, if it is to have one of its own.
    disk: Option<u64>,
    /// What the guest is told.
    seed: Seed,
    rewrite: Rewrite,
}

pub(crate) fn run(path: &Path, line: &Line, names: &[&str]) -> Result<Exit, Failure> {
    let &[name] = names else {
        return Err(Failure::usage("create needs the name of one VM"));
    };
    let vm = VmName::try_from(name).map_err(Failure::usage)?;
    let is_dry_run = line.has("dry-run");
    if !is_dry_run {
        must_be_root()?;
    }
    let report = Report::new();
    let plan = plan(path, line, vm)?;
    if is_dry_run {
        plan.rewrite.finish(&report)?;
        return Ok(Exit::Done);
    }
    let vm = plan.vm.clone();
    let made = carry_out(plan, &report);
    let config = made.map_err(|failure| failure.about(format_args!("{vm} is not created")))?;
    report.line(vm.as_str(), "created");
    let umlwatch = match path == Path::new(Config::DEFAULT_PATH) {
        true => "umlwatch".to_owned(),
        false => format!("umlwatch -config {}", path.display()),
    };
    if line.has("start") {
        let mut client = Client::at(&vm, config.global.ctrl(&vm)).with_limit(ANSWER);
        client.start(&[])?;
        report.line(vm.as_str(), "booting");
    } else {
        report.print(&format!("{umlwatch} {vm} -start         boots it\n"))?;
    }
    for how in ways_in(line) {
        report.print(&format!("{umlwatch} {vm} {how}\n"))?;
    }
    Ok(Exit::Done)
}

/// What can follow `umlwatch VM` to get in. Root of a guest of Debian can log in with what it was given only.
fn ways_in(line: &Line) -> Vec<&'static str> {
    let networks = line.words.iter().filter(|given| given.name == "net");
    let networks = networks.filter_map(|given| given.text().ok()?.parse::<Nic>().ok());
    let mut forwards = networks.flat_map(|nic| nic.forwards().to_vec());
    let to_ssh = |it: Forward| it.protocol == Protocol::Tcp && it.guest == SSH;
    let mut ways = Vec::new();
    if line.has("ssh-key") && forwards.any(to_ssh) {
        ways.push("-ssh root      to log in by ssh");
    }
    if line.has("password") || !line.has("ssh-key") {
        ways.push("-connect con1  to log in; CTRL-] leaves");
    }
    if ways.is_empty() || !line.has("password") {
        ways.push("-exec sh       a shell of root, by the helper in the guest");
    }
    ways
}

fn plan(path: &Path, line: &Line, vm: VmName) -> Result<Plan, Failure> {
    let failed = |why: String| Failure::new(Exit::Failed, why);
    // Before others have to wait for the end of the change.
    let seed = seed::from(line, &vm)?;
    let mut rewrite = Rewrite::begin(path, line.has("dry-run"))?;
    let config = rewrite.check()?;
    let global = &config.global;
    rename::must_be_free(&config, &vm)?;
    let disk = line.value("disk").map(megabytes).transpose()?;
    let image = match line.value("image") {
        Some(image) => Some(choice::image(global, Path::new(image)).map_err(failed)?),
        None if disk.is_some() || line.has("dry-run") => None,
        None => Some(image::usual(global)?),
    };
    let kernel = kernel(global, line.value("kernel").map(Path::new)).map_err(failed)?;
    let section = section(line, &config, &kernel, disk.is_some())?;
    let values: Vec<(&str, &str)> = section.iter().map(|(p, v)| (*p, v.as_str())).collect();
    let added = rewrite.document.add(vm.as_str(), &values);
    added.map_err(bad_config)?;
    rewrite.check()?;
    Ok(Plan {
        image,
        vm,
        kernel,
        disk,
        seed,
        rewrite,
    })
}

/// The size that `-disk` gives.
fn megabytes(text: &OsStr) -> Result<u64, Failure> {
    let size = config::megabytes(&text.to_string_lossy());
    let size = size.map_err(|error| Failure::usage(format_args!("-disk: {error}")))?;
    match size {
        0 => Err(Failure::usage("-disk: it must not be 0")),
        size => Ok(size),
    }
}

/// A kernel of this installation, or one that is to be copied into the jail.
fn kernel(global: &Global, wanted: Option<&Path>) -> Result<PathBuf, String> {
    let kernels = global.shared.join("kernels");
    let found = choice::kernel(global, wanted);
    let usual = kernels.join(furnish::KERNEL);
    match found {
        Ok(found) if found.starts_with(&kernels) || wanted.is_some() => Ok(found),
        _ if wanted.is_none() && usual.is_file() => Ok(usual),
        found => found,
    }
}

/// What the section says: what was asked for, and what a VM must have.
fn section(
    line: &Line,
    config: &Config,
    kernel: &Path,
    has_disk: bool,
) -> Result<Vec<(&'static str, String)>, Failure> {
    let text = |name| {
        let given = line.words.iter().find(|given| given.name == name);
        given.map(|given| given.text()).transpose()
    };
    let user = text("user")?.unwrap_or(AUTO).to_owned();
    let kernel = match kernel.strip_prefix(&config.global.shared) {
        Ok(below) => format!("/shared/{}", below.display()),
        Err(_) => format!("/{OWN_KERNEL}/{}", furnish::KERNEL),
    };
    let mut section = vec![
        ("vmuser", user),
        ("logfile", "monitor".to_owned()),
        ("kernel", kernel),
        ("mem", text("mem")?.unwrap_or(MEMORY).to_owned()),
    ];
    if let Some(cpus) = text("cpus")? {
        section.push(("cpus", cpus.to_owned()));
    }
    section.extend([
        ("con0", "pty:con0".to_owned()),
        ("con1", "pty".to_owned()),
        ("ubd0", if has_disk { DISK } else { COW }.to_owned()),
        (seed::DISK.0, seed::DISK.1.to_owned()),
    ]);
    let networks = line.words.iter().filter(|given| given.name == "net");
    for (param, given) in NETWORKS.iter().zip(networks) {
        // A form without anything in it can be given as a word.
        let network = match given.text()? {
            word if word.contains('(') => word.to_owned(),
            word => format!("{word}()"),
        };
        section.push((param, network));
    }
    Ok(section)
}

/// The interfaces that `-net` gives, in this order.
const NETWORKS: [&str; 4] = ["eth0", "eth1", "eth2", "eth3"];

/// Makes everything. If something fails, or a signal comes, nothing is left.
fn carry_out(plan: Plan, report: &Report) -> Result<Config, Failure> {
    let failed = |why: String| Failure::new(Exit::Failed, why);
    let Plan {
        vm,
        kernel,
        image,
        disk,
        seed,
        rewrite,
    } = plan;
    let interruption = Interruption::watch()?;
    let (section, config) = Section::write(rewrite, &vm, report)?;
    let directory = Directory::begin(&config, &vm, report);
    let started = start::start_monitor(&start::monitor_program(), &config.path, &vm, Group::Own);
    started.map_err(failed)?;
    let shared = &config.global.shared;
    if !kernel.starts_with(shared) {
        let to = config.global.vm_dir(&vm).join("jail").join(OWN_KERNEL);
        put_kernel(&kernel, &to).map_err(failed)?;
    }
    let disks = shared.join("disks");
    let backing = image.map(|image| {
        let put = Backing::put(&image, &disks, &|| interruption.is_none());
        put.map_err(|error| failed(cannot("use the image", &image, &error)))
    });
    let backing = backing.transpose()?;
    let mut client = Client::at(&vm, config.global.ctrl(&vm)).with_limit(ANSWER);
    for task in tasks(backing.as_ref().map(Backing::disk), disk) {
        disk_work::perform(&mut client, &task, &mut |_| interruption.check())?;
    }
    let made = config.vm(&vm).map_err(bad_config)?;
    let account = account::of(&config.global, &made)?;
    let disks = seed::open_disks(&made.jaildir).map_err(failed)?;
    seed::put(&seed, &disks, &account).map_err(failed)?;
    interruption.check().map_err(failed)?;
    if let Some(backing) = backing {
        backing.keep();
    }
    directory.keep();
    section.keep();
    Ok(config)
}

fn put_kernel(kernel: &Path, directory: &Path) -> Result<(), String> {
    let program = Program::on_host(kernel).map_err(|error| error.to_string())?;
    let libraries = look::own_libraries(&program)?;
    std::fs::create_dir(directory).map_err(|error| cannot("make", directory, &error))?;
    furnish::put_kernel(&program, &libraries, directory)
}

/// The work that makes the disk: a copy on write of the image, or one of its own, as a copy on write always has the
/// size of its backing file (the kernel refuses others).
fn tasks(backing: Option<String>, size: Option<u64>) -> Vec<DiskTask> {
    let sized = |megabytes| DiskSize {
        disk: DISK.into(),
        megabytes,
        sparse: true,
    };
    match (backing.map(String::into_bytes), size) {
        (Some(backing), None) => vec![DiskTask::CreateCow(DiskBacking {
            disk: COW.into(),
            backing,
        })],
        (Some(source), Some(size)) => {
            let destination = DISK.into();
            vec![
                DiskTask::Copy(DiskPair {
                    source,
                    destination,
                }),
                DiskTask::Resize(sized(size)),
            ]
        }
        (None, Some(size)) => vec![DiskTask::Create(sized(size))],
        (None, None) => Vec::new(),
    }
}
