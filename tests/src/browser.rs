//! umlweb of a world, and a browser that uses it, driven by the scripts in `tests/web` (the end-to-end tests).

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use rustix::process::{Pid, Signal, kill_process};
use xtask::browse::{CHROMIUM, browse, scripts};

use crate::world::read_pid;
use crate::{Directory, World, free_port, run, skip, wait_for};

/// A user of the host that no VM runs as.
const USER: &str = "daemon";
/// The master password.
pub const MASTER: &str = "the master of all";

/// umlweb and umldir of a world. They end with it.
pub struct Web<'w> {
    world: &'w World,
    /// The port at which it listens on 127.0.0.1.
    pub port: u16,
    scheme: &'static str,
}

impl<'w> Web<'w> {
    /// Starts both. None, and the test is noted as skipped, where there is no browser.
    ///
    /// # Panics
    /// If they cannot be started.
    pub fn start(world: &'w World) -> Option<Web<'w>> {
        Web::start_with(world, "http", |_| ())
    }

    /// The same in TLS, with a certificate that the host signs itself.
    ///
    /// # Panics
    /// As [`Web::start`].
    pub fn start_in_tls(world: &'w World) -> Option<Web<'w>> {
        Web::start_with(world, "https", |world| {
            let path = world.path().display();
            world.global(&format!(
                "web_certificate = {path}/web/cert.pem\nweb_key = {path}/web/key.pem"
            ));
            let said = world.umladmin(&["certificate", "web"]).ok();
            assert!(said.contains("for 127.0.0.1, valid for"), "{said}");
        })
    }

    fn start_with(
        world: &'w World,
        scheme: &'static str,
        prepare: impl FnOnce(&World),
    ) -> Option<Web<'w>> {
        let scripts = scripts();
        let needed = [Path::new(CHROMIUM), &scripts.join("node_modules")];
        if let Some(missing) = needed.into_iter().find(|path| !path.exists()) {
            let missing = missing.display();
            skip(&format!(
                "needs {missing} (Debian: apt-get install chromium; npm ci in tests/web)"
            ));
            return None;
        }
        // A user of the host other than root must reach the sockets in it.
        fs::set_permissions(world.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let [asking, redirector, port] = [free_port(), free_port(), free_port()];
        world.global(&format!(
            "tcp_redir = true\nlisten = 127.0.0.1\numldir_port = {asking}\numlredir_port = {redirector}\n\
             web_user = {USER}\nweb_listen = 127.0.0.1:{port}\npassword = {MASTER}"
        ));
        prepare(world);
        Directory::start(world);
        let web = Web {
            world,
            port,
            scheme,
        };
        web.begin();
        Some(web)
    }

    /// Starts umlweb.
    pub fn begin(&self) {
        run(&mut self.world.command("umlweb", &[])).ok();
    }

    /// Its process.
    ///
    /// # Panics
    /// If it does not run.
    pub fn pid(&self) -> Pid {
        read_pid(&self.pid_file()).expect("umlweb has a pid file")
    }

    /// Ends it by force.
    ///
    /// # Panics
    /// If it does not run.
    pub fn kill(&self) {
        let pid = self.pid();
        kill_process(pid, Signal::KILL).unwrap();
        wait_for("the end of umlweb", || {
            let proc = format!("/proc/{}", pid.as_raw_nonzero());
            (!Path::new(&proc).exists()).then_some(())
        });
    }

    /// What is in its log.
    ///
    /// # Panics
    /// If there is none.
    pub fn log(&self) -> String {
        fs::read_to_string(self.world.path().join("var/directory/web/log/umlweb")).unwrap()
    }

    fn pid_file(&self) -> PathBuf {
        self.world.path().join("run/_umlweb.pid")
    }

    /// Runs a script with the browser. A line `@WORD` that it prints is an order, which is carried out by `obey`; the
    /// script reads a line when it is done.
    ///
    /// # Panics
    /// If the script fails.
    #[track_caller]
    pub fn browse(&self, script: &str, args: &[&str], mut obey: impl FnMut(&str)) {
        let address = format!("{}://127.0.0.1:{}", self.scheme, self.port);
        let obey = |order: &str| {
            obey(order);
            Ok(())
        };
        browse(script, args, &address, MASTER, obey).unwrap();
    }
}

impl Drop for Web<'_> {
    fn drop(&mut self) {
        if let Some(pid) = read_pid(&self.pid_file()) {
            // It may have ended already.
            let _ = kill_process(pid, Signal::TERM);
            wait_for("the end of umlweb", || {
                let proc = format!("/proc/{}", pid.as_raw_nonzero());
                (!Path::new(&proc).exists()).then_some(())
            });
            // It has no right to remove what root has made for it.
            let _ = fs::remove_file(self.pid_file());
        }
    }
}
