//! Archives of files and layers of containers, which umladmin unpacks into images, and the descriptions of containers.

use std::fs;
use std::path::Path;

use nix::sched::{CloneFlags, unshare};
use nix::unistd::chroot;

/// Unpacks `data` as an archive, and as a layer over a small tree. Nothing outside is changed.
pub fn target(data: &[u8]) {
    let scratch = tempfile::tempdir().expect("a directory");
    let outside = scratch.path().join("outside");
    for is_layer in [false, true] {
        fs::write(&outside, "kept").expect("a file");
        let root = scratch.path().join(if is_layer { "layer" } else { "tree" });
        fs::create_dir_all(root.join("etc/sub")).expect("directories");
        fs::write(root.join("etc/file"), "of the layer below").expect("a file");
        std::os::unix::fs::symlink("../outside", root.join("link")).expect("a link");
        unpack(data, &root, is_layer);
        let kept = fs::read(&outside).expect("it is there");
        assert_eq!(kept, b"kept");
    }
    let file = scratch.path().join("container.tar");
    fs::write(&file, data).expect("a file");
    // Whether it is one does not matter.
    let _ = umladmin::count_layers(&file);
}

/// As umladmin does it: with the directory as root directory, if this is root; here, of a thread alone.
fn unpack(mut data: &[u8], root: &Path, is_layer: bool) {
    let unpack = || {
        let mut below = root;
        if nix::unistd::geteuid().is_root() {
            unshare(CloneFlags::CLONE_FS).expect("a thread with a root directory of its own");
            chroot(root).expect("a root directory");
            std::env::set_current_dir("/").expect("a directory");
            below = Path::new("/");
        }
        let _ = umladmin::unpack(&mut data, below, is_layer);
    };
    std::thread::scope(|scope| {
        let done = scope.spawn(unpack).join();
        done.expect("it does not panic");
    });
}

/// An archive with files of all kinds, a layer with whiteouts, and a container of one layer.
pub fn seeds() -> Vec<Vec<u8>> {
    let plain = |name: &str, kind: u8, target: &str, text: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::new(kind));
        header.set_size(text.len() as u64);
        header.set_mode(0o755);
        header.set_path(name).expect("a short name");
        if !target.is_empty() {
            header.set_link_name(target).expect("a short name");
        }
        header.set_cksum();
        (header, text.to_vec())
    };
    let archive = |entries: Vec<(tar::Header, Vec<u8>)>| {
        let mut builder = tar::Builder::new(Vec::new());
        for (header, text) in entries {
            builder.append(&header, &*text).expect("memory");
        }
        builder.into_inner().expect("memory")
    };
    let kinds = [b'0', b'1', b'2', b'3', b'5', b'6'];
    let all = kinds.map(|kind| plain(&format!("etc/{kind}"), kind, "etc/file", b""));
    let layer = vec![
        plain("etc/.wh.file", b'0', "", b""),
        plain("etc/sub/.wh..wh..opq", b'0', "", b""),
        plain("link/file", b'0', "", b"text"),
    ];
    let manifest = br#"[{"Config":"c.json","RepoTags":["a:b"],"Layers":["l/layer.tar"]}]"#;
    let container = vec![
        plain("manifest.json", b'0', "", manifest),
        plain(
            "c.json",
            b'0',
            "",
            br#"{"os":"linux","architecture":"amd64"}"#,
        ),
        plain("l/layer.tar", b'0', "", b""),
    ];
    vec![archive(all.to_vec()), archive(layer), archive(container)]
}
