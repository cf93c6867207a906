//! Which clients are let in over the network: passwords, the rules of `[GLOBAL]`, and what is logged about it (umlmon,
//! the monitor process).

use std::cell::{Cell, RefCell};
use std::fmt::{self, Display};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use config::{AuthPolicy, Config, Global, Password, SealPolicy, TlsPolicy};
use rpc_xdr::auth::Key;
use rpc_xdr::pake::Verifier;
use rpc_xdr::server;
use rpc_xdr::umlmonctrl::{AuthBeginArgs, AuthStartArgs, CtlCode, CtlError};

use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;

use super::names::is_this_host;
use super::tls;
use crate::kept::Kept;
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

/// What the configuration says about clients of other hosts.
#[derive(Debug)]
struct Rules {
    /// The password of the VM.
    password: Option<Password>,
    global: Global,
}

/// What all attempts share.
pub struct Gatekeeper {
    setup: Rc<Setup>,
    passwords: Rc<Passwords>,
    rules: Kept<Rules>,
    tls: Kept<Option<TlsAcceptor>>,
    /// When the last failed authentication was logged, and how many have not been since then.
    noted: Cell<(Option<Instant>, u64)>,
}

impl Gatekeeper {
    /// Of a VM with these passwords.
    pub fn new(setup: Rc<Setup>, passwords: Rc<Passwords>) -> Gatekeeper {
        Gatekeeper {
            setup,
            passwords,
            rules: Kept::default(),
            tls: Kept::default(),
            noted: Cell::default(),
        }
    }

    /// What the configuration says now, so that a change of the password counts at once.
    fn rules(&self) -> Result<Rc<Rules>, config::Error> {
        let (file, name) = (&self.setup.configured.file, self.setup.name());
        self.rules.get(|marks| {
            marks.mark(file);
            let config = Config::load(file)?;
            marks.mark(&config.global.user_file(name));
            Ok(Rules {
                password: config.vm(name)?.password,
                global: config.global,
            })
        })
    }

    /// What accepts TLS connections now, as a certificate does not last long; None if the configuration says that there
    /// are none.
    ///
    /// # Errors
    /// If the configuration is faulty, or certificate or key cannot be used.
    pub fn acceptor(&self) -> anyhow::Result<Option<TlsAcceptor>> {
        let made = self.tls.get(|marks| {
            marks.mark(&self.setup.configured.file);
            let rules = self.rules()?;
            let files = [&rules.global.tls_certificate, &rules.global.tls_key];
            files
                .into_iter()
                .flatten()
                .for_each(|file| marks.mark(file));
            tls::acceptor(&rules.global)
        });
        made.map(|made| made.as_ref().clone())
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

    fn configuration(&self) -> Result<Rc<Rules>, CtlError> {
        self.keeper.rules().map_err(|fault| {
            self.keeper.note(self.source, &fault);
            error(CtlCode::Failed, "the configuration of the VM has errors")
        })
    }

    /// What the rules say about the way in which the client asks.
    fn judge(&self, rules: &Rules, vm: &str) -> Result<(), CtlError> {
        if vm != self.keeper.setup.name().as_str() {
            return Err(error(
                CtlCode::NotFound,
                "this is the monitor of another VM",
            ));
        }
        if rules.global.tls == TlsPolicy::Require && !self.tls {
            return refused("only connections with TLS are accepted");
        }
        Ok(())
    }

    /// No client is let in if no password is set.
    fn is_set(rules: &Rules) -> Result<(), CtlError> {
        match rules.password.is_some() || rules.global.password.is_some() {
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
        let rules = self.configuration()?;
        self.judge(&rules, &begin.vm)?;
        if rules.global.auth == AuthPolicy::Strong {
            return refused("only logins of version 2 are accepted (auth = strong)");
        }
        if rules.global.seal == SealPolicy::Require && !begin.seal {
            return refused("only clients that seal their calls are accepted");
        }
        Self::is_set(&rules)?;
        let passwords = [
            (&rules.password, Which::Vm),
            (&rules.global.password, Which::Master),
        ];
        let sum = |password: &Option<Password>| match password {
            Some(Password::Md5(sum)) => Some(Key::from_md5(*sum)),
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
        let rules = self.configuration()?;
        self.judge(&rules, &start.vm)?;
        if !is_this_host(&start.host, start.address, &rules.global.host_names) {
            return refused(&format!(
                "this host does not know that it is called {0}; if it is, its administrator sets host_name = {0} in [GLOBAL]",
                start.host
            ));
        }
        Self::is_set(&rules)?;
        self.tried.replace(vec![Which::Vm, Which::Master]);
        Ok([
            self.verifier(Which::Vm, rules.password.as_ref())?,
            self.verifier(Which::Master, rules.global.password.as_ref())?,
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
