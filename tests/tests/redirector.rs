//! Tier root: the redirector of umldir brings clients to the socket `redir` of a registered monitor, and nowhere else.
//! The test is the monitor.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // in functions beside the tests, too

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpStream};
use std::os::unix::fs::symlink;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use e2e::{Directory, PATIENCE, World, flood, free_port, wait_for};
use rpc_xdr::umldir::{DirCode, DirError, UmldirV1Client, UmlredirV1Client, VmRegisterArgs};

/// The redirector of a world, and a monitor that the test itself is.
struct Redirector<'w> {
    world: &'w World,
    directory: Directory<'w>,
    query_port: u16,
    port: u16,
}

/// A registered VM whose socket `redir` the test listens on.
struct Monitor {
    _registration: UmldirV1Client<UnixStream>,
    redir: UnixListener,
}

impl<'w> Redirector<'w> {
    fn start(world: &'w World) -> Self {
        let (directory, port) = (free_port(), free_port());
        world.global(&format!(
            "tcp_redir = true\numldir_port = {directory}\numlredir_port = {port}"
        ));
        Redirector {
            world,
            directory: Directory::start(world),
            query_port: directory,
            port,
        }
    }

    fn register(&self, vm: &str) -> UmldirV1Client<UnixStream> {
        let mut client = UmldirV1Client::new(self.directory.connect());
        let args = VmRegisterArgs {
            vm: vm.into(),
            port: 0,
        };
        client.vm_register(&args).unwrap().into_result().unwrap();
        client
    }

    fn file(&self, vm: &str, name: &str) -> PathBuf {
        let home = self.world.path().join("var").join(vm);
        fs::create_dir_all(&home).unwrap();
        home.join(name)
    }

    fn monitor(&self, vm: &str) -> Monitor {
        Monitor {
            _registration: self.register(vm),
            redir: UnixListener::bind(self.file(vm, "redir")).unwrap(),
        }
    }

    fn connect(&self) -> TcpStream {
        self.connect_to(Ipv4Addr::LOCALHOST.into())
    }

    fn connect_to(&self, address: IpAddr) -> TcpStream {
        let stream = TcpStream::connect((address, self.port)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// Asks for a VM on this connection, or says why not.
    fn ask(&self, stream: &TcpStream, vm: &str) -> Result<(), DirError> {
        let mut client = UmlredirV1Client::new(stream.try_clone().unwrap());
        client.redirect(vm).unwrap().into_result()
    }

    /// A client and the monitor's end of its connection.
    fn pair(&self, monitor: &Monitor, vm: &str) -> (TcpStream, UnixStream) {
        let client = self.connect();
        self.ask(&client, vm).unwrap();
        let (server, source) = monitor.accept();
        assert_eq!(source, client.local_addr().unwrap());
        (client, server)
    }
}

impl Monitor {
    /// The next connection, and where it says that it comes from.
    fn accept(&self) -> (UnixStream, SocketAddr) {
        let (mut stream, _) = self.redir.accept().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        let mut source = [0; 20];
        stream.read_exact(&mut source).unwrap();
        let address = Ipv6Addr::from(<[u8; 16]>::try_from(&source[..16]).unwrap());
        let port = u32::from_be_bytes(source[16..].try_into().unwrap());
        let address = SocketAddr::new(address.to_canonical(), port.try_into().unwrap());
        (stream, address)
    }
}

fn said(mut stream: impl Read, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    stream.read_exact(&mut bytes).unwrap();
    bytes
}

/// Whether the peer has closed: what it has sent before is dropped.
fn closed(mut stream: impl Read) -> bool {
    let mut bytes = Vec::new();
    match stream.read_to_end(&mut bytes) {
        Ok(_) => true,
        Err(error) => error.kind() == ErrorKind::ConnectionReset,
    }
}

/// Resident memory of a process, in KB.
fn memory(pid: i32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.unwrap()
        .trim()
        .trim_end_matches(" kB")
        .parse()
        .unwrap()
}

#[test]
fn a_client_reaches_the_monitor_over_both_families() {
    let Some(world) = World::new() else { return };
    let redirector = Redirector::start(&world);
    let monitor = redirector.monitor("vm1");
    let told = UmldirV1Client::new(redirector.directory.connect())
        .host_info()
        .unwrap();
    let told = told.into_result().unwrap().redirector;
    assert_eq!(told, u32::from(redirector.port));
    let addresses: [IpAddr; 2] = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
    for address in addresses {
        let mut client = redirector.connect_to(address);
        redirector.ask(&client, "vm1").unwrap();
        let (mut server, source) = monitor.accept();
        assert_eq!(source, client.local_addr().unwrap());
        client.write_all(b"question").unwrap();
        assert_eq!(said(&server, 8), b"question");
        server.write_all(b"answer").unwrap();
        assert_eq!(said(&client, 6), b"answer");
    }
    // Bytes that are sent without waiting for the result belong to the monitor.
    let mut client = redirector.connect();
    let mut call = Vec::new();
    UmlredirV1Client::new(Recorder(&mut call))
        .send_redirect("vm1")
        .unwrap();
    let (first, second) = call.split_at(call.len() - 3);
    client.write_all(first).unwrap();
    client.write_all(&[second, b"behind"].concat()).unwrap();
    let (server, _) = monitor.accept();
    assert_eq!(said(&server, 6), b"behind");
}

/// Keeps what is sent.
struct Recorder<'a>(&'a mut Vec<u8>);

impl Write for Recorder<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl rpc_xdr::client::Stream for Recorder<'_> {}

impl Read for Recorder<'_> {
    fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
        Ok(0)
    }
}

#[test]
fn nothing_but_the_socket_redir_is_reached() {
    let Some(world) = World::new() else { return };
    let redirector = Redirector::start(&world);
    // It runs, and has nothing but its control socket.
    let vm1 = world.vm("vm1").monitor();
    fs::remove_file(redirector.file("vm1", "redir")).unwrap();
    let _vm2 = redirector.register("vm2");
    symlink("../vm1/ctrl", redirector.file("vm2", "redir")).unwrap();
    let _vm3 = redirector.register("vm3");
    let ctrl = redirector.directory.home().join("ctrl");
    symlink(ctrl, redirector.file("vm3", "redir")).unwrap();
    // It is there, and not registered.
    let unregistered = UnixListener::bind(redirector.file("vm4", "redir")).unwrap();
    // Its monitor has gone.
    let vm5 = redirector.monitor("vm5");
    let registered = vm5._registration;
    drop(vm5.redir);
    // A file is no socket.
    let _vm6 = redirector.register("vm6");
    fs::write(redirector.file("vm6", "redir"), "").unwrap();

    let client = redirector.connect();
    let unknown = redirector.ask(&client, "none").unwrap_err();
    assert_eq!(unknown.code, DirCode::NotFound);
    let names = [
        "vm1",
        "vm2",
        "vm3",
        "vm4",
        "vm5",
        "vm6",
        "directory",
        "shared",
        "../vm1",
        "vm1/../vm1",
        "",
        ".",
        "vm1\0",
        "/etc",
        "ctrl",
    ];
    for name in names {
        let refused = redirector.ask(&client, name).unwrap_err();
        assert_eq!(refused, unknown, "{name:?}");
    }
    unregistered.set_nonblocking(true).unwrap();
    assert_eq!(
        unregistered.accept().unwrap_err().kind(),
        ErrorKind::WouldBlock
    );
    // After all that, the same connection can still be redirected.
    fs::remove_file(redirector.file("vm5", "redir")).unwrap();
    let vm5 = Monitor {
        redir: UnixListener::bind(redirector.file("vm5", "redir")).unwrap(),
        _registration: registered,
    };
    redirector.ask(&client, "vm5").unwrap();
    vm5.accept();
    assert_eq!(vm1.state(), "inactive");

    // A name of a megabyte, and what is no call at all.
    let mut long = redirector.connect();
    long.write_all(&0x8010_0000_u32.to_be_bytes()).unwrap();
    assert!(closed(&long));
    let mut other = redirector.connect();
    other.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
    assert!(closed(&other));
}

#[test]
fn each_side_finishes_its_stream_alone() {
    let Some(world) = World::new() else { return };
    let redirector = Redirector::start(&world);
    let monitor = redirector.monitor("vm1");
    // The client first.
    let (mut client, mut server) = redirector.pair(&monitor, "vm1");
    client.write_all(b"last").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let mut heard = Vec::new();
    server.read_to_end(&mut heard).unwrap();
    assert_eq!(heard, b"last");
    server.write_all(b"and now I speak").unwrap();
    assert_eq!(said(&client, 15), b"and now I speak");
    drop(server);
    assert!(closed(&client));
    // The monitor first.
    let (mut client, mut server) = redirector.pair(&monitor, "vm1");
    server.write_all(b"bye").unwrap();
    server.shutdown(Shutdown::Write).unwrap();
    let mut heard = Vec::new();
    client.read_to_end(&mut heard).unwrap();
    assert_eq!(heard, b"bye");
    client.write_all(b"one more thing").unwrap();
    assert_eq!(said(&server, 14), b"one more thing");
    drop(client);
    assert!(closed(&server));
}

#[test]
fn who_vanishes_ends_the_connection() {
    let Some(world) = World::new() else { return };
    let redirector = Redirector::start(&world);
    let monitor = redirector.monitor("vm1");
    let (mut client, server) = redirector.pair(&monitor, "vm1");
    // The monitor is gone before it has read what was sent; the client is connected and silent.
    client.write_all(b"unread").unwrap();
    drop(server);
    assert!(closed(&client));
    let (client, server) = redirector.pair(&monitor, "vm1");
    // What the monitor says at last arrives, though it takes no more.
    server.shutdown(Shutdown::Read).unwrap();
    (&client).write_all(&[0; 100]).unwrap();
    (&server).write_all(b"refused").unwrap();
    drop(server);
    assert_eq!(said(&client, 7), b"refused");
    let (client, server) = redirector.pair(&monitor, "vm1");
    drop(client);
    assert!(closed(&server));
    // Nothing is left of them.
    let fds = format!("/proc/{}/fd", redirector.directory.pid().as_raw_nonzero());
    wait_for("the end of all connections", || {
        let open = fs::read_dir(&fds).unwrap().count();
        (open < 25).then_some(())
    });
}

#[test]
fn megabytes_arrive_as_they_were_both_ways_at_once() {
    let Some(world) = World::new() else { return };
    let redirector = Redirector::start(&world);
    let monitor = redirector.monitor("vm1");
    let (client, server) = redirector.pair(&monitor, "vm1");
    let (up, down) = (flood(40_000_000), flood(30_000_000));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            write_in_pieces(&client, &up);
            client.shutdown(Shutdown::Write).unwrap();
        });
        scope.spawn(|| {
            write_in_pieces(&server, &down);
            server.shutdown(Shutdown::Write).unwrap();
        });
        let received = scope.spawn(|| {
            let mut received = Vec::new();
            (&server).read_to_end(&mut received).unwrap();
            received
        });
        let mut other = Vec::new();
        (&client).read_to_end(&mut other).unwrap();
        assert!(other == down, "{} bytes of {}", other.len(), down.len());
        let received = received.join().unwrap();
        assert!(received == up, "{} bytes of {}", received.len(), up.len());
    });
}

/// Pieces of all sizes.
fn write_in_pieces(mut to: impl Write, mut data: &[u8]) {
    let mut size = 1;
    while !data.is_empty() {
        let (piece, later) = data.split_at(size.min(data.len()));
        to.write_all(piece).unwrap();
        data = later;
        size = size * 7 % 300_007 + 1;
    }
}

#[test]
fn who_does_not_read_takes_no_memory() {
    let Some(world) = World::new() else { return };
    let redirector = Redirector::start(&world);
    let monitor = redirector.monitor("vm1");
    let pid = redirector.directory.pid().as_raw_nonzero().get();
    let pairs: Vec<_> = (0..20).map(|_| redirector.pair(&monitor, "vm1")).collect();
    let before = memory(pid);
    let until_full = |put: &dyn Fn(&[u8]) -> std::io::Result<usize>| {
        let mut sent = 0;
        let mut refused = 0;
        // What is on its way makes room a moment later.
        while refused < 20 {
            match put(&[7; 65536]) {
                Ok(count) => (sent, refused) = (sent + count, 0),
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::WouldBlock);
                    refused += 1;
                    std::thread::sleep(Duration::from_millis(2));
                }
            }
        }
        sent
    };
    for (client, server) in &pairs {
        client.set_nonblocking(true).unwrap();
        server.set_nonblocking(true).unwrap();
        let up = until_full(&|bytes| (&*client).write(bytes));
        let down = until_full(&|bytes| (&*server).write(bytes));
        assert!(up < 20_000_000 && down < 20_000_000, "{up}, {down}");
    }
    let after = memory(pid);
    assert!(after < before + 20 * 64, "{before} KB, then {after} KB");
    // Others do not notice.
    let (mut client, server) = redirector.pair(&monitor, "vm1");
    client.write_all(b"quick").unwrap();
    assert_eq!(said(&server, 5), b"quick");
}

#[test]
fn the_silent_are_closed_and_many_of_them_keep_nobody_out() {
    let Some(world) = World::new() else { return };
    let redirector = Redirector::start(&world);
    let monitor = redirector.monitor("vm1");
    let begun = Instant::now();
    let silent: Vec<_> = (0..700).map(|_| redirector.connect()).collect();
    let mut slow = redirector.connect();
    slow.write_all(&[0x80, 0, 0]).unwrap();
    // They come from the same source, and their places are not enough even for them.
    let (mut client, server) = redirector.pair(&monitor, "vm1");
    assert!(begun.elapsed() < Duration::from_secs(5));
    for stream in &silent {
        assert!(closed(stream));
    }
    assert!(closed(&slow));
    assert!(begun.elapsed() < Duration::from_secs(8));
    // A redirected connection may be silent: only the monitor knows why.
    client.write_all(b"still here").unwrap();
    assert_eq!(said(&server, 10), b"still here");
}

#[test]
fn monitors_come_back_when_umldir_is_killed_under_load() {
    let Some(world) = World::new() else { return };
    let redirector = Redirector::start(&world);
    let directory = &redirector.directory;
    let names = ["vm1", "vm2", "vm3"];
    let vms = names.map(|name| world.vm(name).con(1).monitor());
    let listed = || {
        let mut client = UmldirV1Client::new(directory.connect());
        let vms = client.vm_list().unwrap().into_result().unwrap();
        (vms.iter().map(|vm| vm.vm.as_str()).eq(names)).then_some(())
    };
    wait_for("all monitors listed", listed);
    vms[0].start();
    let mut console = vms[0].connect("con1");
    console.expect("fake login on con1");
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for port in [redirector.query_port, redirector.port] {
            let over = &over;
            scope.spawn(move || {
                // Calls of both programs; whether there is an answer depends on the moment.
                while !over.load(Ordering::Relaxed) {
                    let Ok(stream) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)) else {
                        continue;
                    };
                    stream.set_read_timeout(Some(PATIENCE)).unwrap();
                    let other = stream.try_clone().unwrap();
                    let _ = UmldirV1Client::new(stream).vm_list();
                    let _ = UmlredirV1Client::new(other).redirect("vm2");
                }
            });
        }
        for _ in 0..5 {
            directory.kill();
            directory.run().ok();
            let started = Instant::now();
            wait_for("all monitors listed", listed);
            let took = started.elapsed();
            assert!(took < Duration::from_secs(1), "{took:?}");
        }
        over.store(true, Ordering::Relaxed);
    });
    // A client connected with the VM itself was not affected.
    console.send("still here?");
    console.expect("still here?");
    console.leave();
}
