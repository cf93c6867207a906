//! What somebody on the network tries who knows no password, or who sits on the wire of somebody who does.

use std::cell::RefCell;
use std::io::{self, Read, Write};
use std::rc::Rc;

use rpc_xdr::auth::Key;
use rpc_xdr::client::{Login, Stream, authenticate};
use rpc_xdr::umlmonctrl::*;

use crate::way::{LOCALHOST, Way, admitted, call, connection, until_closed};
use crate::world;

/// A29, A38
#[test]
fn nothing_can_be_called_before_authentication() {
    let Some(world) = world() else { return };
    let vm = world.vm("vm1").monitor();
    vm.start();
    let programs = [
        (UMLMONCTRL, UMLMONCTRL_V1_PROCEDURES),
        (UMLMONAUTH, UMLMONAUTH_V1_PROCEDURES),
    ];
    for (program, procedures) in programs {
        let numbers = procedures.iter().map(|procedure| procedure.number);
        for number in numbers.chain([0, 999]) {
            if (program, number) == (UMLMONAUTH, UMLMONAUTH_V1_PROCEDURES[0].number) {
                continue;
            }
            for way in Way::BOTH {
                // With arguments that some procedures would take, and with none.
                for arguments in [&[][..], &[0; 4], &[0; 20]] {
                    let mut stream = connection(&vm, way, LOCALHOST);
                    stream.write_all(&call(program, number, arguments)).unwrap();
                    let said = until_closed(stream);
                    assert_eq!(said, b"", "{program:x} {number} {way:?}");
                }
            }
        }
    }
    assert_eq!(vm.state(), "running");
    vm.umlwatch(&["-kill"]).ok();
}

/// A27, A28
#[test]
fn whatever_a_stranger_sends_only_closes_his_connection() {
    let Some(world) = world() else { return };
    let vm = world.vm("vm1").monitor();
    let mut witness = admitted(&vm, Way::Tcp, "master");
    let header = |words: &[u32]| -> Vec<u8> {
        let mark = 1 << 31 | u32::try_from(4 * words.len()).unwrap();
        let all = [mark].into_iter().chain(words.iter().copied());
        all.flat_map(u32::to_be_bytes).collect()
    };
    let begin = |vm: &[u8]| call(UMLMONAUTH, 1, &[vm, &[1; 16], &[0, 0, 0, 1]].concat());
    let bad: Vec<Vec<u8>> = vec![
        vec![0x7f, 0xff, 0xff, 0xff],
        vec![0xff, 0xff, 0xff, 0xff],
        vec![0x80, 0, 0x10, 1],
        vec![0; 4],
        [0, 0, 0, 1, 7].repeat(9),
        header(&[]),
        header(&[1, 1, 0, 0, 0, 0]),
        header(&[1, 0, 3, UMLMONAUTH, 1, 1, 0, 0, 0, 0]),
        header(&[1, 0, 2, UMLMONAUTH, 2, 1, 0, 0, 0, 0]),
        header(&[1, 0, 2, UMLMONAUTH, 1, 1, 9, 401, 0, 0]),
        header(&[1, 0, 2, UMLMONAUTH, 1, 1, 9, u32::MAX, 0, 0]),
        begin(&[0xff, 0xff, 0xff, 0xff]),
        begin(&[0, 0, 0, 65]),
        begin(&[0, 0, 0, 3, b'v', b'm', b'1', 1]),
        [begin(&[0, 0, 0, 3, b'v', b'm', b'1', 0]), vec![0; 44]].concat(),
        call(
            UMLMONAUTH,
            1,
            &[&[0, 0, 0, 0][..], &[1; 16], &[0, 0, 0, 2]].concat(),
        ),
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
    ];
    for bytes in bad {
        for way in Way::BOTH {
            let mut stream = connection(&vm, way, LOCALHOST);
            // It may be closed before everything is sent.
            let _ = stream.write_all(&bytes);
            assert_eq!(until_closed(stream), b"", "{way:?} {bytes:?}");
        }
    }
    assert!(witness.vm_info().is_ok());
}

/// A50: a page can make a browser send such things, and what a page chooses comes after the first line.
#[test]
fn a_browser_is_cut_off_at_its_first_bytes() {
    let Some(world) = world() else { return };
    let (asking, redirector) = (e2e::free_port(), e2e::free_port());
    world.global(&format!(
        "umldir_port = {asking}\numlredir_port = {redirector}"
    ));
    let _directory = e2e::Directory::start(&world);
    let vm = world.vm("vm1").monitor();
    let info = call(UMLMONCTRL, 1, &[]);
    let upgrade = "GET /console HTTP/1.1\r\nHost: rebound.example\r\nOrigin: http://rebound.example\r\n\
                   Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\r\n";
    let form = "POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: text/plain\r\n\
                Content-Length: 44\r\n\r\n";
    let requests = [
        b"GET ".to_vec(),
        upgrade.into(),
        [form.as_bytes(), &info].concat(),
        b"HEAD / HTTP/1.1\r\n\r\n".to_vec(),
        b"PUT / HTTP/1.1\r\n\r\n".to_vec(),
        b"OPTIONS * HTTP/1.1\r\n\r\n".to_vec(),
        b"CONNECT vm1:22 HTTP/1.1\r\n\r\n".to_vec(),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
        // TLS, before a word of HTTP: a record of 512 bytes, of which the first part is here.
        [
            &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..],
            &[7; 32],
        ]
        .concat(),
    ];
    for port in [crate::way::port(&vm), asking, redirector] {
        for request in &requests {
            let mut stream = std::net::TcpStream::connect((LOCALHOST, port)).unwrap();
            stream.set_read_timeout(Some(e2e::PATIENCE)).unwrap();
            // It may be closed before everything is sent.
            let _ = stream.write_all(request);
            let said = until_closed(stream);
            assert_eq!(said, b"", "{port} {}", request.escape_ascii());
        }
    }
    assert_eq!(vm.state(), "inactive");
}

/// What went over a connection, in both directions.
#[derive(Clone, Default)]
struct Wire(Rc<RefCell<Vec<Vec<u8>>>>);

/// A stream whose owner is listened to.
struct Tapped<S>(S, Wire);

impl<S: Read> Read for Tapped<S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl<S: Write> Write for Tapped<S> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.1.0.borrow_mut().push(buffer.to_vec());
        self.0.write(buffer)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl<S: Stream> Stream for Tapped<S> {}

/// A30
#[test]
fn what_was_overheard_is_of_no_use() {
    let Some(world) = world() else { return };
    let vm = world.vm("vm1").monitor();
    for way in Way::BOTH {
        let wire = Wire::default();
        let tapped = Tapped(connection(&vm, way, LOCALHOST), wire.clone());
        let login = Login {
            vm: "vm1",
            key: &Key::from_password("master"),
            seal: true,
            binding: b"",
        };
        let admitted = authenticate(tapped, &login).unwrap();
        let mut client = UmlmonctrlV1Client::new(admitted.stream);
        client.rpc.seal(admitted.seal.unwrap());
        client.vm_info().unwrap();
        let [begin, prove, info] = <[Vec<u8>; 3]>::try_from(wire.0.take()).unwrap();
        // The login again: the challenge is another one.
        let mut stream = connection(&vm, way, LOCALHOST);
        stream.write_all(&begin).unwrap();
        let mut challenge = [0; 48];
        stream.read_exact(&mut challenge).unwrap();
        stream.write_all(&prove).unwrap();
        let said = until_closed(stream);
        assert_eq!(said[28..32], [0, 0, 0, 1], "it is refused: {said:?}");
        // Its own challenge as an answer, and the challenge as a nonce.
        let mut stream = connection(&vm, way, LOCALHOST);
        let mut reflected = begin.clone();
        reflected[52..68].copy_from_slice(&challenge[32..48]);
        stream.write_all(&reflected).unwrap();
        stream.read_exact(&mut challenge).unwrap();
        stream
            .write_all(&call(UMLMONAUTH, 2, &challenge[32..48]))
            .unwrap();
        assert_eq!(until_closed(stream)[28..32], [0, 0, 0, 1]);
        // A call again, on its own connection and on another one.
        let mut other = authenticate(connection(&vm, way, LOCALHOST), &login).unwrap();
        other.stream.write_all(&info).unwrap();
        assert_eq!(until_closed(other.stream), b"");
        let mut fresh = authenticate(connection(&vm, way, LOCALHOST), &login).unwrap();
        fresh.stream.write_all(&call(UMLMONCTRL, 1, &[])).unwrap();
        assert_eq!(until_closed(fresh.stream), b"");
    }
}
