//! A login from far away while others try to get in, or to keep everybody out.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use rpc_xdr::auth::Key;
use rpc_xdr::client::{StrongLogin, log_in};
use rpc_xdr::pake::Guess;
use rpc_xdr::umlmonctrl::*;
use rpc_xdr::xdr::Pack as _;

use crate::way::{LOCALHOST, call, port, tcp};
use crate::world;

/// How long a packet takes from the client to the monitor, or back.
const DISTANCE: Duration = Duration::from_millis(50);
/// Connections of the attackers: in all a thousand in a second, from a hundred addresses.
const ADDRESSES: u64 = 100;
const PAUSE: Duration = Duration::from_millis(4);
const EACH_TIME: u64 = 4;
/// How many of them are held at a time.
const HELD: usize = 1500;

/// What an attacker says first: nothing, a login of version 1 or one of version 2.
fn openings() -> [Vec<u8>; 3] {
    let (_, request) = Guess::new(&Key::from_password("guess")).unwrap();
    let start = AuthStartArgs {
        vm: "vm1".into(),
        host: "127.0.0.1".into(),
        address: Ipv4Addr::LOCALHOST.to_ipv6_mapped().octets(),
        requests: [request; 2],
    };
    let mut arguments = Vec::new();
    start.pack(&mut arguments).unwrap();
    let mut strong = call(UMLMONAUTH, 1, &arguments);
    // The version, behind mark, xid, CALL, RPC version and program.
    strong[20..24].copy_from_slice(&UMLMONAUTH_V2.to_be_bytes());
    let mut weak = vec![0, 0, 0, 3, b'v', b'm', b'1', 0];
    weak.extend_from_slice(&[1; 16]);
    weak.extend_from_slice(&[0, 0, 0, 1]);
    [Vec::new(), call(UMLMONAUTH, 1, &weak), strong]
}

/// Connects until it is told to stop, in `count` how often.
fn attack(port: u16, stop: &AtomicBool, count: &AtomicU64) {
    let (openings, mut held) = (openings(), VecDeque::new());
    while !stop.load(Ordering::Relaxed) {
        for _ in 0..EACH_TIME {
            let number = count.fetch_add(1, Ordering::Relaxed);
            let from = u8::try_from(number % ADDRESSES).unwrap();
            let mut stream = tcp(port, Ipv4Addr::new(127, 0, 9, from + 1).into());
            let opening = &openings[usize::try_from(number / ADDRESSES).unwrap() % 3];
            // Whether it has been closed already or not.
            let _ = stream.write_all(opening);
            held.push_back(stream);
        }
        while held.len() > HELD {
            held.pop_front();
        }
        thread::sleep(PAUSE);
    }
}

/// Passes bytes on, each as long after it came as the way is.
fn carry(mut from: TcpStream, mut to: TcpStream) {
    let (send, arrive) = mpsc::channel::<(Instant, Vec<u8>)>();
    let other_end = thread::spawn(move || {
        for (at, bytes) in arrive {
            thread::sleep(at.saturating_duration_since(Instant::now()));
            if to.write_all(&bytes).is_err() {
                return;
            }
        }
        let _ = to.shutdown(Shutdown::Write);
    });
    let mut buffer = [0; 4096];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        if send
            .send((Instant::now() + DISTANCE, buffer[..length].to_vec()))
            .is_err()
        {
            break;
        }
    }
    drop(send);
    let _ = other_end.join();
}

/// A port that leads to the monitor, 100 ms there and back. The monitor sees a connection from `from`, and hears
/// nothing of it before the client's first bytes have come the long way.
fn far_away(port: u16, from: IpAddr) -> SocketAddr {
    let listener = TcpListener::bind((LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for near in listener.incoming().map_while(io::Result::ok) {
            let far = tcp(port, from);
            let (back, there) = (far.try_clone().unwrap(), near.try_clone().unwrap());
            thread::spawn(move || carry(near, far));
            thread::spawn(move || carry(back, there));
        }
    });
    address
}

/// A64
#[test]
fn a_client_far_away_gets_in_while_a_hundred_addresses_attack() {
    let Some(world) = world() else { return };
    if !crate::crowds::allow_descriptors(4_000) {
        return e2e::skip("needs 4000 descriptors");
    }
    let vm = world.vm("vm1").line("password = secret").monitor();
    let port = port(&vm);
    let honest = IpAddr::from([127, 0, 0, 5]);
    let way = far_away(port, honest);
    let (stop, count) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicU64::new(0)),
    );
    let attackers = {
        let (stop, count) = (Arc::clone(&stop), Arc::clone(&count));
        thread::spawn(move || attack(port, &stop, &count))
    };
    // When the gate is full.
    e2e::wait_for("a flood", || {
        (count.load(Ordering::Relaxed) > 600).then_some(())
    });
    let begun = Instant::now();
    let key = Key::from_password("secret");
    let took: Vec<Result<Duration, String>> = (0..20)
        .map(|_| {
            let begun = Instant::now();
            let stream = TcpStream::connect(way).unwrap();
            stream
                .set_read_timeout(Some(Duration::from_secs(5)))
                .unwrap();
            let login = StrongLogin {
                vm: "vm1",
                host: "127.0.0.1",
                address: LOCALHOST,
                key: &key,
                binding: b"",
            };
            let admitted = log_in(stream, &login);
            admitted
                .map(|_| begun.elapsed())
                .map_err(|error| error.to_string())
        })
        .collect();
    let rate = count.load(Ordering::Relaxed) as f64 / begun.elapsed().as_secs_f64();
    stop.store(true, Ordering::Relaxed);
    attackers.join().unwrap();
    println!("{rate:.0} connections a second; logins took {took:?}");
    let limit = Duration::from_secs(5);
    assert!(
        took.iter()
            .all(|it| it.as_ref().is_ok_and(|it| *it < limit)),
        "{took:?}"
    );
    // A local user is not affected.
    vm.umlwatch(&["-info"]).ok();
}
