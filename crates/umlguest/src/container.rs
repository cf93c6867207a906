//! Containers: commands with a root directory, namespaces and a control group of their own (umlguest).
//!
//! For each command in a container, the helper executes this program again: the *parent* (`parent.rs`), which makes the
//! control group and the namespace of processes, and removes what is left when the command has ended. The parent
//! executes this program once more, in that namespace (`inside.rs`): this process makes what the program sees, and
//! becomes the program. The parent stays outside, so that the container can be frozen and killed as a whole.
//!
//! The helper and the parent, and the parent and the process inside, are at the two ends of a socket, which is also how
//! descriptors are handed over (`hand.rs`). An end that closes tells the other one what it needs to know: the client
//! has gone, or the program executes.

mod action;
mod begun;
mod devices;
mod entry;
mod group;
mod hand;
mod inside;
mod kills;
mod mounts;
mod parent;
mod program;
mod rights;
mod root;
mod tree;
mod usage;

pub(crate) use action::act;
pub(crate) use begun::{Begun, Report};
pub(crate) use inside::{OPTION as INSIDE, enter};
pub(crate) use parent::{OPTION as PARENT, attend};
