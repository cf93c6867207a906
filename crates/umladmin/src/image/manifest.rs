//! What is known of an image, in a file beside it (umladmin).

use serde::{Deserialize, Serialize};

/// The file of an image `NAME` is `NAME.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Manifest {
    /// What it was made from: "busybox", "debian:trixie", "tar FILE", "oci FILE", "import FILE".
    pub(crate) source: String,
    /// The size of the disk in bytes.
    pub(crate) size: u64,
    /// Of all its bytes, in hexadecimal digits.
    pub(crate) sha256: String,
    /// When it was made (RFC 3339).
    pub(crate) date: String,
    /// What a VM with it should have.
    pub(crate) kernel: Kernel,
}

/// What an image wishes of the kernel of its VM.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Kernel {
    /// The least memory in megabytes with which it boots.
    pub(crate) memory: u32,
    /// Arguments, each for a line `kernelarg`.
    pub(crate) arguments: Vec<String>,
}
