//! Connections in TLS, as RFC 9289 has it.

use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;

use e2e::{Vm, World, certificate, wait_for};
use rpc_xdr::auth::{BINDING_LABEL, BINDING_LENGTH, Key};
use rpc_xdr::client::{Authenticated, Login, LoginError, Stream, authenticate, start_tls};
use rpc_xdr::umlmonctrl::*;
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::way::{LOCALHOST, Way, call, connection, log_in, until_closed};
use crate::world;

/// Makes a certificate of the world.
fn certify(world: &World) -> CertificateDer<'static> {
    certificate::certify(world, &["umlhost"]).der().clone()
}

/// A world with TLS, and its certificate.
fn world_with(tls: &str) -> Option<(World, CertificateDer<'static>)> {
    let world = world()?;
    let certificate = certify(&world);
    certificate::use_tls(&world, tls);
    Some((world, certificate))
}

/// A stream in TLS.
struct Tls(StreamOwned<ClientConnection, Box<dyn Stream + Send>>, bool);

impl Read for Tls {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.0.read(buffer)?;
        let state = self.0.conn.process_new_packets();
        self.1 = state.is_ok_and(|state| state.plaintext_bytes_to_read() > 0);
        Ok(count)
    }
}

impl Write for Tls {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.0.write(buffer)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl Stream for Tls {
    fn buffered(&self) -> bool {
        self.1
    }
}

/// Shakes hands with a monitor that has this certificate, and says which protocol is spoken inside.
fn handshake(
    mut stream: Box<dyn Stream + Send>,
    certificate: &CertificateDer<'static>,
    alpn: &[u8],
) -> io::Result<Tls> {
    assert!(start_tls(&mut stream).unwrap(), "no TLS is offered");
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![alpn.to_vec()];
    let name = "umlhost".try_into().unwrap();
    let mut connection = ClientConnection::new(Arc::new(config), name).unwrap();
    while connection.is_handshaking() {
        connection.complete_io(&mut stream)?;
    }
    Ok(Tls(StreamOwned::new(connection, stream), false))
}

fn exporter(tls: &Tls) -> Vec<u8> {
    let secret = vec![0; BINDING_LENGTH];
    let exported = tls
        .0
        .conn
        .export_keying_material(secret, BINDING_LABEL, None);
    exported.unwrap()
}

fn log_in_within(tls: Tls, binding: &[u8]) -> Result<Authenticated<Tls>, LoginError> {
    let login = Login {
        vm: "vm1",
        key: &Key::from_password("master"),
        seal: true,
        binding,
    };
    authenticate(tls, &login)
}

fn connect(vm: &Vm<'_>, way: Way, certificate: &CertificateDer<'static>) -> Tls {
    handshake(connection(vm, way, LOCALHOST), certificate, b"sunrpc").unwrap()
}

#[test]
fn tls_goes_from_end_to_end() {
    let Some((world, certificate)) = world_with("allow") else {
        return;
    };
    let vm = world.vm("vm1").monitor();
    for way in Way::BOTH {
        let tls = connect(&vm, way, &certificate);
        let binding = exporter(&tls);
        let admitted = log_in_within(tls, &binding).unwrap();
        let mut client = UmlmonctrlV1Client::new(admitted.stream);
        client.rpc.seal(admitted.seal.unwrap());
        // More than fits into any buffer on the way, taken late.
        let tickets: Vec<_> = (0..200).map(|_| client.send_vm_info().unwrap()).collect();
        for ticket in tickets {
            let info = client.rpc.wait(ticket).unwrap().into_result().unwrap();
            assert_eq!(info.vm, "vm1");
        }
    }
    // Who does not want it is let in, too.
    assert!(log_in(&vm, Way::Tcp, "master").is_ok());
    let log = fs::read_to_string(vm.file("log/monitor")).unwrap();
    assert_eq!(log.matches("sealed, with TLS").count(), 2, "{log}");
    // Both clients have gone without the goodbye of TLS.
    let gone = wait_for("the end of both", || {
        let log = fs::read_to_string(vm.file("log/monitor")).unwrap();
        let gone = "the connection broke: the other side closed it without notice\n";
        (log.matches(gone).count() == 2).then_some(log)
    });
    assert!(!gone.contains("rustls"), "{gone}");
    // A certificate that is renewed counts for the next connection.
    let renewed = certify(&world);
    connect(&vm, Way::Tcp, &renewed);
    let stream = connection(&vm, Way::Tcp, LOCALHOST);
    assert!(handshake(stream, &certificate, b"sunrpc").is_err());
}

/// A30
#[test]
fn whoever_stands_between_two_tls_connections_does_not_get_through() {
    let Some((world, certificate)) = world_with("allow") else {
        return;
    };
    let vm = world.vm("vm1").monitor();
    // He has the client's proof, which is bound to the connection between those two.
    let other = exporter(&connect(&vm, Way::Tcp, &certificate));
    for binding in [other.as_slice(), b""] {
        let refused = log_in_within(connect(&vm, Way::Tcp, &certificate), binding);
        assert!(matches!(refused, Err(LoginError::Disproved(_))));
    }
    // Nor does TLS begin with what came before it, or for another purpose.
    let mut stream = connection(&vm, Way::Tcp, LOCALHOST);
    let mut probe = call(UMLMONAUTH, 0, &[]);
    probe[31] = 7;
    stream.write_all(&[probe, vec![0x16]].concat()).unwrap();
    assert_eq!(until_closed(stream), b"");
    let stream = connection(&vm, Way::Tcp, LOCALHOST);
    assert!(handshake(stream, &certificate, b"h2").is_err());
}

#[test]
fn tls_can_be_required_or_off() {
    let Some((world, certificate)) = world_with("require") else {
        return;
    };
    let vm = world.vm("vm1").monitor();
    let tls = connect(&vm, Way::Tcp, &certificate);
    let binding = exporter(&tls);
    assert!(log_in_within(tls, &binding).is_ok());
    match log_in(&vm, Way::Tcp, "master") {
        Err(LoginError::Refused(why)) => assert!(why.text.contains("TLS"), "{}", why.text),
        _ => panic!("without TLS"),
    }
    world.change_global("tls = require", "tls = off");
    let mut stream = connection(&vm, Way::Redir, LOCALHOST);
    assert!(!start_tls(&mut stream).unwrap());
    // A key that others can read is not used.
    world.change_global("tls = off", "tls = allow");
    let key = world.path().join("key.pem");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o640)).unwrap();
    let mut stream = connection(&vm, Way::Tcp, LOCALHOST);
    assert!(!start_tls(&mut stream).unwrap());
    let refused = world.vm("vm2").configure().start_monitor();
    let message = refused.fails(1);
    assert!(
        message.contains("others than root can read it"),
        "{message}"
    );
}

/// A65
#[test]
fn strangers_do_not_let_the_monitor_read_all_the_time() {
    let Some((world, certificate)) = world_with("allow") else {
        return;
    };
    let line = format!("# {}\n", "x".repeat(998));
    let vm = world.vm("vm1").monitor();
    let mut file = fs::File::options()
        .append(true)
        .open(world.configuration())
        .unwrap();
    file.write_all(line.repeat(950).as_bytes()).unwrap();
    let read = || {
        let counted = fs::read_to_string(format!("/proc/{}/io", vm.monitor_pid())).unwrap();
        let bytes = counted
            .lines()
            .find_map(|line| line.strip_prefix("rchar: "));
        bytes.unwrap().parse::<u64>().unwrap()
    };
    // What is read while a stranger shakes hands, and one logs in.
    let visit = || {
        let before = read();
        connect(&vm, Way::Tcp, &certificate);
        assert!(log_in(&vm, Way::Tcp, "master").is_ok());
        read() - before
    };
    let whole = 900 << 10;
    let once = || {
        wait_for("it is not read any more", || {
            (visit() < whole).then_some(())
        })
    };
    // As long as the file has only just been written, it could change once more without being seen to.
    once();
    let visits: u64 = (0..30).map(|_| visit()).sum();
    assert!(visits < whole, "{visits} bytes");
    file.write_all(b"\n").unwrap();
    assert!(visit() > whole, "it is another one now");
    once();
}
