//! Tier unit: work on disks, in a directory that looks like a jail. Most of it needs no root.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)] // helpers of tests fail as tests do

mod attacks;
mod copy;
mod cow;
mod create;
mod list;
mod resize;
mod world;
