//! The public part of umlweb: its command line. The program itself is `main.rs`.

mod options;

pub use options::PROGRAM;
