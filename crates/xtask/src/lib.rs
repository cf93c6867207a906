//! What the chores of the repository share with the end-to-end tests: the guest image, a dialogue with a console, the
//! completions of shells, and the search for what a VM has left behind (cargo xtask, and the tests).

pub mod completions;
pub mod dialogue;
pub mod guest;
pub mod leftovers;
