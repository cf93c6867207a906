//! What is still there of an installation in a directory: processes, mounts, and control groups (cargo xtask demo, and
//! the tests).

use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// One line for each process, mount and control group that has to do with `directory`; empty if there is none.
///
/// A process has to do with it if its root, its working directory or its executable lies there, or if its command line
/// names it. The directory's name should be one that nothing else has.
pub fn of(directory: &Path) -> Vec<String> {
    let mut found = processes(directory);
    found.extend(mounts(directory));
    found.extend(groups(&directory.join("var")));
    found
}

/// The control groups of the VMs whose directories are in `vardir`; in both versions, wherever they are mounted
/// usually.
pub fn groups(vardir: &Path) -> Vec<String> {
    let list = |path: &Path| fs::read_dir(path).into_iter().flatten().flatten();
    let top = Path::new("/sys/fs/cgroup");
    let roots: Vec<PathBuf> = list(top)
        .map(|entry| entry.path())
        .chain([top.into()])
        .collect();
    // umlmon.5: the name of the VM, and the numbers of its directory.
    let names: Vec<String> = list(vardir)
        .filter_map(|vm| {
            let (name, place) = (vm.file_name(), vm.metadata().ok()?);
            Some(format!(
                "{}-{}-{}",
                name.to_str()?,
                place.dev(),
                place.ino()
            ))
        })
        .collect();
    let places = |name: &String| {
        roots
            .iter()
            .map(|root| root.join("umlmon").join(name))
            .collect::<Vec<_>>()
    };
    let groups = names.iter().flat_map(places).filter(|group| group.is_dir());
    groups
        .map(|group| format!("control group {}", group.display()))
        .collect()
}

/// The mounts of our own mount namespace in `directory`.
pub fn mounts(directory: &Path) -> Vec<String> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    // proc_pid_mountinfo(5): the fifth field is the mount point.
    let points = table.lines().filter_map(|line| line.split(' ').nth(4));
    points
        .filter(|point| Path::new(point).starts_with(directory))
        .map(|point| format!("mount {point}"))
        .collect()
}

/// The processes that have to do with `directory`, other than our own.
pub fn processes(directory: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    let numbers = entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    numbers
        .filter(|number| *number != std::process::id())
        .filter_map(|number| {
            let process = Path::new("/proc").join(number.to_string());
            // A process may end at any time; then it is not left.
            let command = fs::read(process.join("cmdline")).ok()?;
            let inside = ["root", "cwd", "exe"].iter().any(|link| {
                fs::read_link(process.join(link)).is_ok_and(|target| target.starts_with(directory))
            });
            let named = directory.as_os_str().as_bytes();
            (inside || command.windows(named.len()).any(|part| part == named)).then(|| {
                let command = String::from_utf8_lossy(&command).replace('\0', " ");
                format!("process {number}: {}", command.trim())
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn a_process_that_works_in_the_directory_is_found() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().canonicalize().unwrap();
        assert_eq!(of(&path), [""; 0]);
        let mut sleep = Command::new("sleep")
            .arg("60")
            .current_dir(&path)
            .spawn()
            .unwrap();
        let found = of(&path);
        sleep.kill().unwrap();
        sleep.wait().unwrap();
        // What it is called is not to be seen in the moment in which it is executed.
        let expected = format!("process {}:", sleep.id());
        assert!(
            found.len() == 1 && found[0].starts_with(&expected),
            "{found:?}"
        );
        assert_eq!(of(&path), [""; 0]);
    }
}
