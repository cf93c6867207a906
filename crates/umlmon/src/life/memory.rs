//! The memory that a guest has while it runs, and what the host gets back of it (umlmon, the monitor process).
//!
//! The kernel takes free pages from the guest, gives their memory to the host, and gives the pages back when it is told
//! (`config mem=` of its mconsole, arch/um/drivers/mconsole_kern.c). A page that is back takes memory of the host when
//! the guest uses it again. The kernel takes all that is free, if it is told to, and does not say how much it was: so
//! it is asked before, and some is left.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use guest_line::ToGuest;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::failure::Failure;
use crate::helper::Helper;
use crate::mconsole::{self, Mconsole};

/// How long the kernel may take to answer; it does nothing else while it takes or gives pages.
const DEADLINE: Duration = Duration::from_secs(10);
/// How long memory is taken to be given back.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long an answer is good enough for people and figures: a list of all VMs is not to wake up every guest each time.
const RECENT: Duration = Duration::from_secs(5);
/// How many megabytes it is told to take at once. That takes about a tenth of a second.
const STEP: u32 = 64;
/// How many megabytes are left to the guest, at least and at most; between them, a 16th of the memory.
const RESERVE: (u32, u32) = (8, 256);

/// The memory of one run of the kernel.
#[derive(Debug)]
pub struct Memory {
    mconsole: Rc<Mconsole>,
    helper: Rc<Helper>,
    /// Megabytes.
    configured: u32,
    /// How many of them the guest does not have.
    taken: Cell<u32>,
    /// What the guest has said last, and when.
    said: Cell<Option<(Instant, Meminfo)>>,
    /// One request at a time.
    turn: Mutex<()>,
}

/// What the guest's kernel says of its memory, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Meminfo {
    /// Not used for anything.
    pub free: u64,
    /// What programs can get without swapping.
    pub available: u64,
}

impl Memory {
    /// That of a kernel that was told `mem=` with so many megabytes.
    pub fn new(configured: u32, mconsole: Rc<Mconsole>, helper: Rc<Helper>) -> Memory {
        Memory {
            mconsole,
            helper,
            configured,
            taken: Cell::new(0),
            said: Cell::default(),
            turn: Mutex::default(),
        }
    }

    /// What the guest has, in megabytes.
    pub fn now(&self) -> u32 {
        self.configured.saturating_sub(self.taken.get())
    }

    /// What the guest has said in the last seconds, else what it says now. The kernel is asked at most for so long.
    ///
    /// # Errors
    /// If it does not answer, or says nothing of it.
    pub async fn recent(&self, deadline: Duration) -> Result<Meminfo, mconsole::Error> {
        match self.said.get() {
            Some((when, said)) if when.elapsed() < RECENT => Ok(said),
            _ => self.look(deadline).await,
        }
    }

    /// Asks the kernel, at most for so long.
    async fn look(&self, deadline: Duration) -> Result<Meminfo, mconsole::Error> {
        let text = self.mconsole.call("proc meminfo", deadline).await?;
        let said = Meminfo::parse(&text);
        let said = said.ok_or(mconsole::Error::Nonsense("no /proc/meminfo"))?;
        self.said.set(Some((Instant::now(), said)));
        Ok(said)
    }

    /// Takes or gives memory until the guest has so many megabytes. To be run to its end.
    ///
    /// # Errors
    /// If the guest uses too much; then nothing has changed. Those of the mconsole.
    pub async fn resize(&self, megabytes: u32) -> Result<(), Failure> {
        let _turn = self.turn.lock().await;
        let (now, configured) = (self.now(), self.configured);
        if megabytes > configured {
            return Err(Failure::Invalid(format!(
                "the VM was started with {configured} MB, and can have no more until its next start"
            )));
        }
        let Some(less) = now.checked_sub(megabytes).filter(|less| *less > 0) else {
            self.give(megabytes - now).await?;
            self.taken.set(configured - megabytes);
            return Ok(());
        };
        let mut spare = self.spare().await?;
        if spare < less {
            self.drop_caches().await;
            spare = self.spare().await?;
        }
        if spare < less {
            let least = now - spare;
            return Err(Failure::Failed(format!(
                "the guest uses too much of its {now} MB; it can have {least} MB now, and not less"
            )));
        }
        let (taken, told) = self.take(less).await;
        if told.is_err() && self.give(taken).await.is_ok() {
            return told;
        }
        self.taken.set(self.taken.get() + taken);
        told
    }

    /// Takes what the guest does not use, and gives it back: it is no memory of the host until the guest uses it again.
    /// To be run to its end.
    ///
    /// # Errors
    /// Those of the mconsole.
    pub async fn reclaim(&self) -> Result<(), Failure> {
        let _turn = self.turn.lock().await;
        self.drop_caches().await;
        let until = Instant::now() + PATIENCE;
        let mut borrowed = 0;
        let took = async {
            // The guest may use more meanwhile, and what it says need not be true.
            loop {
                let left = self.now().saturating_sub(borrowed);
                let step = self.spare().await?.min(STEP).min(left);
                if step == 0 || Instant::now() > until {
                    return Ok(());
                }
                let (taken, told) = self.take(step).await;
                borrowed += taken;
                told?;
            }
        };
        let took = took.await;
        let gave = self.give(borrowed).await;
        if gave.is_err() {
            self.taken.set(self.taken.get() + borrowed);
        }
        took.and(gave)
    }

    /// How many megabytes can be taken.
    async fn spare(&self) -> Result<u32, Failure> {
        let found = self.look(DEADLINE).await?;
        let (least, most) = RESERVE;
        let reserve = (self.configured / 16).clamp(least, most);
        let free = u32::try_from(found.free.min(found.available) >> 20).unwrap_or(u32::MAX);
        // What a guest says is not believed beyond what it has.
        Ok(free.min(self.now()).saturating_sub(reserve))
    }

    /// Returns how many were taken, or may have been: without an answer, that is not known.
    async fn take(&self, megabytes: u32) -> (u32, Result<(), Failure>) {
        let mut taken = 0;
        while taken < megabytes {
            let step = (megabytes - taken).min(STEP);
            let told = self.tell('-', step).await;
            if !matches!(told, Err(mconsole::Error::Refused { .. })) {
                taken += step;
            }
            if let Err(why) = told {
                return (taken, Err(why.into()));
            }
        }
        (taken, Ok(()))
    }

    async fn give(&self, megabytes: u32) -> Result<(), Failure> {
        if megabytes > 0 {
            self.tell('+', megabytes).await?;
        }
        Ok(())
    }

    async fn tell(&self, sign: char, megabytes: u32) -> Result<(), mconsole::Error> {
        let command = format!("config mem={sign}{megabytes}M");
        let told = self.mconsole.call(&command, DEADLINE).await;
        self.said.set(None);
        told.map(drop)
    }

    /// What the guest keeps of its disks is not free. Without a helper, it keeps that.
    async fn drop_caches(&self) {
        let told = self.helper.tell(&ToGuest::DropCaches, Duration::ZERO);
        if let Err(why) = told.await {
            tracing::debug!("the guest keeps its caches: {why}");
        }
    }
}

impl Meminfo {
    /// Reads the guest's `/proc/meminfo`.
    fn parse(text: &str) -> Option<Meminfo> {
        let bytes = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name))?;
            let kilobytes: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
            kilobytes.checked_mul(1024)
        };
        Some(Meminfo {
            free: bytes("MemFree:")?,
            available: bytes("MemAvailable:")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_says_is_read_and_nothing_else() {
        let text = "MemTotal:         246704 kB\nMemFree:          230288 kB\nMemAvailable:     229204 kB\n";
        let found = Meminfo {
            free: 230_288 << 10,
            available: 229_204 << 10,
        };
        assert_eq!(Meminfo::parse(text), Some(found));
        for bad in [
            "",
            "MemFree: 1 kB",
            "MemFree: 1\nMemAvailable: 1 kB",
            "MemFree: -1 kB\nMemAvailable: 1 kB",
            "MemFree: 18446744073709551615 kB\nMemAvailable: 1 kB",
        ] {
            assert_eq!(Meminfo::parse(bad), None, "{bad}");
        }
    }
}
