//! An installation in a directory, with umladmin and monitors that have no kernel.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use config::Config;

/// A directory with a configuration, and umladmin beside an `umlmon` that starts [`fake_monitor`].
pub struct World {
    dir: tempfile::TempDir,
}

impl World {
    pub fn new(sections: &str) -> World {
        let world = World {
            dir: tempfile::tempdir().unwrap(),
        };
        world.configure(sections);
        let (here, program) = (world.path("umladmin"), world.path("umlmon"));
        fs::hard_link(env!("CARGO_BIN_EXE_umladmin"), &here)
            .or_else(|_| fs::copy(env!("CARGO_BIN_EXE_umladmin"), &here).map(drop))
            .unwrap();
        let fake = world.path("monitor");
        let test = std::env::current_exe().unwrap();
        fs::hard_link(&test, &fake)
            .or_else(|_| fs::copy(&test, &fake).map(drop))
            .unwrap();
        let script = format!(
            "#!/bin/sh\nready=${{2%/*}}/$3.ready\nmkfifo $ready\n\
             UMLADMIN_FAKE_CONFIG=$2 UMLADMIN_FAKE_VM=$3 {} --exact fake_monitor >/dev/null 2>&1 </dev/null &\n\
             read line <$ready\n",
            fake.display()
        );
        fs::write(&program, script).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        world
    }

    /// Puts another program in the place of the monitors'.
    pub fn install_another_monitor(&self) {
        let (draft, program) = (self.path("monitor.new"), self.path("monitor"));
        fs::copy(std::env::current_exe().unwrap(), &draft).unwrap();
        fs::rename(draft, program).unwrap();
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Each section is `name behaviour start`.
    pub fn configure(&self, sections: &str) {
        let dir = self.dir.path().display();
        let mut text = format!("[GLOBAL]\nvardir = {dir}/var\nrundir = {dir}/run\n");
        for line in sections.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            let [name, behaviour, start] = words.as_slice() else {
                panic!("{line}")
            };
            text += &format!(
                "[{name}]\nvmuser = u-{name}\nmem = 64\nkernel = /shared/kernels/linux\nkernelarg = {behaviour}\nstart = {start}\n"
            );
        }
        fs::write(self.path("umlmon.conf"), text).unwrap();
    }

    pub fn config(&self) -> Config {
        Config::load(&self.path("umlmon.conf")).unwrap()
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(self.path("umladmin"));
        command
            .arg("-config")
            .arg(self.path("umlmon.conf"))
            .args(args);
        command
    }

    pub fn run(&self, args: &[&str]) -> Output {
        self.command(args).stdin(Stdio::null()).output().unwrap()
    }

    /// The exit status and what was said.
    pub fn said(&self, args: &[&str]) -> (i32, String, String) {
        let output = self.run(args);
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (
            output.status.code().unwrap(),
            text(output.stdout),
            text(output.stderr),
        )
    }

    pub fn states(&self, args: &[&str]) -> Vec<(String, String)> {
        let output = self.run(&[&["-json", "list"], args].concat());
        let list: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let member = |vm: &serde_json::Value, name: &str| vm[name].as_str().unwrap().to_owned();
        let vms = list.as_array().unwrap().iter();
        vms.map(|vm| (member(vm, "vm"), member(vm, "state")))
            .collect()
    }

    /// What its monitor was asked to do; questions do not count.
    pub fn calls(&self, vm: &str) -> Vec<String> {
        let text = fs::read_to_string(self.path(&format!("var/{vm}/calls"))).unwrap_or_default();
        let is_question = |call: &&str| *call == "info" || call.starts_with("wait ");
        let calls = text.lines().filter(|call| !is_question(call));
        calls.map(String::from).collect()
    }
}
