//! The command line of umlmon, for the program and for the generator of its completions (umlmon, cargo xtask).

use cli::{Arg, Program, Section, Word};

/// The words of the command line.
pub const PROGRAM: Program = Program {
    name: "umlmon",
    about: "Monitor daemon of one virtual machine",
    synopsis: &["[OPTIONS] VM"],
    sections: &[Section {
        heading: "Options",
        words: &[
            Word::new(
                "fg",
                None,
                "Stays in the foreground and logs to the terminal",
            ),
            Word::new("boot", None, "Also boots the VM if it has start = boot"),
        ],
    }],
    modes: &[],
    operand: Some(Arg::VM),
    notes: "Without -boot the VM's kernel is not started; umlwatch VM -start does that.",
    manual: include_str!("../../../man/umlmon.8"),
};
