//! What the chores of the repository share with the end-to-end tests: the guest image, an image of containers, a
//! dialogue with a console, scripts in a browser, the completions of shells, and the search for what a VM has left
//! behind (cargo xtask, and the tests).

pub mod browse;
pub mod busybox;
pub mod completions;
pub mod dialogue;
pub mod guest;
pub mod leftovers;

use std::path::{Path, PathBuf};

/// The root of the repository.
#[must_use]
pub fn repository() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.ancestors().nth(2).unwrap_or(manifest).to_owned()
}

/// Where cargo puts what it builds.
#[must_use]
pub fn target_dir() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| repository().join("target"), PathBuf::from)
}
