//! Which clients are let in over the network: passwords, the rules of `[GLOBAL]`, and what is logged about it (umlmon,
//! the monitor process).

use std::cell::{Cell, RefCell};
use std::fmt::{self, Display};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use config::{AuthPolicy, Config, Password, SealPolicy, TlsPolicy, Vm};
use rpc_xdr::auth::Key;
use rpc_xdr::pake::Verifier;
use rpc_xdr::server;
use rpc_xdr::umlmonctrl::{AuthBeginArgs, AuthStartArgs, CtlCode, CtlError};

use tokio::time::Instant;

use super::names::is_this_host;
use crate::passwords::{Attempt, Passwords, Which};
use crate::setup::Setup;
use crate::shares::Caller;

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
    passwords: Rc<Passwords>,
    /// When the last failed authentication was logged, and how many have not been since then.
    noted: Cell<(Option<Instant>, u64)>,
}

impl Gatekeeper {
    /// Of a VM with these passwords.
    pub fn new(setup: Rc<Setup>, passwords: Rc<Passwords>) -> Gatekeeper {
        Gatekeeper {
            setup,
            passwords,
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
    /// Which passwords are tried, for the log.
    tried: RefCell<Vec<Which>>,
    /// Once there is one, until it is known how it ended.
    attempt: RefCell<Option<Attempt>>,
    /// It was a wrong one, and has been written down.
    counted: Cell<bool>,
}

impl<'a> Gate<'a> {
    /// For a client.
    pub fn new(keeper: &'a Gatekeeper, source: Source, tls: bool) -> Self {
        Gate {
            keeper,
            source,
            tls,
            tried: RefCell::default(),
            attempt: RefCell::default(),
            counted: Cell::new(false),
        }
    }

    /// The client has been let in with the password of this number.
    pub fn passed(&self, password: usize, sealed: bool) {
        if let Some(attempt) = self.attempt.take() {
            attempt.right();
        }
        let tried = self.tried.borrow();
        tracing::info!(
            "accepted {}: {}, {}, {}",
            self.source,
            match tried.get(password) {
                Some(Which::Master) => "the master password",
                _ => "the password of the VM",
            },
            if sealed { "sealed" } else { "not sealed" },
            if self.tls { "with TLS" } else { "without TLS" },
        );
    }

    /// If the client has tried a password in vain, counts and writes that down.
    pub fn count(&self) {
        if let Some(attempt) = self.attempt.take() {
            let count = attempt.wrong();
            tracing::warn!(
                "rejected {}: wrong password, attempt {count} from this address",
                self.source
            );
            self.counted.set(true);
        }
    }

    /// Whether that has been written down.
    pub fn was_counted(&self) -> bool {
        self.counted.get()
    }

    /// Whom attempts are counted for.
    fn who(&self) -> Caller {
        Caller::Source(daemon::source(self.source.address.ip()))
    }

    /// Refuses a source whose penalty is not over.
    fn patience(&self) -> Result<(), CtlError> {
        let wait = self.keeper.passwords.wait(self.who());
        wait.map_or(Ok(()), |text| Err(error(CtlCode::Busy, text)))
    }

    /// The configuration is read anew, so that a change of the password counts at once.
    fn load(&self) -> Result<(Vm, Config), CtlError> {
        let config = Config::load(&self.keeper.setup.configured.file)
            .and_then(|config| Ok((config.vm(self.keeper.setup.name())?, config)));
        config.map_err(|fault| {
            self.keeper.note(self.source, &fault);
            error(CtlCode::Failed, "the configuration of the VM has errors")
        })
    }

    /// What the rules say about the way in which the client asks.
    fn rules(&self, config: &Config, vm: &str) -> Result<(), CtlError> {
        if vm != self.keeper.setup.name().as_str() {
            return Err(error(
                CtlCode::NotFound,
                "this is the monitor of another VM",
            ));
        }
        if config.global.tls == TlsPolicy::Require && !self.tls {
            return refused("only connections with TLS are accepted");
        }
        Ok(())
    }

    /// No client is let in if no password is set.
    fn is_set(vm: &Vm, config: &Config) -> Result<(), CtlError> {
        match vm.password.is_some() || config.global.password.is_some() {
            true => Ok(()),
            false => {
                refused("no password is set for this VM, so it cannot be reached from other hosts")
            }
        }
    }

    fn verifier(
        &self,
        which: Which,
        configured: Option<&Password>,
    ) -> Result<Rc<Verifier>, CtlError> {
        let verifier = self.keeper.passwords.verifier(which, configured);
        verifier.ok_or_else(|| {
            let text = "a password in the configuration is a faulty verifier";
            self.keeper.note(self.source, &text);
            error(CtlCode::Failed, "the configuration of the VM has errors")
        })
    }
}

impl server::Gate for Gate<'_> {
    async fn keys(&self, begin: &AuthBeginArgs) -> Result<Vec<Key>, CtlError> {
        self.patience()?;
        let (vm, config) = self.load()?;
        self.rules(&config, &begin.vm)?;
        if config.global.auth == AuthPolicy::Strong {
            return refused("only logins of version 2 are accepted (auth = strong)");
        }
        if config.global.seal == SealPolicy::Require && !begin.seal {
            return refused("only clients that seal their calls are accepted");
        }
        Self::is_set(&vm, &config)?;
        let passwords = [
            (vm.password, Which::Vm),
            (config.global.password, Which::Master),
        ];
        let sum = |password| match password {
            Some(Password::Md5(sum)) => Some(Key::from_md5(sum)),
            _ => None,
        };
        let (keys, tried): (Vec<_>, Vec<_>) = passwords
            .into_iter()
            .filter_map(|(password, which)| Some((sum(password)?, which)))
            .unzip();
        self.tried.replace(tried);
        match keys.is_empty() {
            true => refused("the password is kept as a verifier, for logins of version 2 only"),
            false => Ok(keys),
        }
    }

    async fn verifiers(&self, start: &AuthStartArgs) -> Result<[Rc<Verifier>; 2], CtlError> {
        self.patience()?;
        let (vm, config) = self.load()?;
        self.rules(&config, &start.vm)?;
        if !is_this_host(&start.host, start.address, &config.global.host_names) {
            return refused(&format!(
                "this host does not know that it is called {0}; if it is, its administrator sets host_name = {0} in [GLOBAL]",
                start.host
            ));
        }
        Self::is_set(&vm, &config)?;
        self.tried.replace(vec![Which::Vm, Which::Master]);
        Ok([
            self.verifier(Which::Vm, vm.password.as_ref())?,
            self.verifier(Which::Master, config.global.password.as_ref())?,
        ])
    }

    fn attempt(&self) -> Result<(), CtlError> {
        let attempt = self.keeper.passwords.attempt(self.who());
        let attempt = attempt.map_err(|text| error(CtlCode::Busy, text))?;
        self.attempt.replace(Some(attempt));
        Ok(())
    }

    async fn failed(&self) -> CtlError {
        self.count();
        tokio::time::sleep(DELAY).await;
        error(CtlCode::NotAuthorised, "wrong password")
    }
}

fn error(code: CtlCode, text: impl Into<String>) -> CtlError {
    let text = text.into();
    CtlError { code, text }
}

fn refused<T>(text: &str) -> Result<T, CtlError> {
    Err(error(CtlCode::NotAuthorised, text))
}
