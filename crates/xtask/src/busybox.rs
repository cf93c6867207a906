//! An image of containers with busybox, which needs no registry (cargo xtask bench, and the tests).

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};

/// What it is called.
pub const IMAGE: &str = "localhost/busybox:1";

/// What busybox is called in it.
const APPLETS: [&str; 17] = [
    "cat", "echo", "grep", "hostname", "httpd", "id", "ls", "mount", "nc", "ps", "rm", "sh",
    "sleep", "stty", "tail", "touch", "true",
];

/// Its files, as an archive of tar in this directory.
///
/// # Errors
/// If it cannot be made.
pub fn layer(directory: &Path) -> anyhow::Result<PathBuf> {
    let tree = directory.join("tree");
    for name in ["bin", "dev", "etc", "proc", "sys", "tmp"] {
        fs::create_dir_all(tree.join(name))?;
    }
    let program = tree.join("bin/busybox");
    fs::copy("/bin/busybox", program).context("cannot copy busybox")?;
    for name in APPLETS {
        symlink("busybox", tree.join("bin").join(name))?;
    }
    fs::write(tree.join("etc/passwd"), "root:x:0:0:root:/:/bin/sh\n")?;
    let layer = directory.join("layer");
    let mut tar = Command::new("tar");
    tar.args(["--owner=0", "--group=0", "-C"]).arg(&tree);
    run(tar.arg("-cf").arg(&layer).arg("."))?;
    Ok(layer)
}

/// The image as an archive with the layout of OCI, in this directory.
///
/// # Errors
/// If it cannot be made.
pub fn archive(directory: &Path) -> anyhow::Result<PathBuf> {
    layer(directory)?;
    let script = format!(
        "mkdir -p oci/blobs/sha256
         blob() {{ sum=$(sha256sum < $1 | cut -d ' ' -f 1); cp $1 oci/blobs/sha256/$sum; echo sha256:$sum; }}
         size() {{ stat -c %s $1; }}
         layer=$(blob layer); kind=application/vnd.oci.image
         printf '{{\"architecture\":\"amd64\",\"os\":\"linux\",\"config\":{{\"Env\":[\"PATH=/bin\"],\"Cmd\":[\"sh\"]}},
             \"rootfs\":{{\"type\":\"layers\",\"diff_ids\":[\"%s\"]}}}}' $layer > config; config=$(blob config)
         printf '{{\"schemaVersion\":2,\"mediaType\":\"%s.manifest.v1+json\",
             \"config\":{{\"mediaType\":\"%s.config.v1+json\",\"digest\":\"%s\",\"size\":%s}},
             \"layers\":[{{\"mediaType\":\"%s.layer.v1.tar\",\"digest\":\"%s\",\"size\":%s}}]}}' \\
             $kind $kind $config $(size config) $kind $layer $(size layer) > manifest
         printf '{{\"schemaVersion\":2,\"manifests\":[{{\"mediaType\":\"%s.manifest.v1+json\",\"digest\":\"%s\",
             \"size\":%s,\"annotations\":{{\"io.containerd.image.name\":\"{IMAGE}\"}}}}]}}' \\
             $kind $(blob manifest) $(size manifest) > oci/index.json
         echo '{{\"imageLayoutVersion\":\"1.0.0\"}}' > oci/oci-layout; tar -C oci -cf image.tar ."
    );
    let mut shell = Command::new("sh");
    run(shell.args(["-euc", &script]).current_dir(directory))?;
    Ok(directory.join("image.tar"))
}

fn run(command: &mut Command) -> anyhow::Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let status = command.status();
    let status = status.with_context(|| format!("cannot run {name}"))?;
    ensure!(status.success(), "{name}: {status}");
    Ok(())
}
