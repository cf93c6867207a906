//! Everything that reads bytes from others, as targets for fuzzing: each takes any bytes and must neither panic nor
//! break what it asserts.
//!
//! `cargo xtask test --tier fuzz` runs each for some seconds on a stable compiler, by the program `smoke`. For longer
//! runs, guided by coverage:
//!
//! ```text
//! cargo +nightly fuzz run --fuzz-dir tests/fuzz --features libfuzzer dispatch
//! ```

pub mod archive;
pub mod authentication;
pub mod configuration;
pub mod copy;
pub mod cow;
pub mod dispatch;
pub mod framer;
pub mod mconsole;
pub mod mutate;
pub mod reply;
pub mod screen;
pub mod seed;
pub mod user_changes;
pub mod web;

/// A target: its name, what it does with an input, and inputs to begin with.
pub type Target = (&'static str, fn(&[u8]), fn() -> Vec<Vec<u8>>);

/// All targets.
pub const TARGETS: &[Target] = &[
    ("framer", framer::target, dispatch::seeds),
    ("dispatch", dispatch::target, dispatch::seeds),
    ("reply", reply::target, reply::seeds),
    (
        "authentication",
        authentication::target,
        authentication::seeds,
    ),
    ("configuration", configuration::target, configuration::seeds),
    ("user_changes", user_changes::target, user_changes::seeds),
    ("mconsole", mconsole::target, mconsole::seeds),
    ("cow", cow::target, cow::seeds),
    ("screen", screen::target, screen::seeds),
    ("seed", seed::target, seed::seeds),
    ("copy", copy::target, copy::seeds),
    ("archive", archive::target, archive::seeds),
    ("web", web::target, web::seeds),
];
