//! An installation with a monitor that is played (crate `fake-monitor`), in a thread of the test.

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::rc::Rc;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use fake_monitor::{Manner, Recorder, Service};
use rpc_xdr::umlmonctrl::VmState;
use tempfile::TempDir;
use tokio::net::UnixListener;
use tokio::sync::oneshot;
use tokio::task::{LocalSet, spawn_local};

use crate::installation::{configuration, configuration_with, umlwatch};

/// What runs in the thread: it begins to serve the socket, and tells what it is asked.
type Serve = Box<dyn FnOnce(UnixListener, mpsc::Sender<String>) + Send>;

/// A configuration with one VM, and its monitor for as long as this lives.
pub(crate) struct Monitor {
    dir: TempDir,
    /// What it was asked, one line each.
    pub(crate) calls: mpsc::Receiver<String>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Monitor {
    /// Serving vm1, whose con0 said `history` before.
    pub(crate) fn start(history: &str) -> Monitor {
        Monitor::with_front(history, |_| ())
    }

    /// The same; `front` serves it to others, too.
    pub(crate) fn with_front(
        history: &str,
        front: impl FnOnce(Rc<Service>) + Send + 'static,
    ) -> Monitor {
        Monitor::within(configuration(), "var", playing(history, front))
    }

    /// The same, with a `vardir` of this name in the configuration.
    pub(crate) fn with_vardir(vardir: &str) -> Monitor {
        Monitor::within(configuration_with(vardir), vardir, playing("", |_| ()))
    }

    /// Refuses every call, and notes it with all of its arguments.
    pub(crate) fn recording() -> Monitor {
        let serve: Serve = Box::new(|listener, asked| {
            let recorder = Recorder::new(move |call| drop(asked.send(call)));
            spawn_local(Rc::new(recorder).serve(listener));
        });
        Monitor::within(configuration(), "var", serve)
    }

    fn within(dir: TempDir, vardir: &str, serve: Serve) -> Monitor {
        let (asked, calls) = mpsc::channel();
        let (stop, stopped) = oneshot::channel::<()>();
        // The name of a directory may be too long for an address.
        let short = dir.path().join("ctrl");
        let listener = std::os::unix::net::UnixListener::bind(&short).unwrap();
        std::fs::rename(short, dir.path().join(vardir).join("vm1/ctrl")).unwrap();
        listener.set_nonblocking(true).unwrap();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            LocalSet::new().block_on(&runtime, async {
                serve(UnixListener::from_std(listener).unwrap(), asked);
                let _ = stopped.await;
            });
        });
        Monitor {
            dir,
            calls,
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    /// umlwatch with this configuration.
    pub(crate) fn umlwatch(&self, args: &[&str]) -> Command {
        umlwatch(&self.dir, args)
    }

    /// Its ending with stdin empty.
    pub(crate) fn run(&self, args: &[&str]) -> Output {
        self.umlwatch(args).stdin(Stdio::null()).output().unwrap()
    }

    /// The configuration.
    pub(crate) fn config(&self) -> PathBuf {
        self.dir.path().join("umlmon")
    }

    /// The home directory of umlwatch.
    pub(crate) fn home(&self) -> PathBuf {
        self.dir.path().to_owned()
    }

    /// It ends without leaving: its socket is still there.
    pub(crate) fn die(&mut self) {
        drop(self.stop.take());
        self.thread.take().map(JoinHandle::join);
    }

    /// All of these, in whatever order it is asked.
    pub(crate) fn expect_all(&self, begins: &[&str]) {
        let mut missing = begins.to_vec();
        while !missing.is_empty() {
            let call = self.expect("");
            missing.retain(|begin| !call.starts_with(begin));
        }
    }

    /// The next thing it is asked that begins so.
    pub(crate) fn expect(&self, begin: &str) -> String {
        loop {
            let call = self
                .calls
                .recv_timeout(Duration::from_secs(20))
                .expect(begin);
            if call.starts_with(begin) {
                return call;
            }
        }
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        self.die();
    }
}

fn playing(history: &str, front: impl FnOnce(Rc<Service>) + Send + 'static) -> Serve {
    let history = history.as_bytes().to_vec();
    Box::new(move |listener, asked| {
        let note = move |call| drop(asked.send(call));
        let service = Service::new(Manner::Ignores, VmState::Running, history, note);
        let service = Rc::new(service);
        front(Rc::clone(&service));
        spawn_local(service.serve(listener));
    })
}
