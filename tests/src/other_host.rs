//! Two hosts: network namespaces with a cable between them (the end-to-end tests).

use std::io;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use nix::sched::{CloneFlags, setns, unshare};

use crate::{World, called, program, run, skip, wait_for};

/// The address of this host on the cable.
pub const HERE: &str = "10.98.0.1";
/// The same of IPv6.
pub const HERE_V6: &str = "fd98::1";
/// An address on the cable that no host has.
pub const NOBODY: &str = "10.98.0.9";

/// Another host, from which this one can be reached. This one is a network namespace of the test's thread, and of what
/// the thread starts.
pub struct OtherHost {
    /// Keeps the namespace until its stdin ends.
    holder: Child,
}

impl OtherHost {
    /// Lays the cable; None, and the test is noted as skipped, where that cannot be done.
    ///
    /// # Panics
    /// If it fails half-way.
    pub fn connected() -> Option<OtherHost> {
        let other = OtherHost::lonely()?;
        let far = other.holder.id().to_string();
        ip(&[
            "link", "add", "cable", "type", "veth", "peer", "name", "cable", "netns", &far,
        ]);
        for (inside, v4, v6) in [
            (None, format!("{HERE}/24"), format!("{HERE_V6}/64")),
            (Some(&other), "10.98.0.2/24".into(), "fd98::2/64".into()),
        ] {
            for words in [
                &["addr", "add", &v4, "dev", "cable"][..],
                &["addr", "add", &v6, "dev", "cable", "nodad"],
                &["link", "set", "cable", "up"],
            ] {
                match inside {
                    None => ip(words),
                    Some(other) => {
                        let mut command = other.command("ip");
                        run(command.args(words)).ok();
                    }
                }
            }
        }
        Some(other)
    }

    /// The same without a cable.
    ///
    /// # Panics
    /// As [`OtherHost::connected`].
    pub fn lonely() -> Option<OtherHost> {
        if Command::new("ip").arg("-V").output().is_err() {
            skip("needs ip (Debian: apt-get install iproute2)");
            return None;
        }
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        ip(&["link", "set", "lo", "up"]);
        let mut holder = Command::new("unshare");
        holder.args(["--net", "sh", "-c", "ip link set lo up && read -r line"]);
        let holder = holder.stdin(Stdio::piped()).spawn().unwrap();
        let other = OtherHost { holder };
        wait_for("the other host", || {
            let up = other
                .command("ip")
                .args(["link", "show", "lo", "up"])
                .output();
            let ours = std::fs::read_link("/proc/thread-self/ns/net").ok()?;
            let theirs = std::fs::read_link(other.namespace()).ok()?;
            (ours != theirs && !up.ok()?.stdout.is_empty()).then_some(())
        });
        Some(other)
    }

    fn namespace(&self) -> PathBuf {
        format!("/proc/{}/ns/net", self.holder.id()).into()
    }

    /// A program on that host.
    pub fn command(&self, name: &str) -> Command {
        let mut command = called("nsenter");
        command.arg(format!("--net={}", self.namespace().display()));
        command.arg(name);
        command
    }

    /// umlwatch on that host, with a home in `world` and a configuration of its own, in which these ports are known.
    ///
    /// # Panics
    /// If its files cannot be made.
    pub fn umlwatch(&self, world: &World, ports: &str, args: &[&str]) -> Command {
        let home = world.path().join("home");
        std::fs::create_dir_all(&home).unwrap();
        let config = home.join("umlmon");
        std::fs::write(&config, format!("[GLOBAL]\n{ports}\n")).unwrap();
        let mut command = self.command("env");
        command
            .arg(format!("HOME={}", home.display()))
            .arg(program("umlwatch"))
            .arg("-config")
            .arg(config)
            .args(args);
        command
    }

    /// A port of that host on which this one listens, like a tunnel.
    ///
    /// # Panics
    /// If that is not possible.
    pub fn listen(&self) -> TcpListener {
        let namespace = std::fs::File::open(self.namespace()).unwrap();
        let listen = move || -> io::Result<TcpListener> {
            setns(namespace, CloneFlags::CLONE_NEWNET)?;
            TcpListener::bind("127.0.0.1:0")
        };
        std::thread::spawn(listen).join().unwrap().unwrap()
    }
}

impl Drop for OtherHost {
    fn drop(&mut self) {
        drop(self.holder.stdin.take());
        let _ = self.holder.wait();
    }
}

fn ip(words: &[&str]) {
    run(Command::new("ip").args(words)).ok();
}
