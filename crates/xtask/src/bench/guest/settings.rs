//! What the environment says of measurements with Debian guests (cargo xtask bench guest, boots).
//!
//! ```text
//! UMLMON_BENCH_ROUNDS    how many rounds
//! UMLMON_BENCH_KERNEL    the directory that `cargo xtask kernel` was given (TARGET/kernel)
//! UMLMON_BENCH_DIR       where guests, kernels and times are kept (TARGET/guest)
//! ```

use std::env::{var, var_os};
use std::path::PathBuf;

use anyhow::Context as _;

use crate::kernel;
use crate::steps::target_dir;

/// How many rounds there are, or this many.
pub(in super::super) fn rounds(usual: usize) -> anyhow::Result<usize> {
    match var("UMLMON_BENCH_ROUNDS") {
        Ok(text) => text.parse().context("UMLMON_BENCH_ROUNDS is no number"),
        Err(_) => Ok(usual),
    }
}

/// Where all is kept between calls.
pub(in super::super) fn directory() -> anyhow::Result<PathBuf> {
    let given = var_os("UMLMON_BENCH_DIR").map(PathBuf::from);
    Ok(std::path::absolute(
        given.unwrap_or_else(|| target_dir().join("guest")),
    )?)
}

/// The kernels of our own: without SMP and, if that was built, with it.
pub(in super::super) fn our_kernels() -> anyhow::Result<Vec<PathBuf>> {
    let given = var_os("UMLMON_BENCH_KERNEL").map(PathBuf::from);
    let directory = given.unwrap_or_else(kernel::directory);
    let built = kernel::built(&directory)?.with_context(|| {
        let name = directory.display();
        format!("there is no kernel of ours in {name}; build it: cargo xtask kernel {name}")
    })?;
    Ok(built.kernels)
}

/// The one without SMP.
pub(in super::super) fn our_kernel() -> anyhow::Result<PathBuf> {
    let found = our_kernels()?.into_iter().find(|path| !is_smp(path));
    found.context("there is no kernel of ours without SMP: cargo xtask kernel")
}

/// Whether one of ours is for several CPUs.
pub(super) fn is_smp(kernel: &std::path::Path) -> bool {
    kernel.to_string_lossy().ends_with("-smp")
}
