//! `umladmin run`: a command in a temporary VM, with the standard descriptors of this program, and its exit status
//! (umladmin).

mod initramfs;
mod shares;

use std::ffi::{OsStr, OsString};
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use cli::{Exit, Failure, Line};
use client::exec::{CANNOT, End};
use client::{exec, guest, signals, words};
use config::{Config, Global, Nic};
use guest_line::{Interface, Prefix, Route, interface_argument};
use jail::Program;
use net::user::{GUEST, NAME_SERVER, NETWORK, PREFIX, ROUTER};

use monitors::{Temporary, choice, look};
use shares::shares;

/// The VM.
const NAME: &str = "run";
/// Exit statuses beside that of the command: the time is over; the VM has ended before the command; nobody reads any
/// more what it writes.
const LATE: u8 = 124;
const KILLED: u8 = 137;
const UNHEARD: u8 = 128 + 13;
/// What the VM has if nothing else is asked for.
const MEMORY: &str = "512";
const CPUS: &str = "1";
/// How long the monitor, and a guest that is powered off, may take.
const ANSWER: Duration = Duration::from_secs(60);
const OFF_S: u32 = 10;

/// What was asked for.
struct Wishes<'a> {
    global: &'a Global,
    kernel: Option<&'a Path>,
    image: Option<&'a Path>,
    memory: &'a str,
    cpus: &'a str,
    network: Option<(&'a str, Nic)>,
    environment: Vec<Vec<u8>>,
    shares: String,
    until: Option<Instant>,
    keep: bool,
    command: &'a [OsString],
}

/// Runs a command in a VM. All failures but those of the command line have the exit status 125.
pub(crate) fn run(config: &Path, line: &Line, command: &[OsString]) -> Result<Exit, Failure> {
    let begun = Instant::now();
    let asked_for = line.config.is_some();
    let ours = |failure: Failure| match failure.exit {
        Exit::Command(_) => failure,
        _ => Failure {
            exit: Exit::Command(CANNOT),
            ..failure
        },
    };
    let config = read(config, asked_for).map_err(ours)?;
    let wishes = wishes(&config.global, line, command, begun).map_err(ours)?;
    if !rustix::process::geteuid().is_root() {
        let why = "run must be run by root: it makes a jail, and starts a VM in it as another user";
        return Err(ours(Failure::new(Exit::NotAuthorised, why)));
    }
    match carry_out(&wishes).map_err(ours)? {
        End::Command(0) => Ok(Exit::Done),
        End::Command(status) => Err(Failure::new(Exit::Command(status), "")),
        End::Signal(signal) => {
            signals::obey(signal)?;
            Err(Failure::new(Exit::Command(CANNOT), ""))
        }
        End::Unheard => Err(Failure::new(Exit::Command(UNHEARD), "")),
        End::Late => Err(Failure::new(Exit::Command(LATE), "the time is over")),
    }
}

/// See [`choice::configuration`].
pub(crate) fn read(path: &Path, asked_for: bool) -> Result<Config, Failure> {
    let read = choice::configuration(path, asked_for);
    read.map_err(|error| Failure::new(Exit::Failed, error))
}

fn wishes<'a>(
    global: &'a Global,
    line: &'a Line,
    command: &'a [OsString],
    begun: Instant,
) -> Result<Wishes<'a>, Failure> {
    if command.is_empty() {
        return Err(Failure::usage("no command is given: run -- COMMAND"));
    }
    let number = |name: &str, usual| -> Result<&'a str, Failure> {
        let given = line.value(name).map(OsStr::to_str);
        match given.unwrap_or(Some(usual)) {
            Some(text) if text.parse::<u32>().is_ok_and(|number| number > 0) => Ok(text),
            _ => {
                let why = format_args!("-{name}: it must be a number, and not 0");
                Err(Failure::usage(why))
            }
        }
    };
    let memory = line.value("mem").map_or(Some(MEMORY), OsStr::to_str);
    let memory = memory.ok_or_else(|| Failure::usage("-mem: it must be a size"))?;
    match config::megabytes(memory) {
        Ok(1..) => {}
        Ok(0) => return Err(Failure::usage("-mem: it must not be 0")),
        Err(why) => return Err(Failure::usage(format_args!("-mem: {why}"))),
    }
    let timeout = match line.has("timeout") {
        true => Some(number("timeout", "")?.parse::<u32>().unwrap_or(u32::MAX)),
        false => None,
    };
    let mut environment = Vec::new();
    for given in line.words.iter().filter(|given| given.name == "env") {
        let variable = given.value.as_bytes();
        if !variable.iter().skip(1).any(|byte| *byte == b'=') {
            return Err(Failure::usage("-env: it must be NAME=VALUE"));
        }
        environment.push(variable.to_vec());
    }
    Ok(Wishes {
        global,
        kernel: line.value("kernel").map(Path::new),
        image: line.value("image").map(Path::new),
        memory,
        cpus: number("cpus", CPUS)?,
        network: network(line)?,
        environment,
        shares: shares(line)?,
        until: timeout.map(|seconds| begun + Duration::from_secs(seconds.into())),
        keep: line.has("keep"),
        command,
    })
}

/// The network, of which the guest needs the addresses: of the forms of umlmon(5) it can only be these.
fn network(line: &Line) -> Result<Option<(&str, Nic)>, Failure> {
    let given = match line.value("net").map(OsStr::to_str) {
        None | Some(Some("none")) => return Ok(None),
        Some(Some("user")) => "user()",
        Some(Some("nat")) => "nat()",
        Some(given) => given.unwrap_or_default(),
    };
    match given.parse() {
        Ok(nic @ (Nic::User { .. } | Nic::Netns { .. })) => Ok(Some((given, nic))),
        Ok(Nic::Nat { .. }) => Err(Failure::usage(
            "-net: run makes a VM that no other one sees; VMs in a network of nat are made by create, and removed by \
             delete",
        )),
        Ok(_) => Err(Failure::usage(
            "-net: it must be none, user, user(...) or netns(...)",
        )),
        Err(error) => Err(Failure::usage(format_args!("-net: {error}"))),
    }
}

/// From nothing to nothing: when this returns, nothing of the VM is left.
fn carry_out(wishes: &Wishes<'_>) -> Result<End, Failure> {
    let failed = |why: String| Failure::new(Exit::Failed, why);
    let kernel = choice::kernel(wishes.global, wishes.kernel).map_err(failed)?;
    let helper = choice::helper().map_err(failed)?;
    let image = wishes
        .image
        .map(|image| choice::image(wishes.global, image));
    let image = image.transpose().map_err(failed)?;
    let program = Program::on_host(&kernel).map_err(|error| Failure::new(Exit::Failed, error))?;
    let initramfs = match &image {
        Some(_) => monitors::initramfs::with_disk(&helper),
        None => initramfs::with_busybox(&helper),
    };
    let initramfs = initramfs.map_err(failed)?;
    let mut temporary = Temporary::begin(&directory(), NAME, &section(wishes)).map_err(failed)?;
    temporary.start_monitor().map_err(failed)?;
    furnish(&temporary, &program, &initramfs, image.as_deref()).map_err(failed)?;
    let mut client = temporary.client().with_limit(ANSWER);
    client.start(&[])?;
    let words = wishes.command.iter().map(|word| word.as_bytes().to_vec());
    let ended = exec::run(
        &temporary.client(),
        words.collect(),
        wishes.environment.clone(),
        wishes.until,
    );
    let ended = ended.or_else(|failure| judge(&temporary, failure, wishes.until));
    if wishes.keep {
        keep(temporary)?;
    }
    ended
}

/// Where temporary files are that may be large.
fn directory() -> PathBuf {
    let given = std::env::var_os("TMPDIR").filter(|directory| !directory.is_empty());
    given.map_or_else(|| "/var/tmp".into(), PathBuf::from)
}

/// The section of the VM.
fn section(wishes: &Wishes<'_>) -> String {
    let user = monitors::user();
    let (memory, cpus, shares) = (wishes.memory, wishes.cpus, &wishes.shares);
    let disk = match wishes.image {
        Some(_) => "ubd0 = /disks/root.cow\n",
        None => "",
    };
    let network = match &wishes.network {
        // The monitor reads those of the interface, and tells them to the guest.
        Some((given, Nic::Netns { .. })) => format!("eth0 = {given}\n"),
        Some((given, _)) => format!("eth0 = {given}\nkernelarg = {}\n", addresses()),
        None => String::new(),
    };
    format!(
        "vmuser = {user}\nmem = {memory}\ncpus = {cpus}\ncon0 = pty:con0\n\
         kernelarg = initrd=/shared/initramfs\nkernelarg = quiet\n{disk}{network}{shares}"
    )
}

/// The argument of the kernel from which the guest learns its addresses.
fn addresses() -> String {
    let prefix = |address: Ipv4Addr, bits| Prefix {
        address: address.into(),
        bits,
    };
    let route = |to, gateway: Option<Ipv4Addr>| Route {
        to,
        gateway: gateway.map(IpAddr::from),
        source: None,
    };
    let (network, everywhere) = (prefix(NETWORK, PREFIX), prefix(Ipv4Addr::UNSPECIFIED, 0));
    let interface = Interface {
        name: None,
        addresses: vec![prefix(GUEST, PREFIX)],
        routes: vec![route(network, None), route(everywhere, Some(ROUTER))],
        name_servers: vec![NAME_SERVER.into()],
    };
    interface_argument(0, &interface)
}

/// Gives the VM its files.
fn furnish(
    temporary: &Temporary,
    kernel: &Program,
    initramfs: &[u8],
    image: Option<&Path>,
) -> Result<(), String> {
    temporary.put_kernel(kernel, &look::own_libraries(kernel)?)?;
    temporary.put_initramfs(initramfs)?;
    match image {
        Some(image) => temporary.put_image(image, "root"),
        None => Ok(()),
    }
}

/// Why the command has no status.
fn judge(temporary: &Temporary, failure: Failure, until: Option<Instant>) -> Result<End, Failure> {
    let killed = |why: String| Failure::new(Exit::Command(KILLED), why);
    if until.is_some_and(|until| Instant::now() >= until) {
        return Ok(End::Late);
    }
    match temporary.client().with_limit(ANSWER).wait(1) {
        Ok(waited) if waited.inactive => {
            let how = words::how_ended(&waited.last_end);
            Err(killed(format!(
                "the VM has ended before the command: {how}"
            )))
        }
        Ok(_) => Err(failure),
        Err(_) => Err(killed("the monitor of the VM has ended".into())),
    }
}

/// Powers the guest off, and leaves its files.
fn keep(mut temporary: Temporary) -> Result<(), Failure> {
    let mut client = temporary.client().with_limit(ANSWER);
    // One without a helper, or that has ended, cannot be asked.
    let asked = client.connect().and_then(|it| guest::power_off(it.monitor));
    if asked.is_ok() {
        client.wait(OFF_S)?;
    }
    let kept = temporary.keep();
    let kept = kept.map_err(|why| Failure::new(Exit::Failed, why))?;
    eprintln!("umladmin: what is left of the VM is in {}", kept.display());
    Ok(())
}
