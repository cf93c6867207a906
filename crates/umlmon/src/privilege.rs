//! Whether root may do here what a monitor has to do: in a container it usually may not (umlmon, before it goes to the
//! background).

use std::path::Path;

use anyhow::bail;
use rustix::thread::{CapabilitySet, capabilities};

/// Checks that this process may mount file systems and create namespaces.
///
/// # Errors
/// A sentence that names the container, if it is one that is known, and what to do.
pub fn check() -> anyhow::Result<()> {
    if capabilities(None)?
        .effective
        .contains(CapabilitySet::SYS_ADMIN)
    {
        // Without /proc it is found out later.
        if !sys::owns_mounts().unwrap_or(true) {
            bail!(
                "root of this user namespace may not mount file systems, because the mount namespace belongs to another \
                 user namespace; start it in a mount namespace of its own (unshare --user --map-root-user --mount)"
            );
        }
        return Ok(());
    }
    let Some(container) = container(Path::new("/")) else {
        bail!(
            "root has no CAP_SYS_ADMIN here, without which it can neither mount file systems nor create namespaces; \
             start it with this capability (capsh --print shows those it has; a unit of systemd must not exclude it \
             with CapabilityBoundingSet=)"
        );
    };
    bail!(
        "root has no CAP_SYS_ADMIN in this {container}, without which it can neither mount file systems nor create \
         namespaces; run the container with --privileged, or with --cap-add SYS_ADMIN --cap-add NET_ADMIN \
         --security-opt seccomp=unconfined --security-opt apparmor=unconfined"
    );
}

/// The container engine whose container has this root directory: by the files that engines leave, and the variable
/// `container` of its first process (systemd.io/CONTAINER_INTERFACE).
fn container(root: &Path) -> Option<String> {
    if root.join("var/run/secrets/kubernetes.io").exists() {
        return Some("Kubernetes pod".into());
    }
    for (mark, name) in [
        (".dockerenv", "Docker container"),
        ("run/.containerenv", "Podman container"),
    ] {
        if root.join(mark).exists() {
            return Some(name.into());
        }
    }
    let environ = std::fs::read(root.join("proc/1/environ")).ok()?;
    let environ = String::from_utf8_lossy(&environ);
    let name = environ
        .split('\0')
        .find_map(|variable| variable.strip_prefix("container="))?;
    let plain = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
    Some(match plain {
        true => format!("container ({name})"),
        false => "container".into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containers_are_known_by_their_marks() {
        let root = tempfile::tempdir().unwrap();
        let write = |file: &str, text: &str| {
            let path = root.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        let found = || container(root.path());
        assert_eq!(found(), None);
        write("proc/1/environ", "PATH=/bin\0HOME=/\0");
        assert_eq!(found(), None);
        write("proc/1/environ", "PATH=/bin\0container=lxc\0");
        assert_eq!(found().unwrap(), "container (lxc)");
        write("proc/1/environ", "container=\x1b]0;x\0");
        assert_eq!(found().unwrap(), "container");
        write("run/.containerenv", "");
        assert_eq!(found().unwrap(), "Podman container");
        write(".dockerenv", "");
        assert_eq!(found().unwrap(), "Docker container");
    }
}
