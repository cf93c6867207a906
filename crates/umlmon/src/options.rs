//! The command line of umlmon, for the program and for the generator of its completions (umlmon, cargo xtask).

use cli::{Arg, Kind, Program, Section, Word};

use crate::upgrade::{CAN_ADOPT, IN_PLACE};

/// The words of the command line.
pub const PROGRAM: Program = Program {
    name: "umlmon",
    about: "Monitor daemon of one virtual machine",
    synopsis: &["[OPTIONS] VM"],
    sections: &[
        Section {
            heading: "Options",
            words: &[
                Word::new(
                    "fg",
                    None,
                    "Stays in the foreground and logs to the terminal",
                ),
                Word::new("boot", None, "Also boots the VM if it has start = boot"),
            ],
        },
        Section {
            heading: "For another monitor",
            words: &[
                Word::new(
                    CAN_ADOPT,
                    Some(Arg::new("FORMAT", Kind::Value)),
                    "Says by its exit status whether it takes over a VM with a record of this format",
                ),
                Word::new(
                    IN_PLACE,
                    None,
                    "Goes on in the process of the monitor that executes it",
                ),
            ],
        },
    ],
    modes: &[],
    operand: Some(Arg::VM),
    notes: "Without -boot the VM's kernel is not started; umlwatch VM -start does that.",
    manual: include_str!("../../../man/umlmon.8"),
};
