//! Does a connection to the host work, with each of the kernel's network drivers? The host is a network namespace of
//! the program's own, and this is its end; for the guest's end see `guest::network` (umladmin).

use std::io;
use std::net::{Ipv4Addr, UdpSocket};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use jail::Features;

use super::boot::{boot, value};
use super::guest::network::{ANSWER, GUEST, HOST, PORT};
use super::installation::{Installation, MEMORY};
use super::talk::Talk;
use super::trial::{Found, Trial, Verdict};

const TUN: &str = "/dev/net/tun";

/// Boots the guest with each driver that the kernel has, and with these lines of configuration.
pub(super) fn all(
    installation: &Installation,
    talk: &mut Talk,
    features: Features,
    lines: &str,
) -> Result<Vec<Trial>, String> {
    let drivers = [
        (features.vec, "network vec0", "vec"),
        (features.eth, "network eth0", "tuntap"),
    ];
    let mut rows = Vec::new();
    for (_, what, transport) in drivers.into_iter().filter(|(has, ..)| *has) {
        if !Path::new(TUN).exists() {
            let (verdict, found) = (Verdict::Beware, format!("not tried: the host has no {TUN}"));
            rows.push(Trial {
                what,
                verdict,
                found,
            });
            continue;
        }
        let line = format!(
            "transport = {transport}\n\
             eth0 = host_to_host(proxy_if=kernelcheck, proxy_addr={HOST}, guest_addr={GUEST})\n{lines}"
        );
        installation.set(MEMORY, &line)?;
        rows.push(Trial::of(what, answered(talk)));
        talk.kill()?;
        installation.set(MEMORY, "")?;
    }
    Ok(rows)
}

/// Boots the guest and answers it, until it is up.
fn answered(talk: &mut Talk) -> Found {
    let text = |error: io::Error| format!("cannot listen: {error}");
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, PORT)).map_err(text)?;
    socket.set_read_timeout(Some(ANSWER)).map_err(text)?;
    let is_up = AtomicBool::new(false);
    let con0 = thread::scope(|scope| {
        scope.spawn(|| echo(&socket, &is_up));
        let con0 = boot(talk, &[]);
        is_up.store(true, Ordering::Relaxed);
        con0
    })?;
    match value(&con0, "net")?.as_str() {
        "ok" => Ok("the guest and the host reach each other".into()),
        why => Err(why.to_owned()),
    }
}

fn echo(socket: &UdpSocket, is_up: &AtomicBool) {
    let mut call = [0; 16];
    while !is_up.load(Ordering::Relaxed) {
        // An error shows in the guest, which then gets no answer.
        if let Ok((length, from)) = socket.recv_from(&mut call) {
            let _ = socket.send_to(call.get(..length).unwrap_or_default(), from);
        }
    }
}
