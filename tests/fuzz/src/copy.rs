//! A tree as a stream of bytes, which comes from a guest or from a client, and is received below one directory.

use std::fs;
use std::path::Path;

use file_stream::{Target, receive, send};

/// Receives `data`. Nothing is outside the directory afterwards, and nothing in it has a temporary name. What was whole
/// before the stream turned out to be invalid may be there.
pub fn target(data: &[u8]) {
    let scratch = tempfile::tempdir().expect("a directory");
    let inside = scratch.path().join("inside");
    fs::create_dir(&inside).expect("a directory");
    let target = Target::at(&inside, Some("tree".as_ref())).expect("a target");
    let received = receive(&mut &*data, target, 0o022, &mut |_| {});
    assert_eq!(names(scratch.path()), ["inside"]);
    match received {
        Ok(()) => assert_eq!(names(&inside), ["tree"]),
        Err(_) => assert!(names(&inside).iter().all(|name| name == "tree")),
    }
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).expect("it is there").flatten();
    entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}

/// A file, and a tree with a hole, a link and an empty directory.
pub fn seeds() -> Vec<Vec<u8>> {
    let scratch = tempfile::tempdir().expect("a directory");
    let path = |name: &str| scratch.path().join("tree").join(name);
    fs::create_dir_all(path("empty")).expect("directories");
    fs::write(path("file"), "content").expect("a file");
    std::os::unix::fs::symlink("../file", path("link")).expect("a link");
    let sparse = fs::File::create(path("sparse")).expect("a file");
    sparse.set_len(1 << 20).expect("a hole");
    let stream = |source: &Path| {
        let mut bytes = Vec::new();
        send(source, &mut bytes, &mut |_| {}).expect("it can be read");
        bytes
    };
    vec![stream(&path("file")), stream(&path(""))]
}
