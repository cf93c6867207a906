//! The ways to a monitor from elsewhere, as a client goes them.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;

use e2e::{PATIENCE, Vm};
use rpc_xdr::auth::Key;
use rpc_xdr::client::{Login, LoginError, Stream, authenticate};
use rpc_xdr::pake::Proved;
use rpc_xdr::umlmonctrl::*;
use rustix::net::{AddressFamily, SocketType, bind, connect, socket};

pub const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// How a connection comes to the monitor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// To its TCP port.
    Tcp,
    /// As the redirector forwards it.
    Redir,
}

impl Way {
    pub const BOTH: [Way; 2] = [Way::Tcp, Way::Redir];
}

/// The TCP port of a monitor.
pub fn port(vm: &Vm<'_>) -> u16 {
    let stream = UnixStream::connect(vm.file("ctrl")).unwrap();
    let answer = UmlmonctrlV1Client::new(stream).port_get().unwrap();
    answer.into_result().unwrap().port.try_into().unwrap()
}

/// A connection, about which the monitor knows nothing yet but where it comes from.
pub fn connection(vm: &Vm<'_>, way: Way, from: IpAddr) -> Box<dyn Stream + Send> {
    match way {
        Way::Tcp => Box::new(tcp(port(vm), from)),
        Way::Redir => {
            let mut stream = UnixStream::connect(vm.file("redir")).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            let address = match from {
                IpAddr::V4(address) => address.to_ipv6_mapped(),
                IpAddr::V6(address) => address,
            };
            let told = [&address.octets()[..], &4711u32.to_be_bytes()].concat();
            stream.write_all(&told).unwrap();
            Box::new(stream)
        }
    }
}

/// A TCP connection from one of the addresses of this host.
pub fn tcp(port: u16, from: IpAddr) -> TcpStream {
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    bind(&socket, &SocketAddr::new(from, 0)).unwrap();
    connect(&socket, &SocketAddr::new(LOCALHOST, port)).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// A client that has been let in.
pub struct Inside {
    pub client: UmlmonctrlV1Client<Box<dyn Stream + Send>>,
    pub server_nonce: AuthNonce,
}

pub fn log_in_from(
    vm: &Vm<'_>,
    way: Way,
    from: IpAddr,
    password: &str,
    seal: bool,
) -> Result<Inside, LoginError> {
    let login = Login {
        vm: vm.name(),
        key: &Key::from_password(password),
        seal,
        binding: b"",
    };
    let admitted = authenticate(connection(vm, way, from), &login)?;
    let mut client = UmlmonctrlV1Client::new(admitted.stream);
    if let Some(seal) = admitted.seal {
        client.rpc.seal(seal);
    }
    let Proved::V1(server_nonce) = admitted.proved else {
        panic!("another version");
    };
    Ok(Inside {
        client,
        server_nonce,
    })
}

pub fn log_in(vm: &Vm<'_>, way: Way, password: &str) -> Result<Inside, LoginError> {
    log_in_from(vm, way, LOCALHOST, password, true)
}

/// A client that must be let in.
#[track_caller]
pub fn admitted(
    vm: &Vm<'_>,
    way: Way,
    password: &str,
) -> UmlmonctrlV1Client<Box<dyn Stream + Send>> {
    match log_in(vm, way, password) {
        Ok(inside) => inside.client,
        Err(error) => panic!("{way:?}: {error}"),
    }
}

/// Whether a client is refused.
pub fn failed(vm: &Vm<'_>, way: Way, password: &str) -> bool {
    let refused = log_in(vm, way, password);
    matches!(
        refused,
        Err(LoginError::Refused(_) | LoginError::Disproved(_))
    )
}

/// A record with a call, without credentials.
pub fn call(program: u32, procedure: u32, arguments: &[u8]) -> Vec<u8> {
    let header = [1, 0, 2, program, 1, procedure, 0, 0, 0, 0];
    let mark = 1 << 31 | u32::try_from(4 * header.len() + arguments.len()).unwrap();
    let words = [mark].into_iter().chain(header);
    let mut record: Vec<u8> = words.flat_map(u32::to_be_bytes).collect();
    record.extend_from_slice(arguments);
    record
}

/// What the monitor says until it closes the connection.
///
/// # Panics
/// If it does not close it.
#[track_caller]
pub fn until_closed(mut stream: impl Read) -> Vec<u8> {
    let mut said = Vec::new();
    match stream.read_to_end(&mut said) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => panic!("it is not closed"),
        _ => said,
    }
}
