//! Another host that is only played: its directory service, its redirector, and the monitor of vm1 on a TCP port.

use std::cell::Cell;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use fake_monitor::Service;
use rpc_xdr::auth::{BINDING_LABEL, BINDING_LENGTH, Key};
use rpc_xdr::pake::Verifier;
use rpc_xdr::server::{Asked, Door, DoorError, Gate, serve, serve_sealed};
use rpc_xdr::umldir::*;
use rpc_xdr::umlmonctrl::*;
use rustls::ServerConfig;
use rustls::pki_types::PrivatePkcs8KeyDer;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::spawn_local;
use tokio_rustls::TlsAcceptor;

use crate::monitor::Monitor;

/// What is odd about a host, or rather not.
#[derive(Debug, Clone)]
pub(crate) struct Manners {
    /// None: no client is let in.
    pub(crate) password: Option<&'static str>,
    /// The monitor listens on TCP.
    pub(crate) tcp: bool,
    /// It says so, but nobody is there.
    pub(crate) blocked: bool,
    /// There is a redirector.
    pub(crate) redirector: bool,
    /// Who answers for the monitor does not know the password.
    pub(crate) impostor: bool,
    /// The address has failed too often.
    pub(crate) penalty: bool,
    /// TLS is offered.
    pub(crate) tls: bool,
}

impl Default for Manners {
    fn default() -> Manners {
        Manners {
            password: Some("secret"),
            tcp: true,
            blocked: false,
            redirector: true,
            impostor: false,
            penalty: false,
            tls: false,
        }
    }
}

/// The host, until dropped; it is reached as 127.0.0.1.
pub(crate) struct Host {
    pub(crate) monitor: Monitor,
    ca: PathBuf,
    /// Whether TLS is offered from now on.
    tls: Arc<AtomicBool>,
}

fn listen() -> (StdListener, SocketAddr) {
    let listener = StdListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

impl Host {
    pub(crate) fn start(manners: Manners) -> Host {
        let (umldir, known) = listen();
        let (redirector, known_redirector) = listen();
        let (direct, _) = listen();
        let certificate = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        let tls = Arc::new(AtomicBool::new(manners.tls));
        let offered = Arc::clone(&tls);
        let acceptor = acceptor(&certificate);
        let monitor = Monitor::with_front("what was before\n", move |service| {
            let to_std = |listener| TcpListener::from_std(listener).unwrap();
            let host = Rc::new(Played {
                port: match (manners.tcp, manners.blocked) {
                    (false, _) => 0,
                    (true, false) => direct.local_addr().unwrap().port(),
                    // No process listens on a port that was given back.
                    (true, true) => listen().1.port(),
                },
                redirector: if manners.redirector {
                    known_redirector.port()
                } else {
                    0
                },
                manners,
                service,
                tls: acceptor,
                offered,
            });
            let (umldir, redirector, direct) = (to_std(umldir), to_std(redirector), to_std(direct));
            spawn_local(Rc::clone(&host).serve_umldir(umldir));
            spawn_local(Rc::clone(&host).serve_redirector(redirector));
            spawn_local(host.serve_direct(direct));
        });
        let config = monitor.home().join("umlmon");
        let text = std::fs::read_to_string(&config).unwrap();
        let ports = format!(
            "[GLOBAL]\numldir_port = {}\numlredir_port = {}\n",
            known.port(),
            known_redirector.port()
        );
        std::fs::write(config, text.replace("[GLOBAL]\n", &ports)).unwrap();
        let ca = monitor.home().join("ca.pem");
        std::fs::write(&ca, certificate.cert.pem()).unwrap();
        Host { monitor, ca, tls }
    }

    /// The certificate that vouches for it.
    pub(crate) fn ca(&self) -> &str {
        self.ca.to_str().unwrap()
    }

    /// From now on, TLS is offered or not.
    pub(crate) fn offer_tls(&self, offered: bool) {
        self.tls.store(offered, Ordering::SeqCst);
    }

    /// umlwatch with `@127.0.0.1` and the right password from a file.
    pub(crate) fn with_password(&self, args: &[&str]) -> Command {
        let file = self.monitor.home().join("password");
        write_private(&file, "secret\n");
        let mut command = self
            .monitor
            .umlwatch(&["-password-file", file.to_str().unwrap()]);
        command.args(args);
        command.env_remove("XDG_STATE_HOME");
        command
    }

    /// umlwatch on a terminal of its own session, as passwords are asked for on that.
    pub(crate) fn on_terminal(&self, args: &[&str]) -> Command {
        let inner = self.monitor.umlwatch(args);
        let mut command = Command::new("setsid");
        command
            .args(["--ctty", "--wait"])
            .arg(inner.get_program())
            .args(inner.get_args());
        command
            .env("HOME", self.monitor.home())
            .env("TERM", "vt100");
        command.env_remove("XDG_STATE_HOME");
        command
    }
}

pub(crate) fn write_private(path: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

fn acceptor(certificate: &rcgen::CertifiedKey<rcgen::KeyPair>) -> TlsAcceptor {
    let key = PrivatePkcs8KeyDer::from(certificate.signing_key.serialize_der());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.cert.der().clone()], key.into())
        .unwrap();
    config.alpn_protocols = vec![b"sunrpc".to_vec()];
    TlsAcceptor::from(Arc::new(config))
}

/// What all connections share.
struct Played {
    manners: Manners,
    port: u16,
    redirector: u16,
    service: Rc<Service>,
    tls: TlsAcceptor,
    offered: Arc<AtomicBool>,
}

thread_local! {
    /// The number of the next session; those of the local socket are low.
    static NEXT: Cell<u32> = const { Cell::new(1000) };
}

impl Played {
    async fn serve_umldir(self: Rc<Self>, listener: TcpListener) {
        while let Ok((stream, _)) = listener.accept().await {
            spawn_local(serve_umldir_v1(
                stream,
                Rc::clone(&self),
                (),
                UMLDIR_V1_LIMITS,
            ));
        }
    }

    async fn serve_direct(self: Rc<Self>, listener: TcpListener) {
        while let Ok((stream, _)) = listener.accept().await {
            let served = spawn_local(Rc::clone(&self).serve_monitor(stream));
            self.service.hold(&served);
        }
    }

    async fn serve_redirector(self: Rc<Self>, listener: TcpListener) {
        while let Ok((mut stream, _)) = listener.accept().await {
            let host = Rc::clone(&self);
            let served = spawn_local(async move {
                if redirected(&mut stream).await {
                    host.service.note("redirected");
                    host.serve_monitor(stream).await;
                }
            });
            self.service.hold(&served);
        }
    }

    async fn serve_monitor(self: Rc<Self>, stream: TcpStream) {
        if self.manners.impostor {
            let _ = serve::<UmlmonauthV1Program, _, _>(
                stream,
                Rc::new(Impostor),
                (),
                UMLMONAUTH_V1_LIMITS,
            )
            .await;
            return;
        }
        let mut door = Door::new(stream);
        loop {
            match door.asked().await {
                Ok(Asked::Tls(xid)) if self.offered.load(Ordering::SeqCst) => {
                    let tcp = door.start_tls(xid).await.unwrap();
                    let Ok(tls) = self.tls.accept(tcp).await else {
                        return;
                    };
                    let binding = tls
                        .get_ref()
                        .1
                        .export_keying_material([0; BINDING_LENGTH], BINDING_LABEL, None)
                        .unwrap();
                    self.note("TLS");
                    return self.let_in(Door::new(tls), &binding).await;
                }
                Ok(Asked::Tls(xid)) => door.refuse_tls(xid).await.unwrap(),
                Ok(Asked::Begin(begin)) => return self.admit(door, begin, b"").await,
                Err(_) => return,
            }
        }
    }

    async fn let_in<IO: AsyncRead + AsyncWrite + Unpin>(&self, mut door: Door<IO>, binding: &[u8]) {
        if let Ok(Asked::Begin(begin)) = door.asked().await {
            self.admit(door, begin, binding).await;
        }
    }

    async fn admit<IO: AsyncRead + AsyncWrite + Unpin>(
        &self,
        door: Door<IO>,
        begin: rpc_xdr::server::Begin,
        binding: &[u8],
    ) {
        let admitted = match door.admit(begin, binding, self).await {
            Ok(admitted) => admitted,
            Err(DoorError::Refused(_)) => return self.note("refused"),
            Err(_) => return,
        };
        self.note("let in");
        self.service.proved.replace(Some(admitted.proved));
        let session = NEXT.replace(NEXT.get() + 1);
        let service = Rc::clone(&self.service);
        let limits = UMLMONCTRL_V1_LIMITS;
        let (stream, seal) = (admitted.stream, admitted.seal);
        let _ =
            serve_sealed::<UmlmonctrlV1Program, _, _>(stream, service, session, limits, seal).await;
    }

    fn note(&self, what: &str) {
        self.service.note(what);
    }
}

/// Answers a call of REDIRECT; whether it was for vm1.
async fn redirected(stream: &mut TcpStream) -> bool {
    use rpc_xdr::xdr::Pack as _;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut mark = [0; 4];
    stream.read_exact(&mut mark).await.unwrap();
    let length = u32::from_be_bytes(mark) & 0x7fff_ffff;
    let mut call = vec![0; length as usize];
    stream.read_exact(&mut call).await.unwrap();
    let known = call.ends_with(b"\0\0\0\x03vm1\0");
    // Accepted, without a verifier, successful.
    let mut reply = [&call[..4], &[0, 0, 0, 1], &[0; 16]].concat();
    let result = match known {
        true => DirResult::Ok,
        false => DirResult::Error(not_found()),
    };
    result.pack(&mut reply).unwrap();
    let mark = u32::try_from(reply.len()).unwrap() | 0x8000_0000;
    stream.write_all(&mark.to_be_bytes()).await.unwrap();
    stream.write_all(&reply).await.unwrap();
    known
}

fn not_found() -> DirError {
    DirError {
        code: DirCode::NotFound,
        text: "no monitor of this VM runs".into(),
    }
}

impl UmldirV1 for Played {
    type Session = ();

    async fn get_port(&self, _: &(), vm: DirName) -> GetPortResult {
        match (vm.as_str(), self.port) {
            ("vm1", 0) => GetPortResult::Error(DirError {
                code: DirCode::NoTcp,
                text: "TCP is not enabled for this VM".into(),
            }),
            ("vm1", port) => GetPortResult::Ok(DirPort { port: port.into() }),
            _ => GetPortResult::Error(not_found()),
        }
    }

    async fn vm_list(&self, _: &()) -> VmListResult {
        VmListResult::Ok(Vec::new())
    }

    async fn vm_register(&self, _: &(), _: VmRegisterArgs) -> DirResult {
        DirResult::Error(not_found())
    }

    async fn host_info(&self, _: &()) -> HostInfoResult {
        HostInfoResult::Ok(DirHost {
            redirector: self.redirector.into(),
            release: "0".into(),
        })
    }
}

fn refuse<T>(code: CtlCode, text: &str) -> Result<T, CtlError> {
    let text = text.into();
    Err(CtlError { code, text })
}

impl Gate for Played {
    async fn keys(&self, _: &AuthBeginArgs) -> Result<Vec<Key>, CtlError> {
        match self.manners.password {
            _ if self.manners.penalty => refuse(CtlCode::Busy, "this address has failed too often"),
            Some(password) => Ok(vec![Key::from_password(password)]),
            None => refuse(CtlCode::NotAuthorised, "no password is set for this VM"),
        }
    }

    async fn verifiers(&self, _: &AuthStartArgs) -> Result<[Rc<Verifier>; 2], CtlError> {
        match self.manners.password {
            _ if self.manners.penalty => refuse(CtlCode::Busy, "this address has failed too often"),
            Some(password) => {
                let key = Key::from_password(password);
                let verifier = Verifier::new(&key, AuthStretch::Argon2id);
                Ok([Verifier::unset(), verifier].map(Rc::new))
            }
            None => refuse(CtlCode::NotAuthorised, "no password is set for this VM"),
        }
    }

    fn attempt(&self) -> Result<(), CtlError> {
        Ok(())
    }

    async fn failed(&self) -> CtlError {
        refuse::<()>(CtlCode::NotAuthorised, "the password is wrong").unwrap_err()
    }
}

/// Lets any client in.
struct Impostor;

impl UmlmonauthV1 for Impostor {
    type Session = ();

    async fn auth_begin(&self, _: &(), _: AuthBeginArgs) -> AuthBeginResult {
        AuthBeginResult::Ok(AuthChallenge {
            server_nonce: [7; 16],
        })
    }

    async fn auth_prove(&self, _: &(), args: AuthProof) -> AuthProveResult {
        // What it has got is all that it knows.
        AuthProveResult::Ok(args)
    }
}
