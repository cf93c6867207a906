//! What the command lines of umlmon, umldir, umlwatch and umladmin share: a table of single-dash words that drives
//! parsing and help, the exit status, and output that shows nobody else's control characters.
//!
//! Why not clap: its options have two dashes and its matches forget the order, so it would need a translation of the
//! arguments before it, which must already know every word and which of them take a value, and a translation of its
//! messages after it. The first of these is a parser; this crate is that parser and its messages.
//!
//! A program is a [`Program`] constant and a call of [`main`]:
//!
//! ```
//! use cli::{Arg, Program, Section, Word};
//!
//! const PROGRAM: Program = Program {
//!     name: "umlmon",
//!     about: "The monitor of one virtual machine",
//!     synopsis: &["[OPTION]... VM"],
//!     sections: &[Section {
//!         heading: "Options",
//!         words: &[Word { name: "fg", arg: None, help: "Stays in the foreground" }],
//!     }],
//!     modes: &[],
//!     operand: Some(Arg::VM),
//!     notes: "",
//!     manual: include_str!("../../../man/umlmon.8"),
//! };
//!
//! let line = PROGRAM.parse(["-fg", "vm1"].map(Into::into)).unwrap();
//! let cli::Request::Run(line) = line else { panic!() };
//! assert!(line.has("fg"));
//! assert_eq!(line.one_operand(&PROGRAM, "VM").unwrap(), "vm1");
//! ```

mod arg;
mod exit;
mod help;
mod manual;
mod output;
mod run;
mod similar;
mod words;

pub use arg::{Arg, Kind};
pub use exit::{Exit, Failure, causes};
pub use help::entry;
pub use output::{Output, Visible, incomplete_at_end, printable};
pub use run::{main, resume};
pub use similar::similar;
pub use sys::ignores_hangup;
pub use words::{Given, Line, Program, Request, Section, Word};
