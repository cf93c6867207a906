//! What a process in a container may do: user, capabilities, limits (umlguest, inside a container).

use std::fs;

use anyhow::{Context as _, bail};
use guest_line::{Capabilities, Rights};
use nix::unistd::{Gid, Uid, setgid, setgroups, setuid};
use rustix::fs::{Mode, fchown};
use rustix::process::{
    Resource, Rlimit, Signal, set_parent_process_death_signal, setrlimit, umask,
};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capability_is_in_bounding_set,
    configure_capability_in_ambient_set, remove_capability_from_bounding_set, set_capabilities,
    set_keep_capabilities, set_no_new_privs,
};

/// The usual umask.
const UMASK: u32 = 0o022;

/// By number (include/uapi/asm-generic/resource.h of the kernel).
const RESOURCES: [Resource; 16] = [
    Resource::Cpu,
    Resource::Fsize,
    Resource::Data,
    Resource::Stack,
    Resource::Core,
    Resource::Rss,
    Resource::Nproc,
    Resource::Nofile,
    Resource::Memlock,
    Resource::As,
    Resource::Locks,
    Resource::Sigpending,
    Resource::Msgqueue,
    Resource::Nice,
    Resource::Rtprio,
    Resource::Rttime,
];

/// What is set while the guest's `/proc` can be reached.
pub(super) fn begin(rights: &Rights) -> anyhow::Result<()> {
    if let Some(value) = rights.oom_score_adj {
        fs::write("/proc/self/oom_score_adj", value.to_string())
            .with_context(|| format!("cannot set oom_score_adj to {value}"))?;
    }
    Ok(())
}

/// Takes everything from this process that it may not do. It is the last but the program.
pub(super) fn take(rights: &Rights) -> anyhow::Result<()> {
    for limit in &rights.limits {
        set_limit(*limit)?;
    }
    umask(Mode::from_raw_mode(rights.umask.unwrap_or(UMASK) & 0o777));
    if rights.uid != 0 {
        let user = Some(rustix::process::Uid::from_raw(rights.uid));
        // So that the program can open them by their names in /dev. It can be the guest's /dev/null, or nothing that
        // has an owner.
        let _ = fchown(rustix::stdio::stdin(), user, None);
        let _ = fchown(rustix::stdio::stdout(), user, None);
        let _ = fchown(rustix::stdio::stderr(), user, None);
    }
    bound(rights.capabilities.bounding).context("cannot bound the capabilities")?;
    set_keep_capabilities(true).context("cannot keep capabilities")?;
    let groups: Vec<_> = rights.groups.iter().copied().map(Gid::from_raw).collect();
    setgroups(&groups).context("cannot set the groups")?;
    setgid(Gid::from_raw(rights.gid)).context("cannot set the group")?;
    setuid(Uid::from_raw(rights.uid)).context("cannot set the user")?;
    // Another user has none any more.
    set_parent_process_death_signal(Some(Signal::KILL))?;
    Ok(())
}

/// The last capabilities go.
pub(super) fn end(rights: &Rights) -> anyhow::Result<()> {
    let Capabilities {
        bounding: _,
        effective,
        permitted,
        inheritable,
        ambient,
    } = rights.capabilities;
    let sets = CapabilitySets {
        effective: CapabilitySet::from_bits_retain(effective),
        permitted: CapabilitySet::from_bits_retain(permitted),
        inheritable: CapabilitySet::from_bits_retain(inheritable),
    };
    set_capabilities(None, sets).context("cannot set the capabilities")?;
    for one in each(ambient) {
        configure_capability_in_ambient_set(one, true)
            .context("cannot set the ambient capabilities")?;
    }
    if rights.no_new_privileges {
        set_no_new_privs(true).context("cannot forbid new privileges")?;
    }
    Ok(())
}

fn set_limit((number, soft, hard): (u32, u64, u64)) -> anyhow::Result<()> {
    let resource = usize::try_from(number)
        .ok()
        .and_then(|number| RESOURCES.get(number));
    let Some(resource) = resource else {
        bail!("there is no resource with the number {number}");
    };
    let limit = |value| (value != u64::MAX).then_some(value);
    let limits = Rlimit {
        current: limit(soft),
        maximum: limit(hard),
    };
    setrlimit(*resource, limits)
        .with_context(|| format!("cannot limit the resource {resource:?} to {soft} and {hard}"))
}

/// Removes all other capabilities that the kernel knows from those that can be gained.
fn bound(wanted: u64) -> rustix::io::Result<()> {
    for one in each(!wanted) {
        // Of one that it does not know, it says EINVAL.
        if capability_is_in_bounding_set(one) == Ok(true) {
            remove_capability_from_bounding_set(one)?;
        }
    }
    Ok(())
}

fn each(set: u64) -> impl Iterator<Item = CapabilitySet> {
    let bits = (0..64).map(|number| 1_u64 << number);
    bits.filter(move |bit| set & bit != 0)
        .map(CapabilitySet::from_bits_retain)
}
