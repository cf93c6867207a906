//! What the chores of the repository share with the end-to-end tests: the guest image, a dialogue with a console, and
//! the search for what a VM has left behind (cargo xtask, and the tests).

pub mod dialogue;
pub mod guest;
pub mod leftovers;
