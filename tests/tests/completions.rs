//! Tier process: completions in zsh and fish, as they are installed. Those of bash are tested where they are made.

#![allow(clippy::unwrap_used)] // in functions beside the tests, too

use std::fs;
use std::path::Path;
use std::process::Command;

use e2e::{Terminal, World, run, skip};
use xtask::completions;

/// Whether there is this shell; if not, the test is noted as skipped.
fn has(shell: &str) -> bool {
    let found = Path::new("/usr/bin").join(shell).exists();
    if !found {
        skip(&format!("needs {shell} (Debian: apt-get install {shell})"));
    }
    found
}

/// The script that this shell gets for a program.
fn script(shell: fn(&cli::Program) -> String, name: &str) -> String {
    let mut programs = completions::PROGRAMS.iter();
    shell(programs.find(|program| program.name == name).unwrap())
}

/// A world with two VMs, and its configuration.
fn world() -> (World, String) {
    let world = World::unprivileged();
    world.vm("vm1").configure();
    world.vm("web").configure();
    let configuration = world.configuration().display().to_string();
    (world, configuration)
}

#[test]
fn fish_completes_options_and_names() {
    if !has("fish") {
        return;
    }
    let (world, configuration) = world();
    let offered = |name: &str, line: &str| -> Vec<String> {
        let file = world.path().join(format!("{name}.fish"));
        fs::write(&file, script(completions::fish, name)).unwrap();
        let script = format!("source {}; complete -C '{line}'", file.display());
        let mut fish = Command::new("fish");
        fish.args(["--no-config", "-c", &script]);
        let said = run(fish.env("HOME", world.path())).ok();
        let words = said.lines().filter_map(|line| line.split('\t').next());
        words.map(str::to_owned).collect()
    };
    let vm = format!("umlwatch -config {configuration} ");
    assert_eq!(offered("umlwatch", &format!("{vm}v")), ["vm1"]);
    assert_eq!(
        offered("umlwatch", &format!("{vm}vm1 -force-c")),
        ["-force-connect"]
    );
    assert_eq!(
        offered("umlwatch", &format!("{vm}vm1 -watch con15")),
        ["con15"]
    );
    let create = ["-disk-create", "-disk-create-cow"];
    assert_eq!(offered("umlwatch", &format!("{vm}vm1 -disk-cr")), create);
    let stop = format!("umladmin -config {configuration} stop we");
    assert_eq!(offered("umladmin", &stop), ["web"]);
    assert_eq!(offered("umladmin", "umladmin kern"), ["kernelcheck"]);
    let check = offered("umladmin", &format!("umladmin -json check {configuration}"));
    assert_eq!(check, [configuration.as_str()]);
    assert_eq!(offered("umladmin", "umladmin password v"), [""; 0]);
    assert_eq!(offered("umldir", "umldir -f"), ["-fg"]);
}

/// Types each line, with a tab at its end, into an interactive zsh in which the programs only print their arguments.
fn typed_in_zsh(world: &World, lines: &[String]) -> Vec<String> {
    let functions = world.path().join("functions");
    fs::create_dir(&functions).unwrap();
    let mut zsh = Command::new("zsh");
    zsh.args(["-f", "-i"]);
    zsh.env("HOME", world.path()).env("TERM", "vt100");
    let mut terminal = Terminal::run(&zsh, 24, 250);
    // What is printed is told from what is typed: there, no two marks are whole.
    for name in ["umlwatch", "umladmin", "umldir"] {
        fs::write(
            functions.join(format!("_{name}")),
            script(completions::zsh, name),
        )
        .unwrap();
        terminal.send(&format!("{name}() {{ print -r -- G''OT:$*:TO''G }}\r"));
    }
    let path = functions.display();
    terminal.send(&format!(
        "fpath=({path} $fpath); autoload -Uz compinit; compinit -u -D\r"
    ));
    let mut said = Vec::new();
    for line in lines {
        // What is typed before the shell asks for it is not completed.
        terminal.send("print REA''DY\r");
        terminal.expect("READY");
        terminal.send(&format!("{line}\t\r"));
        terminal.expect("GOT:");
        let words = terminal.expect(":TOG");
        said.push(words.trim_end_matches(":TOG").to_owned());
    }
    terminal.send("exit\r");
    assert_eq!(terminal.wait(), Some(0));
    said
}

#[test]
fn zsh_completes_options_and_names() {
    if !has("zsh") {
        return;
    }
    let (world, configuration) = world();
    let with = |line: &str| line.replace("CONFIG", &format!("-config {configuration}"));
    // All but the last letter of a file is typed.
    let (begun, _) = configuration.split_at(configuration.len() - 1);
    let check = (
        format!("umladmin -json check {begun}"),
        format!("-json check {configuration}"),
    );
    let lines = [
        ("umlwatch CONFIG v", "CONFIG vm1"),
        ("umlwatch CONFIG vm1 -force-c", "CONFIG vm1 -force-connect"),
        (
            "umlwatch CONFIG vm1 -watch con15",
            "CONFIG vm1 -watch con15",
        ),
        ("umladmin CONFIG stop we", "CONFIG stop web"),
        ("umladmin kern", "kernelcheck"),
        (check.0.as_str(), check.1.as_str()),
        ("umldir -f", "-fg"),
    ];
    let typed: Vec<String> = lines.iter().map(|(line, _)| with(line)).collect();
    let expected: Vec<String> = lines.iter().map(|(_, words)| with(words)).collect();
    assert_eq!(typed_in_zsh(&world, &typed), expected);
}
