//! What is done with a container that is there (umlguest, the helper).

use anyhow::ensure;
use guest_line::{Action, ToHost, is_container_id};

use super::group::Group;

/// Does it; returns the answer.
///
/// # Errors
/// If there is no such container, or the kernel refuses it.
pub(crate) fn act(id: &str, action: Action) -> anyhow::Result<ToHost> {
    ensure!(is_container_id(id), "there is no such container");
    let group = Group::of(id)?;
    match action {
        Action::SignalAll(number) => group.signal(number)?,
        Action::Freeze => group.freeze(true)?,
        Action::Thaw => group.freeze(false)?,
        Action::Limit(limits) => group.limit(&limits)?,
        Action::Usage => return Ok(ToHost::Usage(group.usage())),
    }
    Ok(ToHost::Done)
}
