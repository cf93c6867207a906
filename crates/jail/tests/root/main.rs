//! Tests of the jail that need root: each in a mount namespace and a directory of its own.
#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing)] // the helpers of tests are no tests to clippy

mod kernel;
mod prepare;
mod world;
