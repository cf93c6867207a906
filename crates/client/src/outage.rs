//! A connection to a monitor that broke, and the attempts to connect again. A VM can outlive its monitor, and another
//! one takes it over: after the death of the monitor, or when its program is replaced (`umladmin upgrade`). Runs in the
//! clients.

use std::time::{Duration, Instant};

use cli::{Exit, Failure};
use rpc_xdr::client::ClientError;

use crate::call::broken;
use crate::stream::Connection;

/// How long a monitor that is gone may take to come back.
const PATIENCE: Duration = Duration::from_secs(30);
/// The same if it perhaps has ended as it was told to: its VM was down, or its socket has been removed. If both are
/// so, it has; but an idle monitor may be replaced, too, and a new one removes the socket before it makes its own.
const LITTLE_PATIENCE: Duration = Duration::from_secs(2);
/// How long each attempt to connect may take.
const ATTEMPT: Duration = Duration::from_secs(3);
/// Between two attempts: a tenth of the time that it has lasted, but not less and not more than this. A monitor that is
/// back keeps only so much of what a guest writes meanwhile.
const PAUSES: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(500));
/// An outage that is shorter is told only when it is over.
const UNNOTICED: Duration = Duration::from_secs(1);

/// The time from the loss of a connection until calls are answered again.
#[derive(Debug)]
pub struct Outage {
    /// How the connection broke: the failure if the monitor does not come back.
    why: Failure,
    since: Instant,
    limit: Duration,
    is_down: bool,
    next: Instant,
    told: bool,
    told_back: bool,
}

impl Outage {
    /// Of a connection that has just broken. `is_down`: the VM has ended before.
    ///
    /// # Errors
    /// [`broken`] if it did not break: connecting again is of no use.
    pub fn begin(error: ClientError, is_down: bool) -> Result<Outage, Failure> {
        let is_lost = matches!(error, ClientError::Lost(_));
        let why = broken(error);
        if !is_lost {
            return Err(why);
        }
        let now = Instant::now();
        Ok(Outage {
            why,
            since: now,
            limit: PATIENCE,
            is_down,
            next: now,
            told: false,
            told_back: false,
        })
    }

    /// How the connection broke.
    pub fn why(&self) -> &Failure {
        &self.why
    }

    /// How long to wait until the next attempt.
    pub fn waits(&self) -> Duration {
        self.next.saturating_duration_since(Instant::now())
    }

    /// An attempt by `connect`, which gets its time limit, unless it is too early for it; None if there is no
    /// connection yet. `has_left`: the monitor has probably ended as it was told to.
    ///
    /// # Errors
    /// How the connection broke, if the monitor does not come back in time; that the password is no longer accepted.
    pub(crate) fn attempt(
        &mut self,
        has_left: bool,
        connect: impl FnOnce(Duration) -> Result<Connection, Failure>,
    ) -> Result<Option<Connection>, Failure> {
        if !self.waits().is_zero() {
            return Ok(None);
        }
        self.limit = match (has_left, self.is_down) {
            (true, true) => Duration::ZERO,
            (true, false) | (false, true) => LITTLE_PATIENCE,
            (false, false) => PATIENCE,
        };
        if self.since.elapsed() >= self.limit {
            return Err(self.why.clone());
        }
        self.next = Instant::now() + (self.since.elapsed() / 10).clamp(PAUSES.0, PAUSES.1);
        match connect(ATTEMPT) {
            Ok(connection) => Ok(Some(connection)),
            Err(failure) if failure.exit == Exit::NotAuthorised => Err(failure),
            Err(_) => Ok(None),
        }
    }

    /// Whether the user should be told now that there is a connection again; once.
    pub fn is_back(&mut self) -> bool {
        !std::mem::replace(&mut self.told_back, true)
    }

    /// Whether the user should be told now that it lasts; once.
    pub fn is_noticed(&mut self) -> bool {
        let lasts = self.limit == PATIENCE && self.since.elapsed() >= UNNOTICED;
        lasts && !std::mem::replace(&mut self.told, true)
    }
}
