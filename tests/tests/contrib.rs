//! Tier real: the adapters in `contrib/`, each as its own program or service calls it.

#![allow(clippy::unwrap_used, clippy::panic)] // in functions beside the tests, too

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use e2e::host::{cover, install, install_below};
use e2e::network::enter;
use e2e::{World, program, real_kernel, run, run_within};

fn contrib(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../contrib")
        .join(path)
}

/// A server of autopkgtest, as autopkgtest talks with it.
struct Server {
    process: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Server {
    fn new(command: &mut Command) -> Server {
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let (input, output) = (
            process.stdin.take().unwrap(),
            process.stdout.take().unwrap(),
        );
        let mut server = Server {
            process,
            input,
            output: BufReader::new(output),
        };
        assert_eq!(server.answer(), "ok");
        server
    }

    /// A line; empty if it has ended.
    fn answer(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// Gives a command that succeeds; returns what it answers.
    #[track_caller]
    fn asks(&mut self, command: &str) -> String {
        writeln!(self.input, "{command}").unwrap();
        let answer = self.answer();
        let rest = answer.strip_prefix("ok");
        rest.unwrap_or_else(|| panic!("{command}: {answer}"))
            .trim_start()
            .to_owned()
    }
}

/// Runs a command in the testbed, as the server has said.
fn in_testbed(prefix: &str, words: &[&str]) -> (Option<i32>, String) {
    let mut prefix = prefix.split(',').map(|word| word.replace("%2F", "/"));
    let mut command = Command::new(prefix.next().unwrap());
    let outcome = run(command.args(prefix).args(words));
    (outcome.status, outcome.stdout)
}

/// The server, with a small image.
fn server(world: &World) -> Command {
    let image = world.path().join("small.dsk");
    let login = e2e::Login::Password;
    xtask::guest::build(&image, xtask::guest::SIZE_MB, login).unwrap();
    let programs = program("umladmin");
    let mut command = Command::new(contrib("autopkgtest/autopkgtest-virt-umlmon"));
    let path = std::env::var("PATH").unwrap();
    let path = format!("{}:{path}", programs.parent().unwrap().display());
    command
        .env("PATH", path)
        .arg("--kernel")
        .arg(real_kernel())
        .args(["--name", "testbed", "--mem", "64M", "--net", "none", "-c"])
        .arg(world.configuration())
        .arg(&image);
    command
}

#[test]
fn autopkgtest_opens_uses_reverts_and_closes_a_testbed() {
    let Some(world) = World::with_real_kernel() else {
        return;
    };
    assert!(
        Path::new("/usr/share/autopkgtest/lib/VirtSubproc.py").exists(),
        "needs autopkgtest (Debian: apt-get install autopkgtest)"
    );
    let mut server = Server::new(&mut server(&world));
    let scratch = server.asks("open");
    assert!(scratch.starts_with("/tmp/autopkgtest."), "{scratch}");
    let capabilities = server.asks("capabilities");
    for capability in ["revert", "root-on-testbed", "isolation-machine"] {
        let mut words = capabilities.split(' ');
        assert!(words.any(|word| word == capability), "{capabilities}");
    }

    // Files and trees go down and up, also into those that are there.
    let tree = world.path().join("tree");
    fs::create_dir_all(tree.join("sub")).unwrap();
    fs::write(tree.join("sub/given"), "of the host\n").unwrap();
    std::os::unix::fs::symlink("sub/given", tree.join("link")).unwrap();
    let (tree, back) = (tree.display(), world.path().join("back"));
    for _ in 0..2 {
        server.asks(&format!("copydown {tree}/ {scratch}/tree/"));
        server.asks(&format!("copyup {scratch}/tree/ {}/", back.display()));
    }
    assert_eq!(
        fs::read_link(back.join("link")).unwrap(),
        Path::new("sub/given")
    );
    assert_eq!(
        fs::read_to_string(back.join("link")).unwrap(),
        "of the host\n"
    );
    let prefix = server.asks("print-execute-command");
    let prefix = prefix.replacen("umlwatch", &program("umlwatch").display().to_string(), 1);
    let script = format!("id -u; cat {scratch}/tree/link; echo x > /root/written; exit 7");
    let said = in_testbed(&prefix, &["sh", "-c", &script]);
    assert_eq!(said, (Some(7), "0\nof the host\n".to_owned()));
    writeln!(server.input, "copyup /root/missing {}", back.display()).unwrap();
    assert_eq!(server.answer(), "copy-failed");

    assert_eq!(server.asks("revert"), scratch);
    let script = format!("ls -d {scratch} /root/written");
    let (status, said) = in_testbed(&prefix, &["sh", "-c", &script]);
    assert_eq!((status, said), (Some(1), format!("{scratch}\n")));
    server.asks("close");
    let text = fs::read_to_string(world.configuration()).unwrap();
    assert!(!text.contains("testbed"), "{text}");
    assert!(!world.path().join("var/testbed").exists());

    // One that is open is closed at the end.
    server.asks("open");
    writeln!(server.input, "quit").unwrap();
    assert_eq!(server.answer(), "");
    assert!(server.process.wait().unwrap().success());
    assert!(!world.path().join("var/testbed").exists());
}

/// The texts of the literal blocks (`KEY: |` or `- |`) of a YAML file.
fn literals(text: &str) -> Vec<String> {
    let indent = |line: &str| line.len() - line.trim_start().len();
    let mut lines = text.lines().peekable();
    let mut literals = Vec::new();
    while let Some(line) = lines.next() {
        if !line.ends_with(": |") && !line.ends_with("- |") {
            continue;
        }
        let outer = indent(line);
        let mut block = Vec::new();
        while let Some(line) = lines.next_if(|next| next.is_empty() || indent(next) > outer) {
            block.push(line);
        }
        let own = block.iter().filter(|line| !line.is_empty());
        let own = own.map(|line| indent(line)).min().unwrap_or(0);
        let block = block.iter().map(|line| line.get(own..).unwrap_or_default());
        literals.push(block.collect::<Vec<_>>().join("\n"));
    }
    literals
}

#[test]
fn the_jobs_for_ci_run_as_they_are_written() {
    if World::with_real_kernel().is_none() {
        return;
    }
    let _scratch = cover();
    enter();
    install();
    for file in ["github.yml", "gitlab.yml"] {
        let text = fs::read_to_string(contrib("ci").join(file)).unwrap();
        let blocks = literals(&text);
        let [installs, job] = &blocks[..] else {
            panic!("{file}: {blocks:?}")
        };
        // What is installed already, and would be fetched.
        assert!(installs.contains("apt-get install -y /tmp/umlmon.deb"));
        // Not on an overlay, which cannot map owners.
        let project = tempfile::tempdir().unwrap();
        let project = project.path();
        let makefile = "check:\n\t@id -u; uname -r; echo made > artefact\n";
        fs::write(project.join("Makefile"), makefile).unwrap();
        let mut shell = Command::new("sh");
        let shell = shell.args(["-ec", job]).current_dir(project);
        let path = std::env::var("PATH").unwrap();
        let shell = shell.env("PATH", format!("/usr/local/sbin:{path}"));
        let said = run_within(shell, std::time::Duration::from_mins(2)).ok();
        let host = rustix::system::uname();
        let host = host.release().to_str().unwrap();
        assert!(said.starts_with("0\n") && !said.contains(host), "{said}");
        let made = fs::read_to_string(project.join("artefact")).unwrap();
        assert_eq!(made, "made\n", "{file}");
        // A job that fails, fails.
        fs::write(project.join("Makefile"), "check:\n\t@false\n").unwrap();
        assert_ne!(run(shell).status, Some(0));
    }
}

#[test]
fn a_command_for_fakemachine_has_volumes_disks_and_scratch_space() {
    let Some(world) = World::with_real_kernel() else {
        return;
    };
    enter();
    let umladmin = install_below(&world.path().join("prefix"));
    let (umladmin, kernel) = (umladmin.display(), real_kernel());
    let configuration = world.configuration();
    let words = format!(
        "{umladmin} -config {} -kernel {}",
        configuration.display(),
        kernel.display()
    );
    let temporary = world.path().join("tmp");
    let volume = world.path().join("volume of it's own");
    fs::create_dir(&temporary).unwrap();
    fs::create_dir(&volume).unwrap();
    let fakemachine = |args: &[&str]| {
        let mut command = Command::new(contrib("fakemachine/fakemachine-umlmon"));
        command.env("UMLADMIN", &words).env("TMPDIR", &temporary);
        command.arg("-v").arg(&volume).args(["-m", "256"]);
        let outcome = run_within(command.args(args), std::time::Duration::from_mins(2));
        assert_eq!(fs::read_dir(&temporary).unwrap().count(), 0);
        outcome
    };
    let script = format!(
        "pwd; echo \"$X $IN_FAKE_MACHINE\"; cd \"{}\" && bash -c 'echo made > file; exit 5'",
        volume.display()
    );
    let outcome = fakemachine(&["-q", "-e", "X:y z", &script]);
    assert_eq!(outcome.status, Some(5), "{outcome:#?}");
    assert_eq!(outcome.stdout, "/scratch\ny z yes\n");
    assert_eq!(fs::read_to_string(volume.join("file")).unwrap(), "made\n");
    let refused = fakemachine(&["-b", "kvm", "true"]).fails(125);
    assert!(refused.contains("no backend kvm"), "{refused}");
    if std::env::var_os("UMLMON_TEST_KERNEL").is_some() {
        // The module for disks on files is Debian's.
        return;
    }
    let image = volume.join("image");
    let disk = format!("{}:1M", image.display());
    let script = "echo on-the-disk > /dev/disk/by-fakemachine-label/fakedisk-0 && touch /scratch/x && df -T /scratch";
    let outcome = fakemachine(&["--image", &disk, "-s", "32M", "--", script]);
    let said = outcome.ok();
    assert!(
        said.starts_with("Running 'echo ") && said.contains(" ext4 "),
        "{said}"
    );
    let written = fs::read(&image).unwrap();
    assert!(written.len() == 1 << 20 && written.starts_with(b"on-the-disk\n"));
}
