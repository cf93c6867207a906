//! The command line of umlweb, for the program and for what makes completions of it (umlweb, cargo xtask).

use cli::{Program, Section, Word};

/// The words of the command line.
pub const PROGRAM: Program = Program {
    name: "umlweb",
    about: "Web interface to the VMs of this host",
    synopsis: &["[OPTIONS]"],
    sections: &[Section {
        heading: "Options",
        words: &[Word::new(
            "fg",
            None,
            "Stays in the foreground and logs to the terminal",
        )],
    }],
    modes: &[],
    operand: None,
    notes: "",
    manual: include_str!("../../../man/umlweb.8"),
};
