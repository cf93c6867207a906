//! The server under orderly and under hostile clients, over a pair of sockets.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::rc::Rc;
use std::time::Duration;

use rpc_xdr::client::{Client, ClientError, Rejection};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::sync::Notify;
use tokio::task::{JoinHandle, LocalSet};

use crate::kit::*;
use crate::mutations::Random;
use crate::server::{Limits, ServeError, serve_one};

/// Events that a test waits for.
#[derive(Default)]
struct Events {
    begun: Cell<u32>,
    sessions_ended: Cell<u32>,
    changed: Notify,
    /// Lets waiting calls go on, by their number.
    released: RefCell<Vec<i32>>,
}

impl Events {
    async fn until(&self, condition: impl Fn(&Self) -> bool) {
        while !condition(self) {
            self.changed.notified().await;
        }
    }

    fn release(&self, number: i32) {
        self.released.borrow_mut().push(number);
        self.changed.notify_waiters();
    }
}

struct Session(Rc<Events>);

impl Drop for Session {
    fn drop(&mut self) {
        self.0.sessions_ended.set(self.0.sessions_ended.get() + 1);
        self.0.changed.notify_waiters();
    }
}

#[derive(Default)]
struct Service(Rc<Events>);

impl KitV1 for Service {
    type Session = Session;

    async fn kit_echo(&self, _: &Session, args: KitAll) -> KitAll {
        args
    }

    /// Waits until the number is released, unless it is positive.
    async fn kit_add(&self, session: &Session, number: i32, _: KitName) -> i32 {
        session.0.begun.set(session.0.begun.get() + 1);
        session.0.changed.notify_waiters();
        if number <= 0 {
            self.0
                .until(|events| events.released.borrow().contains(&number))
                .await;
        }
        number
    }

    async fn kit_swallow(&self, _: &Session, _: KitNames) {}

    /// Does not end at once, so several of them run.
    async fn kit_data(&self, session: &Session, args: u32) -> KitData {
        tokio::task::yield_now().await;
        session.0.begun.set(session.0.begun.get() + 1);
        vec![7; args.min(65537) as usize]
    }
}

/// A server and its end of the connection.
struct World {
    events: Rc<Events>,
    client: UnixStream,
    served: JoinHandle<Result<(), ServeError>>,
}

impl World {
    fn new(limits: Limits) -> Self {
        let events = Rc::new(Events::default());
        let (client, stream) = UnixStream::pair().unwrap();
        let service = Rc::new(Service(Rc::clone(&events)));
        let session = Session(Rc::clone(&events));
        let served = tokio::task::spawn_local(serve_kit_v1(stream, service, session, limits));
        Self {
            events,
            client,
            served,
        }
    }

    /// Sends calls; gives the reply to each, in the order of arrival, without the marks.
    async fn exchange(&mut self, calls: &[Vec<u8>]) -> Vec<Vec<u8>> {
        self.client.write_all(&calls.concat()).await.unwrap();
        let mut replies = Vec::new();
        for _ in calls {
            replies.push(self.reply().await);
        }
        replies
    }

    async fn reply(&mut self) -> Vec<u8> {
        let mark = self.client.read_u32().await.unwrap();
        let mut reply = vec![0; (mark & 0x7fff_ffff) as usize];
        self.client.read_exact(&mut reply).await.unwrap();
        reply
    }

    /// Sends what must make the server close the connection; gives why it did.
    async fn closed_by(mut self, bytes: &[u8]) -> ServeError {
        // The server may close before it has read everything.
        let _ = self.client.write_all(bytes).await;
        let mut rest = Vec::new();
        let _ = self.client.read_to_end(&mut rest).await;
        let error = self.served.await.unwrap().unwrap_err();
        assert_eq!(self.events.sessions_ended.get(), 1);
        error
    }
}

/// Runs a test with a deadline.
fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let test = async {
        tokio::time::timeout(Duration::from_secs(30), test)
            .await
            .expect("the deadline passed")
    };
    LocalSet::new().block_on(&runtime, test);
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_be_bytes()).collect()
}

fn record(data: &[u8]) -> Vec<u8> {
    [
        words(&[0x8000_0000 | u32::try_from(data.len()).unwrap()]),
        data.to_vec(),
    ]
    .concat()
}

/// A call with credentials AUTH_NONE.
fn call(xid: u32, procedure: u32, args: &[u8]) -> Vec<u8> {
    record(
        &[
            &words(&[xid, 0, 2, KIT, KIT_V1, procedure, 0, 0, 0, 0]),
            args,
        ]
        .concat(),
    )
}

fn add(xid: u32, number: i32) -> Vec<u8> {
    call(xid, 2, &[number.to_be_bytes(), [0; 4]].concat())
}

/// The reply of acceptance with `status` and what belongs to it.
fn accepted(xid: u32, rest: &[u32]) -> Vec<u8> {
    words(&[&[xid, 1, 0, 0, 0], rest].concat())
}

#[test]
fn calls_are_answered_as_rfc_5531_says() {
    run(async {
        let mut world = World::new(KIT_V1_LIMITS);
        let header = |version, program, program_version| {
            words(&[9, 0, version, program, program_version, 0, 0, 0, 0, 0])
        };
        let cases = [
            (call(1, 0, b""), accepted(1, &[0])),
            (add(2, 5), accepted(2, &[0, 5])),
            (call(3, 99, b""), accepted(3, &[3])),
            (call(4, 2, b"\0\0\0\x01"), accepted(4, &[4])),
            (call(5, 2, b"\0\0\0\x01\0\0\0\0\0\0\0\0"), accepted(5, &[4])),
            (
                call(6, 2, b"\0\0\0\x01\0\0\0\x0a1234567890\0\0"),
                accepted(6, &[4]),
            ),
            (call(7, 0, &[0; 4]), accepted(7, &[4])),
            (call(8, 3, &[0xff; 4]), accepted(8, &[4])),
            (record(&header(2, KIT + 1, 1)), accepted(9, &[1])),
            (record(&header(2, KIT, 7)), accepted(9, &[2, 1, 1])),
            (record(&header(3, KIT, 1)), words(&[9, 1, 1, 0, 2, 2])),
            // More than the interface allows the service to give.
            (call(10, 4, &words(&[65537])), accepted(10, &[5])),
        ];
        for (call, reply) in cases {
            assert_eq!(world.exchange(&[call]).await, [reply]);
        }
        drop(world.client);
        world.served.await.unwrap().unwrap();
    });
}

#[test]
fn a_call_may_come_in_fragments_and_with_credentials() {
    run(async {
        let mut world = World::new(KIT_V1_LIMITS);
        let null = call(1, 0, b"");
        let data = &null[4..];
        let cut = [
            &words(&[8]),
            &data[..8],
            &words(&[16]),
            &data[8..24],
            &words(&[0x8000_0000 | 16]),
            &data[24..],
        ];
        assert_eq!(world.exchange(&[cut.concat()]).await, [accepted(1, &[0])]);
        // AUTH_SYS: stamp, machine "abc", uid, gid, no further groups.
        let auth = words(&[
            2,
            0,
            2,
            KIT,
            1,
            0,
            1,
            24,
            1,
            3,
            u32::from_be_bytes(*b"abc\0"),
            0,
            0,
            0,
            0,
            0,
        ]);
        assert_eq!(world.exchange(&[record(&auth)]).await, [accepted(2, &[0])]);
    });
}

/// A call with credentials and a verifier of so many bytes each, of any flavor.
fn with_auth(xid: u32, bytes: u32) -> Vec<u8> {
    let auth = [words(&[99, bytes]), vec![0xff; bytes as usize]].concat();
    record(&[&words(&[xid, 0, 2, KIT, KIT_V1, 0])[..], &auth, &auth].concat())
}

/// I17
#[test]
fn credentials_and_verifier_may_have_400_bytes() {
    run(async {
        let mut world = World::new(KIT_V1_LIMITS);
        for bytes in [0, 200, 204, 400] {
            let reply = world.exchange(&[with_auth(bytes, bytes)]).await;
            assert_eq!(reply, [accepted(bytes, &[0])], "{bytes}");
        }
        // AUTH_SYS whose machine has a name of 255 bytes, and no further groups.
        let name = [words(&[0, 255]), [&[b'm'; 255][..], &[0]].concat()].concat();
        let auth = [words(&[1, 4 + 4 + 256 + 12]), name, words(&[0; 3])].concat();
        let call = [words(&[1, 0, 2, KIT, KIT_V1, 0]), auth, words(&[0, 0])].concat();
        assert_eq!(world.exchange(&[record(&call)]).await, [accepted(1, &[0])]);
        let error = world.closed_by(&with_auth(2, 404)).await;
        assert!(matches!(error, ServeError::NoCall(_)), "{error}");
    });
}

#[test]
fn a_single_call_is_taken_and_not_a_byte_more() {
    run(async {
        let events = Rc::new(Events::default());
        let service = Rc::new(Service(Rc::clone(&events)));
        let session = Rc::new(Session(events));
        let (mut client, mut stream) = UnixStream::pair().unwrap();
        let call = add(1, 5);
        let cut = [
            words(&[5]),
            call[4..9].to_vec(),
            record(&call[9..]),
            b"behind it".to_vec(),
        ];
        client.write_all(&cut.concat()).await.unwrap();
        let limits = KIT_V1_LIMITS.record;
        let serve = serve_one::<KitV1Program, _, _>(&mut stream, &service, &session, &limits);
        assert!(serve.await.unwrap());
        let mut reply = vec![0; 4 + 28];
        client.read_exact(&mut reply).await.unwrap();
        assert_eq!(reply, record(&accepted(1, &[0, 5])));
        let mut rest = [0; 9];
        stream.read_exact(&mut rest).await.unwrap();
        assert_eq!(&rest, b"behind it");

        // What is too long is refused when it is announced, and an end in the midst of a call is an end.
        for (bytes, closed) in [(words(&[0x7fff_ffff]), false), (call[..9].to_vec(), true)] {
            let (mut client, mut stream) = UnixStream::pair().unwrap();
            client.write_all(&bytes).await.unwrap();
            client.shutdown().await.unwrap();
            let serve = serve_one::<KitV1Program, _, _>(&mut stream, &service, &session, &limits);
            match serve.await {
                Ok(answered) => assert!(closed && !answered),
                Err(error) => assert!(!closed && matches!(error, ServeError::Record(_))),
            }
        }
    });
}

#[test]
fn what_is_no_call_closes_the_connection() {
    run(async {
        let too_much_auth = [
            words(&[1, 0, 2, KIT, 1, 0, 0, 4000]),
            vec![0; 4000],
            words(&[0, 0]),
        ]
        .concat();
        let bad: [(&str, Vec<u8>); 9] = [
            ("7fffffff bytes announced", words(&[0x7fff_ffff])),
            ("ffffffff bytes announced", words(&[0xffff_ffff])),
            ("empty fragments", vec![0; 4000]),
            ("fragments of one byte", b"\0\0\0\x01x".repeat(100)),
            ("credentials of 4000 bytes", record(&too_much_auth)),
            ("a reply", record(&accepted(1, &[0]))),
            (
                "an unknown type of message",
                record(&words(&[1, 2, 2, KIT, 1, 0, 0, 0, 0, 0])),
            ),
            ("half a header", record(&words(&[1, 0, 2, KIT]))),
            ("nothing", record(b"")),
        ];
        for (what, bytes) in bad {
            let error = World::new(KIT_V1_LIMITS).closed_by(&bytes).await;
            assert!(
                matches!(error, ServeError::Record(_) | ServeError::NoCall(_)),
                "{what}: {error}"
            );
        }
    });
}

#[test]
fn damaged_calls_never_panic_the_server() {
    run(async {
        let mut random = Random::new();
        let mut alive = 0;
        for _ in 0..2_000 {
            let mut world = World::new(KIT_V1_LIMITS);
            let mut bytes = [call(1, 0, b""), add(2, 1), call(3, 4, &words(&[9]))].concat();
            random.damage(&mut bytes);
            let _ = world.client.write_all(&bytes).await;
            world.client.shutdown().await.unwrap();
            alive += u32::from(world.served.await.unwrap().is_ok());
            assert_eq!(world.events.sessions_ended.get(), 1);
        }
        assert!(alive > 100);
    });
}

#[test]
fn long_calls_do_not_delay_others() {
    run(async {
        let mut world = World::new(KIT_V1_LIMITS);
        world
            .client
            .write_all(&[add(1, -1), add(2, -2), add(3, 3)].concat())
            .await
            .unwrap();
        assert_eq!(world.reply().await, accepted(3, &[0, 3]));
        world.events.release(-2);
        assert_eq!(world.reply().await, accepted(2, &[0, 0xffff_fffe]));
        world.events.release(-1);
        assert_eq!(world.reply().await, accepted(1, &[0, 0xffff_ffff]));
    });
}

#[test]
fn at_most_sixteen_calls_run_at_once() {
    run(async {
        let mut world = World::new(KIT_V1_LIMITS);
        let calls: Vec<_> = (1..=40).map(|xid| add(xid, -1)).collect();
        world.client.write_all(&calls.concat()).await.unwrap();
        world.events.until(|events| events.begun.get() == 16).await;
        tokio::task::yield_now().await;
        assert_eq!(world.events.begun.get(), 16);
        world.events.release(-1);
        for _ in 0..40 {
            world.reply().await;
        }
        assert_eq!(world.events.begun.get(), 40);
    });
}

#[test]
fn a_client_that_does_not_read_is_not_served_on() {
    run(async {
        let mut world = World::new(KIT_V1_LIMITS);
        let calls: Vec<u8> = (1..=500)
            .flat_map(|xid| call(xid, 4, &words(&[65536])))
            .collect();
        world.client.write_all(&calls).await.unwrap();
        world.events.until(|_| true).await;
        for _ in 0..1000 {
            tokio::task::yield_now().await;
        }
        // Those in the buffer of the socket, and a few.
        assert!(
            world.events.begun.get() < 10,
            "{} calls were carried out",
            world.events.begun.get()
        );
        for xid in 1..=500 {
            let reply = world.reply().await;
            assert_eq!(reply.get(..4).unwrap(), words(&[xid]));
            assert_eq!(reply.len(), 28 + 65536 - 4 + 4);
        }
    });
}

#[test]
fn the_end_of_a_client_ends_its_calls_and_session() {
    run(async {
        let mut world = World::new(KIT_V1_LIMITS);
        let calls: Vec<u8> = (1..=20).flat_map(|xid| add(xid, -1)).collect();
        world.client.write_all(&calls).await.unwrap();
        world.events.until(|events| events.begun.get() == 16).await;
        assert_eq!(world.events.sessions_ended.get(), 0);
        drop(world.client);
        world
            .events
            .until(|events| events.sessions_ended.get() == 1)
            .await;
        world.served.await.unwrap().unwrap();
        assert_eq!(
            Rc::strong_count(&world.events),
            1,
            "a call has been left behind"
        );
    });
}

#[test]
fn dropping_the_server_side_ends_calls_and_session() {
    run(async {
        let mut world = World::new(KIT_V1_LIMITS);
        world.client.write_all(&add(1, -1)).await.unwrap();
        world.events.until(|events| events.begun.get() == 1).await;
        world.served.abort();
        world
            .events
            .until(|events| events.sessions_ended.get() == 1)
            .await;
        assert_eq!(world.client.read(&mut [0; 4]).await.unwrap(), 0);
    });
}

#[test]
fn idle_connections_end_but_waiting_calls_do_not() {
    run(async {
        tokio::time::pause();
        let limits = Limits {
            idle: Some(Duration::from_secs(1)),
            ..KIT_V1_LIMITS
        };
        let error = World::new(limits).served.await.unwrap().unwrap_err();
        assert!(matches!(error, ServeError::Idle));

        let mut world = World::new(limits);
        world.client.write_all(&add(1, -1)).await.unwrap();
        world.events.until(|events| events.begun.get() == 1).await;
        tokio::time::advance(Duration::from_secs(5)).await;
        world.events.release(-1);
        world.reply().await;
        // One byte now and then is no call.
        for byte in add(2, 1) {
            let _ = world.client.write_all(&[byte]).await;
            tokio::time::advance(Duration::from_millis(100)).await;
            tokio::task::yield_now().await;
        }
        assert!(matches!(world.served.await.unwrap(), Err(ServeError::Idle)));
    });
}

#[test]
fn a_timeout_is_no_loss() {
    with_client(|mut client| {
        let slow = client.send_kit_add(0, "").unwrap();
        client
            .rpc
            .stream()
            .set_read_timeout(Some(Duration::from_millis(1)))
            .unwrap();
        assert!(matches!(client.rpc.wait(slow), Err(ClientError::TimedOut)));
        client.rpc.stream().set_read_timeout(None).unwrap();
        assert_eq!(client.kit_add(1, "").unwrap(), 1);
        assert_eq!(client.rpc.wait(slow).unwrap(), 0);
    });
}

#[test]
fn an_idle_connection_is_small() {
    let (_, stream) = tokio::io::duplex(1);
    let session = Session(Rc::default());
    let serving = serve_kit_v1(stream, Rc::new(Service::default()), session, KIT_V1_LIMITS);
    assert!(
        size_of_val(&serving) < 1024,
        "{} bytes",
        size_of_val(&serving)
    );
}

/// Runs the blocking client in a thread of its own against a server here.
fn with_client(test: impl FnOnce(KitV1Client<std::os::unix::net::UnixStream>) + Send + 'static) {
    run(async {
        let world = World::new(KIT_V1_LIMITS);
        let stream = world.client.into_std().unwrap();
        stream.set_nonblocking(false).unwrap();
        let thread = std::thread::spawn(move || test(KitV1Client::new(stream)));
        // Calls with a number of 0 are released once there are two of them.
        world.events.until(|events| events.begun.get() >= 2).await;
        world.events.release(0);
        world.served.await.unwrap().unwrap();
        thread.join().unwrap();
    });
}

#[test]
fn the_client_calls_and_pipelines() {
    with_client(|mut client| {
        let names = vec!["ä".to_owned(); 2];
        client.kit_swallow(&names).unwrap();
        assert_eq!(client.kit_add(3, "three").unwrap(), 3);
        assert_eq!(client.kit_data(65536).unwrap(), vec![7; 65536]);
        let first = client.send_kit_add(0, "").unwrap();
        let second = client.send_kit_add(4, "").unwrap();
        let mut sum = 0;
        for _ in 0..2 {
            let reply = client.rpc.recv().unwrap();
            // In either order: the first waits until there are two calls.
            let ticket = if first.matches(&reply) { first } else { second };
            sum += ticket.result(&reply).unwrap();
        }
        assert_eq!(sum, 4);
    });
}

#[test]
fn the_client_keeps_replies_to_other_calls() {
    with_client(|mut client| {
        let slow = client.send_kit_add(0, "").unwrap();
        let fast = client.send_kit_add(1, "").unwrap();
        assert_eq!(client.rpc.wait(slow).unwrap(), 0);
        let reply = client.rpc.next_reply().unwrap().unwrap();
        assert!(fast.matches(&reply));
        assert_eq!(fast.result(&reply).unwrap(), 1);
        assert!(client.rpc.next_reply().unwrap().is_none());
    });
}

#[test]
fn the_client_tells_errors_apart() {
    with_client(|mut client| {
        assert!(matches!(
            client.kit_add(1, "ten letters"),
            Err(ClientError::Arguments(_))
        ));
        assert_eq!(client.kit_add(1, "nine").unwrap(), 1);
        let refused = client.kit_data(65537);
        assert!(
            matches!(refused, Err(ClientError::Rejected(Rejection::SystemError))),
            "{refused:?}"
        );
        let stream = client.rpc.stream();
        let mut other = KitV2Client {
            rpc: Client::new(stream.try_clone().unwrap(), KIT, KIT_V2),
        };
        let refused = other.kit_nothing();
        assert!(
            matches!(
                refused,
                Err(ClientError::Rejected(Rejection::ProgramMismatch {
                    low: 1,
                    high: 1
                }))
            ),
            "{refused:?}"
        );
        client
            .rpc
            .stream()
            .shutdown(std::net::Shutdown::Both)
            .unwrap();
        assert!(matches!(client.kit_add(1, ""), Err(ClientError::Lost(_))));
    });
}
