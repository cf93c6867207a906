//! The command line of umldir, for the program and for what makes completions of it (umldir, cargo xtask).

use cli::{Program, Section, Word};

/// The words of the command line.
pub const PROGRAM: Program = Program {
    name: "umldir",
    about: "Directory service of the monitors on this host, and redirector to them",
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
    manual: include_str!("../../../man/umldir.8"),
};
