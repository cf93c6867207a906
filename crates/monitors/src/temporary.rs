//! A temporary installation of one VM: a directory with a configuration, a jail and a monitor, which are gone when it
//! is dropped, and also when this program is killed (umladmin). Nothing of the host's configuration is used or changed.

pub mod keeper;
mod watched;

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use client::Client;
use config::{Config, VmName};
use jail::Program;
use rpc_xdr::umlmonctrl::{DiskBacking, DiskTask};

use crate::furnish::cannot;
use crate::{CONFIGURATION, disk_work, furnish};
use keeper::Keeper;

/// See above.
pub struct Temporary {
    keeper: Keeper,
    config: Config,
    vm: VmName,
}

/// How long a copy-on-write image may take, and any other answer of the monitor.
const COW: Duration = Duration::from_secs(30);
const ANSWER: Duration = Duration::from_secs(60);

impl Temporary {
    /// Makes the directory in `parent`, for a VM of this name, with these lines in its section.
    ///
    /// # Errors
    /// If the name is none, or the directory cannot be made.
    pub fn begin(parent: &Path, name: &str, lines: &str) -> Result<Temporary, String> {
        let vm = VmName::try_from(name).map_err(|error| error.to_string())?;
        let keeper = Keeper::start(parent, &vm)?;
        write_configuration(keeper.directory(), &vm, lines)?;
        let file = keeper.directory().join(CONFIGURATION);
        let config = Config::load(&file).map_err(|error| error.to_string())?;
        for directory in [&config.global.vardir, &config.global.rundir] {
            fs::create_dir(directory).map_err(|error| cannot("make", directory, &error))?;
        }
        Ok(Temporary { keeper, config, vm })
    }

    /// Starts the monitor; the VM is inactive then.
    ///
    /// # Errors
    /// If it does not start.
    pub fn start_monitor(&mut self) -> Result<(), String> {
        self.keeper.start_monitor()
    }

    /// Other lines for the section, as of the next start of the VM.
    ///
    /// # Errors
    /// If they cannot be written.
    pub fn configure(&self, lines: &str) -> Result<(), String> {
        write_configuration(self.keeper.directory(), &self.vm, lines)
    }

    /// Makes this the kernel of the VM, with those of its libraries that are not the host's. To be called when the
    /// monitor runs, which makes the directory.
    ///
    /// # Errors
    /// If a file cannot be read or written.
    pub fn put_kernel(
        &self,
        kernel: &Program,
        libraries: &[(PathBuf, PathBuf)],
    ) -> Result<(), String> {
        furnish::put_kernel(kernel, libraries, &self.shared("kernels"))
    }

    /// Gives it the initramfs `/shared/initramfs`. To be called when the monitor runs.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn put_initramfs(&self, initramfs: &[u8]) -> Result<(), String> {
        let path = self.shared("initramfs");
        fs::write(&path, initramfs)
            .and_then(|()| fs::set_permissions(&path, Permissions::from_mode(0o644)))
            .map_err(|error| cannot("write", &path, &error))
    }

    /// Gives it the disk `/disks/NAME.cow`, on which nothing of this image is changed by a write. To be called when the
    /// monitor runs.
    ///
    /// # Errors
    /// If the image cannot be read, or the disk cannot be made.
    pub fn put_image(&self, image: &Path, name: &str) -> Result<(), String> {
        let backing = format!("disks/{name}.dsk");
        furnish::put_image(image, &self.shared(&backing))
            .map_err(|error| cannot("copy", image, &error))?;
        self.make_cow(&format!("/disks/{name}.cow"), &format!("/shared/{backing}"))
    }

    /// The directory of everything.
    pub fn directory(&self) -> &Path {
        self.keeper.directory()
    }

    /// A file in the directory that the VM sees as `/shared`.
    pub fn shared(&self, name: &str) -> PathBuf {
        self.config.global.shared.join(name)
    }

    /// Makes a copy-on-write image. Both names are as seen in the jail.
    ///
    /// # Errors
    /// If the monitor cannot, or not in time.
    pub fn make_cow(&self, disk: &str, backing: &str) -> Result<(), String> {
        let (disk, backing) = (disk.as_bytes().to_vec(), backing.as_bytes().to_vec());
        let task = DiskTask::CreateCow(DiskBacking { disk, backing });
        let until = Instant::now() + COW;
        let seconds = COW.as_secs();
        let mut client = self.client().with_limit(ANSWER);
        let made = disk_work::perform(&mut client, &task, &mut |_| match Instant::now() < until {
            true => Ok(()),
            false => Err(format!(
                "a copy-on-write image cannot be made within {seconds} seconds"
            )),
        });
        made.map_err(|failure| failure.message)
    }

    /// Ends the monitor, and leaves the directory, which is returned.
    ///
    /// # Errors
    /// If the process that keeps it has ended.
    pub fn keep(&mut self) -> Result<PathBuf, String> {
        self.keeper.leave_directory()?;
        Ok(self.directory().to_owned())
    }

    /// A disk of the VM.
    pub fn disk(&self, name: &str) -> PathBuf {
        let jail = self.config.global.vm_dir(&self.vm).join("jail");
        jail.join("disks").join(name)
    }

    /// The client of its monitor.
    pub fn client(&self) -> Client {
        Client::at(&self.vm, self.config.global.ctrl(&self.vm))
    }
}

/// The first of the numbers for users of temporary VMs, and how many there are. Nothing else uses these
/// (systemd.io/UIDS-GIDS).
const FIRST_USER: u32 = 0x7000_0000;
const USERS: u32 = 1 << 22;

/// The number for the user of a temporary VM of this process: no other one has it.
#[must_use]
pub fn user() -> u32 {
    FIRST_USER + std::process::id() % USERS
}

fn write_configuration(directory: &Path, vm: &VmName, lines: &str) -> Result<(), String> {
    let shown = directory.display();
    let text = format!(
        "[GLOBAL]\nvardir = {shown}/var\nrundir = {shown}/run\n\
         [{vm}]\nkernel = /shared/kernels/linux\nlogfile = monitor\n{lines}"
    );
    let file = directory.join(CONFIGURATION);
    fs::write(&file, text).map_err(|error| cannot("write", &file, &error))
}
