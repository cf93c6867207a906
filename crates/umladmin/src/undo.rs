//! What undoes the steps by which a VM is made, if a later one fails, or a signal comes (umladmin).

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use cli::Failure;
use config::{Config, VmName};
use files::Tree;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::delete;
use crate::report::Report;
use crate::rewrite::Rewrite;

/// How long a monitor that has only just begun may take to end.
const END: Duration = Duration::from_secs(10);

/// Whether a signal has come that ends other programs.
pub(crate) struct Interruption(Arc<AtomicBool>);

impl Interruption {
    /// Watches from now on, to the end of the program.
    pub(crate) fn watch() -> io::Result<Interruption> {
        let come = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            signal_hook::flag::register(signal, Arc::clone(&come))?;
        }
        Ok(Interruption(come))
    }

    /// Whether to go on.
    pub(crate) fn is_none(&self) -> bool {
        !self.0.load(Ordering::Relaxed)
    }

    /// The same, as an error that ends the work.
    pub(crate) fn check(&self) -> Result<(), String> {
        match self.is_none() {
            true => Ok(()),
            false => Err("interrupted; nothing of it is left".to_owned()),
        }
    }
}

/// The section in the configuration. It is removed again, unless it is kept.
pub(crate) struct Section<'a> {
    config: Config,
    vm: VmName,
    report: &'a Report,
    is_kept: bool,
}

impl Section<'_> {
    /// Writes it. Also returns the configuration with it.
    pub(crate) fn write<'a>(
        rewrite: Rewrite,
        vm: &VmName,
        report: &'a Report,
    ) -> Result<(Section<'a>, Config), Failure> {
        let config = rewrite.finish(report)?;
        let section = Section {
            config: config.clone(),
            vm: vm.clone(),
            report,
            is_kept: false,
        };
        Ok((section, config))
    }

    pub(crate) fn keep(mut self) {
        self.is_kept = true;
    }

    fn remove(&self) -> Result<(), Failure> {
        let mut rewrite = Rewrite::begin(&self.config.path, false)?;
        // Somebody may have removed it in the meantime.
        if rewrite.document.remove(self.vm.as_str()).is_ok() {
            rewrite.finish(self.report)?;
        }
        Ok(())
    }
}

impl Drop for Section<'_> {
    fn drop(&mut self) {
        if !self.is_kept
            && let Err(failure) = self.remove()
        {
            let why = format!("its section is left: {}", failure.message);
            self.report.error(self.vm.as_str(), &why);
        }
    }
}

/// The directory of the VM with its monitor, which makes it. Both go again, unless they are kept.
pub(crate) struct Directory<'a> {
    config: &'a Config,
    vm: &'a VmName,
    report: &'a Report,
    is_kept: bool,
}

impl<'a> Directory<'a> {
    /// To be called before the monitor is started.
    pub(crate) fn begin(config: &'a Config, vm: &'a VmName, report: &'a Report) -> Directory<'a> {
        Directory {
            config,
            vm,
            report,
            is_kept: false,
        }
    }

    pub(crate) fn keep(mut self) {
        self.is_kept = true;
    }

    fn remove(&self) -> Result<(), Failure> {
        delete::bring_down(self.config, self.vm, END, &Report::quiet())?;
        let directory = self.config.global.vm_dir(self.vm);
        if directory.exists() {
            Tree::open(&directory).and_then(Tree::remove)?;
        }
        delete::forget(self.config, self.vm);
        Ok(())
    }
}

impl Drop for Directory<'_> {
    fn drop(&mut self) {
        if !self.is_kept
            && let Err(failure) = self.remove()
        {
            let directory = self.config.global.vm_dir(self.vm);
            let why = format!("{} is left: {}", directory.display(), failure.message);
            self.report.error(self.vm.as_str(), &why);
        }
    }
}
