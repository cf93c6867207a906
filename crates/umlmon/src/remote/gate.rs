//! Which clients are let in over the network: passwords, the rules of `[GLOBAL]`, penalties, and what is logged about
//! it (umlmon, the monitor process).

use std::cell::{Cell, RefCell};
use std::fmt::{self, Display};
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use config::{Config, SealPolicy, TlsPolicy};
use rpc_xdr::auth::Key;
use rpc_xdr::server;
use rpc_xdr::umlmonctrl::{AuthBeginArgs, CtlCode, CtlError};
use tokio::time::Instant;

use super::penalties::Penalties;
use crate::setup::Setup;

/// How often failed authentications are logged.
const NOTE_INTERVAL: Duration = Duration::from_secs(60);
/// How long the answer to a wrong password takes.
const DELAY: Duration = Duration::from_secs(1);

/// Where a client is.
#[derive(Debug, Clone, Copy)]
pub struct Source {
    /// Its address.
    pub address: SocketAddr,
    /// It came through umldir's redirector.
    pub redirected: bool,
}

impl Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (ip, port) = (self.address.ip(), self.address.port());
        let way = if self.redirected {
            " through the redirector"
        } else {
            ""
        };
        write!(f, "{ip} port {port}{way}")
    }
}

/// What all attempts share.
pub struct Gatekeeper {
    setup: Rc<Setup>,
    penalties: RefCell<Penalties>,
    /// When the last failed authentication was logged, and how many have not been since then.
    noted: Cell<(Option<Instant>, u64)>,
}

impl Gatekeeper {
    /// Without any attempt yet.
    pub fn new(setup: Rc<Setup>) -> Gatekeeper {
        Gatekeeper {
            setup,
            penalties: RefCell::default(),
            noted: Cell::default(),
        }
    }

    /// Logs that a client was not let in; in a flood, only now and then, with the number of the others.
    pub fn note(&self, source: Source, why: &dyn Display) {
        let (last, others) = self.noted.get();
        let now = Instant::now();
        if last.is_some_and(|last| now.saturating_duration_since(last) < NOTE_INTERVAL) {
            return self.noted.set((last, others + 1));
        }
        let others = match others {
            0 => String::new(),
            others => format!(" (and {others} others before)"),
        };
        tracing::info!("rejected {source}: {why}{others}");
        self.noted.set((Some(now), 0));
    }
}

/// One attempt of a client to be let in.
pub struct Gate<'a> {
    keeper: &'a Gatekeeper,
    source: Source,
    /// The client uses TLS.
    tls: bool,
    /// What each key is, for the log.
    names: RefCell<Vec<&'static str>>,
    /// How many attempts there have been from the same source, this one included, once it is one.
    attempts: Cell<u32>,
}

impl<'a> Gate<'a> {
    /// For a client.
    pub fn new(keeper: &'a Gatekeeper, source: Source, tls: bool) -> Self {
        Gate {
            keeper,
            source,
            tls,
            names: RefCell::default(),
            attempts: Cell::new(0),
        }
    }

    /// The client has been let in with the key of this number.
    pub fn passed(&self, key: usize, sealed: bool) {
        self.keeper.penalties.borrow_mut().forgive(self.counted());
        tracing::info!(
            "accepted {}: {}, {}, {}",
            self.source,
            self.names.borrow().get(key).unwrap_or(&"a password"),
            if sealed { "sealed" } else { "not sealed" },
            if self.tls { "with TLS" } else { "without TLS" },
        );
    }

    /// Whether the client has tried a password.
    pub fn was_tried(&self) -> bool {
        self.attempts.get() > 0
    }

    /// The source to which attempts are counted.
    fn counted(&self) -> IpAddr {
        daemon::source(self.source.address.ip())
    }

    /// Refuses a source whose penalty is not over.
    fn patience(&self) -> Result<(), CtlError> {
        let penalties = self.keeper.penalties.borrow();
        let wait = penalties.wait(self.counted(), Instant::now());
        wait.map_or(Ok(()), |wait| {
            let seconds = wait.as_secs() + 1;
            Err(error(
                CtlCode::Busy,
                format!(
                    "too many wrong passwords from your address; try again in {seconds} seconds"
                ),
            ))
        })
    }

    /// What the rules say about the way in which the client asks.
    fn rules(&self, config: &Config, begin: &AuthBeginArgs) -> Result<(), CtlError> {
        let refused = |text: &str| Err(error(CtlCode::NotAuthorised, text));
        if begin.vm != self.keeper.setup.name().as_str() {
            return Err(error(
                CtlCode::NotFound,
                "this is the monitor of another VM",
            ));
        }
        if config.global.tls == TlsPolicy::Require && !self.tls {
            return refused("only connections with TLS are accepted");
        }
        if config.global.seal == SealPolicy::Require && !begin.seal {
            return refused("only clients that seal their calls are accepted");
        }
        Ok(())
    }
}

impl server::Gate for Gate<'_> {
    /// The configuration is read anew, so that a change of the password is effective at once.
    async fn keys(&self, begin: &AuthBeginArgs) -> Result<Vec<Key>, CtlError> {
        self.patience()?;
        let config = Config::load(&self.keeper.setup.configured.file)
            .and_then(|config| Ok((config.vm(self.keeper.setup.name())?, config)));
        let (vm, config) = config.map_err(|fault| {
            self.keeper.note(self.source, &fault);
            error(CtlCode::Failed, "the configuration of the VM has errors")
        })?;
        self.rules(&config, begin)?;
        let passwords = [
            (vm.password, "the password of the VM"),
            (config.global.password, "the master password"),
        ];
        let (keys, names): (Vec<_>, Vec<_>) = passwords
            .into_iter()
            .filter_map(|(password, name)| Some((Key::from_md5(*password?.key()), name)))
            .unzip();
        self.names.replace(names);
        if keys.is_empty() {
            return Err(error(
                CtlCode::NotAuthorised,
                "no password is set for this VM, so it cannot be reached from other hosts",
            ));
        }
        Ok(keys)
    }

    fn attempt(&self) -> Result<(), CtlError> {
        self.patience()?;
        let mut penalties = self.keeper.penalties.borrow_mut();
        let count = penalties.count(self.counted(), Instant::now());
        self.attempts.set(count);
        Ok(())
    }

    async fn failed(&self) -> CtlError {
        tracing::warn!(
            "rejected {}: wrong password, attempt {} from this address",
            self.source,
            self.attempts.get()
        );
        tokio::time::sleep(DELAY).await;
        error(CtlCode::NotAuthorised, "wrong password")
    }
}

fn error(code: CtlCode, text: impl Into<String>) -> CtlError {
    let text = text.into();
    CtlError { code, text }
}
