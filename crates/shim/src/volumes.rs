//! What of the host the containers of a pod have mounted: directories are shared with the VM, files are copied into a
//! directory that is (the server of a pod).

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use oci_spec::runtime::{Mount, Spec};

use crate::bundle::Bundle;

/// Where the kubelet keeps the volumes of a pod, and the files that it writes for its containers.
const PODS: &str = "/var/lib/kubelet/pods";
/// Where shared directories appear in the guest; the number of each follows.
const IN_GUEST: &str = "/run/volumes";
/// The directory of copies, in that of the VM.
const COPIES: &str = "files";
/// Where containers have memory in common.
pub(crate) const MEMORY: &str = "/dev/shm";
/// The largest file that is copied, in bytes.
const MOST: u64 = 16 << 20;

/// A directory that the VM shares.
#[derive(Debug, PartialEq, Eq)]
struct Shared {
    directory: PathBuf,
    read_only: bool,
}

/// The directories and copies of a VM.
#[derive(Debug)]
pub(crate) struct Volumes {
    shared: Vec<Shared>,
    copies: PathBuf,
    copied: u32,
}

impl Volumes {
    /// Those of a VM whose files are in `directory`, and that begins with this container.
    pub(crate) fn of(bundle: &Bundle, directory: &Path) -> anyhow::Result<Volumes> {
        let copies = directory.join(COPIES);
        fs::create_dir(&copies)
            .and_then(|()| fs::set_permissions(&copies, fs::Permissions::from_mode(0o755)))
            .with_context(|| format!("cannot make {}", copies.display()))?;
        let mut shared = vec![Shared {
            directory: copies.clone(),
            read_only: false,
        }];
        if let Some(uid) = bundle.pod_uid() {
            let directory = Path::new(PODS).join(uid);
            if directory.is_dir() {
                shared.push(Shared {
                    directory,
                    read_only: false,
                });
            }
        }
        for found in directories(&bundle.spec) {
            if !shared.contains(&found) {
                shared.push(found);
            }
        }
        Ok(Volumes {
            shared,
            copies,
            copied: 0,
        })
    }

    /// The lines of the VM's section.
    pub(crate) fn lines(&self) -> String {
        let lines = self.shared.iter().enumerate().map(|(number, shared)| {
            let read_only = if shared.read_only { ":ro" } else { "" };
            let directory = shared.directory.display();
            format!("share{number} = {directory}:{IN_GUEST}/{number}{read_only}\n")
        });
        lines.collect()
    }

    /// Where the guest has what is at this path of the host.
    pub(crate) fn find(&mut self, source: &Path, read_only: bool) -> anyhow::Result<Vec<u8>> {
        let real = source
            .canonicalize()
            .with_context(|| format!("cannot mount {}", source.display()))?;
        let mut shared = self.shared.iter().enumerate();
        let within = shared.find_map(|(number, shared)| {
            let rest = real.strip_prefix(&shared.directory).ok()?;
            (read_only || !shared.read_only).then(|| guest_path(number, rest))
        });
        if let Some(path) = within {
            return Ok(path);
        }
        let metadata = real
            .metadata()
            .with_context(|| format!("cannot mount {}", real.display()))?;
        if metadata.is_file() && metadata.len() <= MOST {
            return self.copy(&real);
        }
        bail!(
            "{} cannot be mounted: the VM of the pod shares only directories that were named when it was started, and \
             the pod's own in {PODS}",
            source.display()
        )
    }

    /// A copy of a file. It is not changed when the file is.
    fn copy(&mut self, file: &Path) -> anyhow::Result<Vec<u8>> {
        let name = self.copied.to_string();
        self.copied += 1;
        let copy = self.copies.join(&name);
        fs::copy(file, &copy).with_context(|| format!("cannot copy {}", file.display()))?;
        Ok(guest_path(0, Path::new(&name)))
    }
}

fn guest_path(number: usize, rest: &Path) -> Vec<u8> {
    let path = Path::new(IN_GUEST).join(number.to_string()).join(rest);
    path.into_os_string().into_encoded_bytes()
}

/// What of the host a container has mounted so; nothing if it is another kind of mount, or memory, of which the guest
/// has its own.
pub(crate) fn bound(mount: &Mount) -> Option<&Path> {
    let is_memory = mount.destination() == Path::new(MEMORY);
    let source = mount.source().as_deref();
    source.filter(|_| is_bind(mount) && !is_memory)
}

/// Whether something of the host is mounted, and not a file system of its own.
pub(crate) fn is_bind(mount: &Mount) -> bool {
    let mut options = mount.options().iter().flatten();
    mount.typ().as_deref().is_none_or(|kind| kind == "bind")
        || options.any(|option| option == "bind" || option == "rbind")
}

/// The directories that a container has mounted from the host.
fn directories(spec: &Spec) -> Vec<Shared> {
    let mounts = spec.mounts().iter().flatten();
    let found = mounts.filter_map(|mount| {
        let directory = bound(mount)?.canonicalize().ok()?;
        let mut options = mount.options().iter().flatten();
        directory.is_dir().then(|| Shared {
            directory,
            read_only: options.any(|option| option == "ro"),
        })
    });
    found.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_are_shared_and_files_are_copied() {
        let host = tempfile::tempdir().unwrap();
        let root = host.path().canonicalize().unwrap();
        let (data, file) = (root.join("data"), root.join("hosts"));
        fs::create_dir_all(data.join("sub")).unwrap();
        fs::write(&file, "127.0.0.1 x\n").unwrap();
        let (data, shown) = (data.display().to_string(), file.display());
        let json = format!(
            r#"{{"ociVersion":"1.0.2","mounts":[
                {{"destination":"/data","source":"{data}","options":["rbind","ro"]}},
                {{"destination":"/etc/hosts","source":"{shown}","options":["bind"]}},
                {{"destination":"/proc","type":"proc","source":"proc"}}]}}"#
        );
        let bundle = Bundle {
            directory: root.clone(),
            spec: serde_json::from_str(&json).unwrap(),
        };
        let mut volumes = Volumes::of(&bundle, &root).unwrap();
        let copies = root.join(COPIES).display().to_string();
        let lines =
            format!("share0 = {copies}:/run/volumes/0\nshare1 = {data}:/run/volumes/1:ro\n");
        assert_eq!(volumes.lines(), lines);
        let sub = format!("{data}/sub");
        assert_eq!(
            volumes.find(sub.as_ref(), true).unwrap(),
            b"/run/volumes/1/sub"
        );
        assert!(volumes.find(sub.as_ref(), false).is_err());
        assert_eq!(volumes.find(&file, false).unwrap(), b"/run/volumes/0/0");
        assert_eq!(
            fs::read(root.join(COPIES).join("0")).unwrap(),
            b"127.0.0.1 x\n"
        );
        assert!(volumes.find("/nonexistent".as_ref(), false).is_err());
    }
}
