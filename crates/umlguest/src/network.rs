//! The network of a guest that has no other program for that: lo, and the interfaces of which the kernel's command line
//! tells names, addresses and routes (umlguest, as process 1 of a VM).

use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::Path;

use guest_line::{Interface, interfaces_in};
use rustix::io::Errno;

use crate::netlink::Netlink;

/// The index of lo.
const LOOPBACK: u32 = 1;

/// Sets up what there is. `/proc` and `/sys` are mounted. What fails is told, and the rest is done nevertheless.
pub(crate) fn set_up() -> anyhow::Result<()> {
    let netlink = Netlink::open()?;
    netlink.up(LOOPBACK)?;
    let line = fs::read_to_string("/proc/cmdline")?;
    // All are found before one of them gets the name of another one.
    let found = interfaces_in(&line).into_iter();
    let found: Vec<_> = found
        .map(|(number, it)| (number, index(number), it))
        .collect();
    for (number, index, interface) in found {
        match index {
            Some(index) => apply(&netlink, number, index, &interface),
            None => tell(number, "find the interface", &Errno::NODEV.into()),
        }
        if let Err(error) = name_servers(&interface.name_servers) {
            tell(number, "write /etc/resolv.conf", &error);
        }
    }
    Ok(())
}

/// The index of the interface of this number, by the names that the kernel's network drivers give.
fn index(number: u8) -> Option<u32> {
    let index = |driver| {
        let path = format!("/sys/class/net/{driver}{number}/ifindex");
        fs::read_to_string(path).ok()
    };
    let text = ["vec", "eth"].into_iter().find_map(index)?;
    text.trim().parse().ok()
}

/// Gives an interface its name, switches it on, and gives it its addresses and routes.
fn apply(netlink: &Netlink, number: u8, index: u32, interface: &Interface) {
    let check = |what: String, done: io::Result<()>| {
        if let Err(error) = done {
            tell(number, &what, &error);
        }
    };
    if let Some(name) = &interface.name {
        // That is possible as long as it is off.
        check(format!("call it {name}"), netlink.rename(index, name));
    }
    check("switch it on".to_owned(), netlink.up(index));
    for own in &interface.addresses {
        check(
            format!("add the address {own}"),
            netlink.add_address(index, own),
        );
    }
    // A router must be reached by another route.
    let (behind, near): (Vec<_>, Vec<_>) =
        { interface.routes.iter() }.partition(|route| route.gateway.is_some());
    for route in near.into_iter().chain(behind) {
        check(
            format!("add the route {route}"),
            netlink.add_route(index, route),
        );
    }
}

fn tell(number: u8, what: &str, error: &io::Error) {
    eprintln!("umlguest: interface {number}: cannot {what}: {error}");
}

/// Writes which name servers to ask, if some are told.
fn name_servers(servers: &[IpAddr]) -> io::Result<()> {
    if servers.is_empty() {
        return Ok(());
    }
    let lines = servers
        .iter()
        .map(|server| format!("nameserver {server}\n"));
    let text: String = lines.collect();
    let file = Path::new("/etc/resolv.conf");
    if fs::write(file, &text).is_err() {
        // In an initramfs there is no such directory, and in an image it may be a link to nothing.
        fs::create_dir_all("/etc")?;
        let _ = fs::remove_file(file);
        fs::write(file, text)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use nix::sched::{CloneFlags, unshare};

    use super::*;

    fn ip(words: &str) -> String {
        let done = Command::new("ip").args(words.split(' ')).output().unwrap();
        assert!(done.status.success(), "ip {words}: {done:?}");
        String::from_utf8(done.stdout).unwrap()
    }

    #[test]
    fn an_interface_gets_all_that_is_told() {
        let can = rustix::process::geteuid().is_root() && Path::new("/sbin/ip").exists();
        if !can || unshare(CloneFlags::CLONE_NEWNET).is_err() {
            return;
        }
        ip("link add vec0 type veth peer name other");
        ip("link set other up");
        let said = ip("-o link show vec0");
        let index = said.split(':').next().unwrap().parse().unwrap();
        let line = "umlmon.net0=name:eth0,addr:10.1.0.5/16,addr:fd00::5/64,route:0.0.0.0/0/169.254.1.1,\
                    route:169.254.1.1/32//10.1.0.5,route:::/0/fe80::1/fd00::5,route:fd00::/64,\
                    route:10.2.0.0/16/10.1.0.1";
        let interfaces = interfaces_in(line);
        let netlink = Netlink::open().unwrap();
        let (number, interface) = interfaces.first().unwrap();
        // The second time all is there already.
        for _ in 0..2 {
            apply(&netlink, *number, index, interface);
        }
        let said = ip("addr show dev eth0");
        for part in [
            "UP",
            "inet 10.1.0.5/16",
            "inet6 fd00::5/64 scope global nodad noprefixroute",
        ] {
            assert!(said.contains(part), "{part}: {said}");
        }
        let routes = ip("route show dev eth0");
        let mut routes: Vec<&str> = routes.lines().map(str::trim_end).collect();
        routes.sort_unstable();
        let wanted = [
            "10.2.0.0/16 via 10.1.0.1 proto static onlink",
            "169.254.1.1 proto static scope link src 10.1.0.5",
            "default via 169.254.1.1 proto static onlink",
        ];
        assert_eq!(routes, wanted);
        let routes = ip("-6 route show dev eth0");
        for part in [
            "default via fe80::1 proto static src fd00::5",
            "fd00::/64 proto static",
        ] {
            assert!(routes.contains(part), "{part}: {routes}");
        }
    }
}
