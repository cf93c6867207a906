//! Tier root: a crowd at the TCP ports of umldir. Alone in its file, so that no other test disturbs its measurements.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // in functions beside the tests, too

use std::collections::VecDeque;
use std::io::Write as _;
use std::net::{Ipv4Addr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use e2e::{Directory, World, free_port};
use rpc_xdr::umldir::{UmldirV1Client, UmlredirV1Client};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The 99th percentile of questions over the Unix socket, one after the other.
fn questions(directory: &Directory<'_>) -> Duration {
    let mut client = UmldirV1Client::new(directory.connect());
    let mut times: Vec<_> = (0..3000)
        .map(|_| {
            let begun = Instant::now();
            client.vm_list().unwrap();
            begun.elapsed()
        })
        .collect();
    times.sort();
    times[times.len() * 99 / 100]
}

#[test]
fn ten_thousand_silent_connections_slow_nobody_down() {
    let Some(world) = World::new() else { return };
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let all = Rlimit {
        current: maximum,
        maximum,
    };
    setrlimit(Resource::Nofile, all).unwrap();
    let ports = [free_port(), free_port()];
    let [questions_port, redirector_port] = ports;
    world.global(&format!(
        "tcp_redir = true\numldir_port = {questions_port}\numlredir_port = {redirector_port}"
    ));
    let directory = Directory::start(&world);
    // Where others work, too, one measurement says little: the best of several counts.
    let best = || {
        let tries = (0..5).map(|_| questions(&directory));
        tries.min().unwrap()
    };
    let unloaded = best();
    for port in ports {
        let open = |number: u32| {
            let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
            // One in ten is slow instead, if it has not been closed already.
            if number.is_multiple_of(10) {
                let _ = stream.write(&[0x80]);
            }
            stream
        };
        let mut crowd: VecDeque<_> = (0..10_000).map(open).collect();
        let measured = AtomicBool::new(false);
        let loaded = std::thread::scope(|scope| {
            // Those that are closed come again, a hundred in a second.
            scope.spawn(|| {
                for number in 0.. {
                    crowd.pop_front();
                    crowd.push_back(open(number));
                    std::thread::sleep(Duration::from_millis(10));
                    if measured.load(Ordering::Relaxed) {
                        break;
                    }
                }
            });
            let loaded = best();
            // No client is kept out.
            let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
            if port == questions_port {
                UmldirV1Client::new(stream).dir_null().unwrap();
            } else {
                UmlredirV1Client::new(stream).redir_null().unwrap();
            }
            measured.store(true, Ordering::Relaxed);
            loaded
        });
        println!("port {port}: p99 {loaded:?}, unloaded {unloaded:?}");
        // On a quiet machine it is less than twice as long. A busy one varies by more than that.
        let limit = (2 * unloaded).max(Duration::from_millis(20));
        assert!(loaded < limit, "{loaded:?}, unloaded {unloaded:?}");
    }
}
