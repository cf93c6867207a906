//! Another host on the LAN of the host, for tests of what guests reach (the end-to-end tests). See `network`.

use std::fs;
use std::process::{Child, Command, ExitStatus};

use crate::network::{ip, join_lan};
use crate::{run, wait_for};

/// A program that ends with the test.
pub struct Background(Child);

impl Background {
    /// Runs it.
    ///
    /// # Panics
    /// If it cannot be run.
    pub fn run(program: &str, args: &[&str]) -> Background {
        Background(Command::new(program).args(args).spawn().unwrap())
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// If that is not possible.
    pub fn wait(mut self) -> ExitStatus {
        self.0.wait().unwrap()
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// Another host, at the other end of lan0, with the address 10.8.0.2.
pub struct Neighbour(Background);

impl Neighbour {
    /// With a network that is connected to that of the calling thread.
    ///
    /// # Panics
    /// If that is not possible.
    pub fn join() -> Neighbour {
        join_lan();
        let neighbour = Neighbour(Background::run("unshare", &["--net", "sleep", "1000"]));
        let pid = neighbour.0.0.id();
        let of = |who: &str| fs::read_link(format!("/proc/{who}/ns/net")).ok();
        let own = of("thread-self");
        wait_for("a namespace", || {
            (of(&pid.to_string()).is_some_and(|it| Some(it) != own)).then_some(())
        });
        ip(&format!("link set lan1 netns {pid}"));
        for words in [
            "ip link set lan1 up",
            "ip addr add 10.8.0.2/24 dev lan1",
            "ip route add 10.9.0.2 dev lan1",
        ] {
            neighbour.run(words);
        }
        neighbour
    }

    /// Begins a command of the shell there.
    pub fn begin(&self, line: &str) -> Background {
        let pid = self.0.0.id().to_string();
        Background::run("nsenter", &["-t", &pid, "-n", "sh", "-c", line])
    }

    /// Runs a command there.
    ///
    /// # Panics
    /// If it fails.
    #[track_caller]
    pub fn run(&self, words: &str) {
        let pid = self.0.0.id().to_string();
        let mut command = Command::new("nsenter");
        command.args(["-t", &pid, "-n"]).args(words.split(' '));
        run(&mut command).ok();
    }
}

/// Sets an interface up by DHCP, as the guest of a test can: with what this script of udhcpc does.
pub const BY_DHCP: &str = "mount -o remount,rw / 2> /dev/null; nic=$(basename /sys/class/net/[ve]*0); \
     printf '#!/bin/sh\\n[ $1 = bound ] || exit 0\\nip addr add $ip/$mask dev $interface\\n\
     ip route add default via $router\\necho nameserver $dns > /etc/resolv.conf\\n' > /tmp/dhcp && \
     chmod +x /tmp/dhcp && ip link set $nic up && udhcpc -i $nic -n -q -s /tmp/dhcp";
