//! What a trial of `kernelcheck` finds (umladmin).

use serde_json::{Value, json};

/// What was found, in words; an error is why it does not work.
pub(super) type Found = Result<String, String>;

/// Whether a VM can use something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Works,
    /// It should not be used, and need not be.
    Beware,
    Fails,
    /// The kernel does not have it; VMs do without.
    Lacks,
}

impl Verdict {
    pub(super) fn word(self) -> &'static str {
        match self {
            Verdict::Works => "works",
            Verdict::Beware => "beware",
            Verdict::Fails => "fails",
            Verdict::Lacks => "lacks",
        }
    }
}

/// What was found out about one thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Trial {
    /// The thing.
    pub(super) what: &'static str,
    pub(super) verdict: Verdict,
    /// In words.
    pub(super) found: String,
}

impl Trial {
    pub(super) fn of(what: &'static str, found: Found) -> Trial {
        let (verdict, found) = match found {
            Ok(found) => (Verdict::Works, found),
            Err(why) => (Verdict::Fails, why),
        };
        Trial {
            what,
            verdict,
            found,
        }
    }

    /// Of something that VMs need not use: what does not work should not be used.
    pub(super) fn unless(what: &'static str, found: Found) -> Trial {
        match found {
            Ok(found) => Trial::of(what, Ok(found)),
            Err(why) => Trial {
                what,
                verdict: Verdict::Beware,
                found: format!("do not use it: {why}"),
            },
        }
    }

    /// Of something that this kernel does not have.
    pub(super) fn lacking(what: &'static str, why: &str) -> Trial {
        Trial {
            what,
            verdict: Verdict::Lacks,
            found: why.to_owned(),
        }
    }

    pub(super) fn json(&self) -> Value {
        json!({"what": self.what, "verdict": self.verdict.word(), "found": self.found})
    }
}
