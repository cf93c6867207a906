//! The VM of a pod: a temporary one, without a disk of its own. Each container has one (the server of a pod).

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, anyhow, ensure};
use client::Client;
use config::Config;
use guest_line::{Action, Usage};
use jail::Program;
use monitors::{Temporary, choice, initramfs, keeper, look, pods};
use rpc_xdr::umlmonctrl::{DiskAttachArgs, GuestOpenArgs};

use crate::bundle::Bundle;
use crate::network;
use crate::settings::Settings;
use crate::volumes::Volumes;

/// The disks of a VM: `ubd1` is the first one of a container, as a guest takes `ubd0` for its root.
const DISKS: std::ops::RangeInclusive<u8> = 1..=15;
/// The file of the bundle with which a pod begins that names the directory of its VM.
const DIRECTORY: &str = "vm";
/// How long the monitor may take for an answer.
const ANSWER: Duration = Duration::from_secs(60);
/// How long the VM may be without a monitor.
const ABSENCE: Duration = Duration::from_secs(5);
/// How long the guest may take to boot, in milliseconds.
const BOOT_MS: u32 = 50_000;

/// The VM. When this is dropped, nothing of it is left.
pub(crate) struct Vm {
    temporary: Temporary,
    /// Where the images of its containers are.
    images: PathBuf,
    /// The section of the VM, until it is started.
    lines: String,
    volumes: Volumes,
    disks: u8,
    is_started: bool,
}

/// The installation on this host.
#[derive(Debug, Clone)]
pub(crate) struct Installation {
    config: Config,
}

impl Installation {
    /// That of this configuration file; the usual one need not be there.
    pub(crate) fn read(path: Option<&Path>) -> anyhow::Result<Installation> {
        let usual = Path::new(Config::DEFAULT_PATH);
        let config = choice::configuration(path.unwrap_or(usual), path.is_some())?;
        Ok(Installation { config })
    }
}

/// The directory of the VM of the pod that began with this bundle, if it had one.
pub(crate) fn directory_of(bundle: &Path) -> Option<PathBuf> {
    fs::read_to_string(bundle.join(DIRECTORY))
        .ok()
        .map(PathBuf::from)
}

impl Vm {
    /// Makes all that the VM of a pod of this name consists of which begins with this container.
    pub(crate) fn prepare(
        bundle: &Bundle,
        name: &str,
        installation: &Installation,
    ) -> anyhow::Result<Vm> {
        let config = &installation.config;
        let settings = Settings::of(config, bundle)?;
        let kernel = settings.kernel(&config.global);
        let kernel =
            choice::kernel(&config.global, kernel.as_deref()).map_err(anyhow::Error::msg)?;
        let helper = choice::helper().map_err(anyhow::Error::msg)?;
        let program = Program::on_host(&kernel)?;
        let libraries = look::own_libraries(&program).map_err(anyhow::Error::msg)?;
        let vms = pods::vms(&config.global);
        fs::create_dir_all(&vms).with_context(|| format!("cannot make {}", vms.display()))?;
        // What was killed as it removed something.
        if let Err(why) = keeper::remove_left(&vms) {
            eprintln!("{why}");
        }
        let lines = settings.lines() + &own_lines();
        let mut temporary = Temporary::begin(&vms, pods::VM, &lines).map_err(anyhow::Error::msg)?;
        let directory = temporary.directory().as_os_str().as_encoded_bytes();
        let noted = fs::write(bundle.directory.join(DIRECTORY), directory);
        noted.context("cannot write into the bundle")?;
        temporary.start_monitor().map_err(anyhow::Error::msg)?;
        let furnished = temporary.put_kernel(&program, &libraries);
        furnished.map_err(anyhow::Error::msg)?;
        let initramfs = initramfs::with_disk(&helper).map_err(anyhow::Error::msg)?;
        let furnished = temporary.put_initramfs(&initramfs);
        furnished.map_err(anyhow::Error::msg)?;
        // The VM's user must reach what is shared.
        let directory = temporary.directory();
        fs::set_permissions(directory, fs::Permissions::from_mode(0o711))?;
        pods::put_name(directory, name).context("cannot write the name of the pod")?;
        let volumes = Volumes::of(bundle, directory)?;
        Ok(Vm {
            lines: lines + &volumes.lines(),
            temporary,
            images: pods::directory(&config.global).join("images"),
            volumes,
            disks: 0,
            is_started: false,
        })
    }

    /// Where the images of its containers are.
    pub(crate) fn images(&self) -> &Path {
        &self.images
    }

    pub(crate) fn volumes(&mut self) -> &mut Volumes {
        &mut self.volumes
    }

    /// Gives the VM a disk on which nothing of this image is changed by a write; returns its number.
    pub(crate) fn add_disk(&mut self, image: &Path) -> anyhow::Result<u8> {
        let number = self.disks + 1;
        ensure!(
            DISKS.contains(&number),
            "a VM has room for {} containers",
            DISKS.end()
        );
        let made = self.temporary.put_image(image, &number.to_string());
        made.map_err(anyhow::Error::msg)?;
        let disk = format!("/disks/{number}.cow");
        if self.is_started {
            // The monitor keeps it, also if the guest reboots.
            let args = DiskAttachArgs {
                number: number.into(),
                disk: disk.into_bytes(),
                read_only: false,
            };
            let mut client = self.client();
            let attached = client.call(|monitor| Ok(monitor.disk_attach(&args)?.into_result()));
            attached.map_err(|failure| anyhow!("the VM cannot be given a disk: {failure}"))?;
        } else {
            self.lines += &format!("ubd{number} = {disk}\n");
        }
        self.disks = number;
        Ok(number)
    }

    /// Starts it with the interfaces of a network namespace.
    pub(crate) fn start(&mut self, namespace: &Path) -> anyhow::Result<()> {
        self.lines += &network::lines(namespace)?;
        self.temporary
            .configure(&self.lines)
            .map_err(anyhow::Error::msg)?;
        let mut client = self.client();
        client
            .start(&[])
            .map_err(|failure| anyhow!("the VM does not start: {failure}"))?;
        self.is_started = true;
        // Only a guest that is there can be given a disk.
        let args = GuestOpenArgs { wait_ms: BOOT_MS };
        let there = client.call(|monitor| Ok(monitor.guest_open(&args)?.into_result()));
        there.map_err(|failure| anyhow!("the VM does not get ready: {failure}"))?;
        Ok(())
    }

    pub(crate) fn is_started(&self) -> bool {
        self.is_started
    }

    /// A client that waits for its monitor, however long that takes.
    pub(crate) fn watcher(&self) -> Client {
        self.temporary.client().with_absence(ABSENCE)
    }

    fn client(&self) -> Client {
        self.watcher().with_limit(ANSWER)
    }

    /// Has the helper do something with a container.
    pub(crate) fn act(&self, id: &str, action: Action) -> anyhow::Result<Option<Usage>> {
        let connected = self.client().connect();
        let mut monitor = connected.map_err(|failure| anyhow!("{failure}"))?.monitor;
        client::guest::act(&mut monitor, id, action).map_err(|failure| anyhow!("{failure}"))
    }
}

/// What every VM of a pod has in its section, whatever is chosen.
fn own_lines() -> String {
    let user = monitors::user();
    format!(
        "vmuser = {user}\ncon0 = pty:con0\nkernelarg = initrd=/shared/initramfs\nkernelarg = quiet\n"
    )
}
