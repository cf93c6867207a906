//! Who has logged in (umlweb).
//!
//! A session has the key of a password, in memory only. It ends when nobody has used it for a while, at a logout, and
//! with the process; the key is wiped then. The browser knows it by a cookie, and its pages by a token besides, which
//! no other page can read.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use config::VmName;
use daemon::source;
use rpc_xdr::auth::Key;

/// Without use for so long, a session ends.
pub const IDLE: Duration = Duration::from_secs(15 * 60);
/// Sessions at once, in all and of one source.
const MAX: usize = 256;
const MAX_FROM_ONE: usize = 32;
/// WebSockets of one session at once.
const MAX_SOCKETS: usize = 32;

/// What a login has opened.
pub struct Session {
    /// What pages of ours say with each request.
    pub token: String,
    /// The VM that was logged in to.
    pub vm: VmName,
    /// It was the master password: all VMs are open.
    pub master: bool,
    key: Key,
    from: SocketAddr,
    used: Mutex<Instant>,
    ended: AtomicBool,
    sockets: AtomicUsize,
}

/// A WebSocket of a session, until it is dropped.
pub struct Used(Arc<Session>);

/// All of them.
#[derive(Default)]
pub struct Sessions(Mutex<HashMap<String, Arc<Session>>>);

impl Session {
    /// Whether it may reach this VM. The monitor decides in any case.
    pub fn may(&self, vm: &VmName) -> bool {
        self.master || self.vm == *vm
    }

    /// The key of the password, for a connection to a monitor.
    pub fn key(&self) -> &Key {
        &self.key
    }

    /// Its user is there.
    pub fn touch(&self) {
        *self.used.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// Whether it has ended: whoever uses it must stop.
    pub fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Relaxed)
    }

    /// A place for one more WebSocket; None if there are too many.
    pub fn socket(self: &Arc<Self>) -> Option<Used> {
        let used = Used(Arc::clone(self));
        let before = self.sockets.fetch_add(1, Ordering::Relaxed);
        (before < MAX_SOCKETS).then_some(used)
    }

    fn is_idle(&self) -> bool {
        let used = *self.used.lock().unwrap_or_else(PoisonError::into_inner);
        used.elapsed() >= IDLE
    }
}

impl Used {
    /// The session.
    pub fn session(&self) -> &Arc<Session> {
        &self.0
    }
}

impl Drop for Used {
    fn drop(&mut self) {
        self.0.sockets.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Sessions {
    /// Begins one; gives what the cookie is to say. None if there are too many, or no random numbers.
    pub fn begin(
        &self,
        vm: VmName,
        key: Key,
        master: bool,
        from: SocketAddr,
    ) -> Option<(String, Arc<Session>)> {
        let (cookie, token) = (secret()?, secret()?);
        let mut all = self.lock();
        let one = source(from.ip());
        let from_one = all.values().filter(|it| source(it.from.ip()) == one);
        if all.len() >= MAX || from_one.count() >= MAX_FROM_ONE {
            return None;
        }
        let session = Arc::new(Session {
            token,
            vm,
            master,
            key,
            from,
            used: Mutex::new(Instant::now()),
            ended: AtomicBool::new(false),
            sockets: AtomicUsize::new(0),
        });
        all.insert(cookie.clone(), Arc::clone(&session));
        Some((cookie, session))
    }

    /// The session of a cookie.
    pub fn find(&self, cookie: &str) -> Option<Arc<Session>> {
        let found = self.lock().get(cookie).cloned();
        found.filter(|session| !session.is_idle())
    }

    /// Ends a session.
    pub fn end(&self, cookie: &str) {
        if let Some(session) = self.lock().remove(cookie) {
            session.ended.store(true, Ordering::Relaxed);
        }
    }

    /// Ends those that nobody has used for a while; or all of them, at the end of the program.
    pub fn sweep(&self, all: bool) {
        self.lock().retain(|_, session| {
            let goes = all || session.is_idle();
            session.ended.fetch_or(goes, Ordering::Relaxed);
            !goes
        });
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Arc<Session>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// 256 random bits, in hexadecimal; None if the host gives none.
pub fn secret() -> Option<String> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).ok()?;
    Some(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begin(sessions: &Sessions, master: bool, last: u8) -> Option<(String, Arc<Session>)> {
        let from = ([192, 0, 2, last], 1).into();
        let vm = "vm1".parse().unwrap();
        sessions.begin(vm, Key::from_password("a"), master, from)
    }

    #[test]
    fn a_cookie_opens_what_was_logged_in_to() {
        let sessions = Sessions::default();
        let (cookie, _) = begin(&sessions, false, 1).unwrap();
        let (other, _) = begin(&sessions, true, 1).unwrap();
        assert_ne!(cookie, other);
        let found = sessions.find(&cookie).unwrap();
        assert!(found.may(&"vm1".parse().unwrap()) && !found.may(&"vm2".parse().unwrap()));
        assert!(sessions.find(&other).unwrap().may(&"vm2".parse().unwrap()));
        assert!(sessions.find("").is_none() && sessions.find(&found.token).is_none());
        sessions.end(&cookie);
        assert!(sessions.find(&cookie).is_none() && found.has_ended());
    }

    #[test]
    fn one_that_nobody_uses_ends() {
        let sessions = Sessions::default();
        let (cookie, session) = begin(&sessions, false, 1).unwrap();
        sessions.sweep(false);
        assert!(sessions.find(&cookie).is_some());
        *session.used.lock().unwrap() = Instant::now().checked_sub(IDLE).unwrap();
        assert!(sessions.find(&cookie).is_none());
        sessions.sweep(false);
        assert!(session.has_ended());
        // Nobody else has the key.
        assert_eq!(Arc::strong_count(&session), 1);
    }

    #[test]
    fn one_source_cannot_have_all_of_them() {
        let sessions = Sessions::default();
        let count = (0..MAX)
            .filter(|_| begin(&sessions, false, 1).is_some())
            .count();
        assert_eq!(count, MAX_FROM_ONE);
        let (_, session) = begin(&sessions, false, 2).unwrap();
        let sockets: Vec<_> = std::iter::from_fn(|| session.socket()).collect();
        assert_eq!(sockets.len(), MAX_SOCKETS);
        drop(sockets);
        assert!(session.socket().is_some());
    }
}
