//! The daemon from its start to its end: the steps in the order that matters (umlweb).
//!
//! It begins as root, which it needs to read the key of its certificate, to listen on a low port and to take its locks.
//! Before it accepts the first connection it is the user `web_user` for good. The passwords of the configuration are
//! never in its memory.

use std::fs::{self, Permissions};
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use config::Global;
use daemon::{Account, Home, LogHandle, LogTo};
use files::LogDir;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::configuration;
use crate::serve;
use crate::settings::Settings;
use crate::tls;
use crate::web::Web;

/// The file of the log, in the directory `log` of the daemon.
const LOG: &str = "umlweb";
/// Bytes of it, when it is kept under another name, and a new one is begun.
const LOG_LIMIT: u64 = 10 << 20;

/// Runs the web interface. In the started program it returns when the daemon is ready; in the daemon, at its end.
///
/// # Errors
/// Whatever prevents the daemon from becoming ready, for the terminal.
pub fn run(config_path: &Path, foreground: bool) -> anyhow::Result<()> {
    if !rustix::process::geteuid().is_root() {
        bail!("must be started by root; it gives up all rights before it listens to anybody");
    }
    daemon::start_up()?;
    let global = configuration::read(config_path)?;
    let user = &global.web_user;
    let account = Account::find(user)
        .with_context(|| format!("there is no user {user:?}: make one, or set web_user"))?;
    let home = global.web();
    own_directories(&home, &account)?;
    let pid_files = Home::of_web(&global).take()?;
    let listener = listen(&global)?;
    let settings = Settings::new(&global, tls::server(&global)?);
    account
        .become_it()
        .context("cannot become the user web_user")?;
    let log = open_log(&home.join("log"), foreground)?;
    let readiness = daemon::background(foreground, &pid_files)?;
    // From here on this is the daemon: no thread may exist before.
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP])?;
    let shown = format!("{}://{}/", settings.scheme(), settings.listen);
    let web = Web::new(settings).map_err(|failure| anyhow::anyhow!(failure.message))?;
    let web = Arc::new(web);
    serve::begin(&web, listener).context("cannot start threads")?;
    tracing::info!(
        "web interface {} started at {shown}",
        env!("CARGO_PKG_VERSION")
    );
    readiness.ready()?;
    for signal in signals.forever() {
        if signal != SIGHUP || daemon::has_terminal() {
            break;
        }
        if let Err(error) = log.reopen() {
            tracing::error!("the old log stays in use: {error}");
        }
    }
    web.end();
    tracing::info!("web interface ended");
    Ok(())
}

/// Its directory, which is root's, and that of its log, which is its own.
fn own_directories(home: &Path, account: &Account) -> anyhow::Result<()> {
    let log = home.join("log");
    let make = || {
        fs::create_dir_all(&log)?;
        LogDir::open(home)?;
        chown(&log, Some(account.uid()), Some(account.gid()))?;
        fs::set_permissions(&log, Permissions::from_mode(0o750))
    };
    make().with_context(|| format!("cannot make the directory {}", log.display()))
}

fn listen(global: &Global) -> anyhow::Result<TcpListener> {
    let address = global.web_listen;
    TcpListener::bind(address)
        .with_context(|| format!("cannot listen on {address} (web_listen in [GLOBAL])"))
}

fn open_log(path: &Path, foreground: bool) -> anyhow::Result<LogHandle> {
    let directory = LogDir::open(path).with_context(|| format!("cannot use {}", path.display()))?;
    let to = LogTo {
        file: Some((directory, LOG.parse()?)),
        limit: LOG_LIMIT,
        stderr: foreground,
    };
    Ok(LogHandle::init("umlweb", to)?)
}
