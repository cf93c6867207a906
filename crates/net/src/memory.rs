//! Which VM had which address, so that it gets the same again. Used by the monitor, as root.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

/// How many addresses are remembered at most.
const MAX_REMEMBERED: usize = 4096;

/// An address, and the last VM that had it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Memory<T> {
    /// "vm1 eth0 guest".
    key: String,
    #[serde(alias = "mac")]
    address: T,
}

/// Which VM had which address, the latest last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Memories<T>(Vec<Memory<T>>);

impl<T> Default for Memories<T> {
    fn default() -> Self {
        Memories(Vec::new())
    }
}

impl<T: Copy + Ord> Memories<T> {
    /// An address of `pool` that is not `taken`: the one of the last time, else one that no VM had, else the one that
    /// has not been used for the longest time. `contains` says whether an address is in the pool.
    pub(crate) fn choose(
        &mut self,
        mut pool: impl Iterator<Item = T>,
        contains: impl Fn(T) -> bool,
        taken: &BTreeSet<T>,
        key: &str,
    ) -> Option<T> {
        let free = |address: T| contains(address) && !taken.contains(&address);
        let last_time = self.0.iter().find(|memory| memory.key == key);
        let last_time = last_time.map(|memory| memory.address);
        let address = match last_time.filter(|address| free(*address)) {
            Some(address) => address,
            None => {
                let had: BTreeSet<T> = self.0.iter().map(|memory| memory.address).collect();
                let new = pool.find(|address| free(*address) && !had.contains(address));
                let mut all = self.0.iter().map(|memory| memory.address);
                new.or_else(|| all.find(|address| free(*address)))?
            }
        };
        self.0
            .retain(|memory| memory.key != key && memory.address != address);
        let excess = (self.0.len() + 1).saturating_sub(MAX_REMEMBERED);
        self.0.drain(..excess);
        self.0.push(Memory {
            key: key.to_owned(),
            address,
        });
        Some(address)
    }

    /// No longer keeps addresses for this VM.
    pub(crate) fn forget(&mut self, vm: &str) {
        let is_its = |key: &str| key.split(' ').next() == Some(vm);
        self.0.retain(|memory| !is_its(&memory.key));
    }
}

#[cfg(test)]
mod tests {
    use config::{MacAddr, MacPool};

    use super::*;

    impl Memories<MacAddr> {
        fn choose_of(
            &mut self,
            pool: MacPool,
            taken: &BTreeSet<MacAddr>,
            key: &str,
        ) -> Option<MacAddr> {
            self.choose(pool.addresses(), |mac| pool.contains(mac), taken, key)
        }
    }

    fn pool(number: u32) -> MacPool {
        MacPool {
            number,
            ..MacPool::default()
        }
    }

    #[test]
    fn addresses_come_back_and_are_never_doubled() {
        let mut memories = Memories::default();
        let none = BTreeSet::new();
        let one = memories
            .choose_of(pool(3), &none, "vm1 eth0 guest")
            .unwrap();
        let two = memories
            .choose_of(pool(3), &none, "vm2 eth0 guest")
            .unwrap();
        assert_ne!(one, two);
        // No VM runs, and still each gets its own again.
        for _ in 0..3 {
            assert_eq!(
                memories.choose_of(pool(3), &none, "vm1 eth0 guest"),
                Some(one)
            );
            assert_eq!(
                memories.choose_of(pool(3), &none, "vm2 eth0 guest"),
                Some(two)
            );
        }
        // Of one that is gone, nothing is kept.
        let mut others = memories.clone();
        others.forget("vm1");
        others.forget("vm");
        assert_eq!(others.0.len(), 1);
        assert_eq!(
            others.choose_of(pool(3), &none, "vm2 eth0 guest"),
            Some(two)
        );
        // Taken by a VM that has it in the configuration.
        let taken = BTreeSet::from([one]);
        let three = memories
            .choose_of(pool(3), &taken, "vm1 eth0 guest")
            .unwrap();
        assert!(three != one && three != two);
        let taken = BTreeSet::from([one, two, three]);
        assert_eq!(memories.choose_of(pool(3), &taken, "vm4 eth0 guest"), None);
        // A new VM gets the one that has been unused for the longest time.
        assert_eq!(
            memories.choose_of(pool(3), &BTreeSet::from([three]), "vm4 eth0 guest"),
            Some(one)
        );
        assert_eq!(
            memories.choose_of(pool(3), &BTreeSet::from([three]), "vm5 eth0 guest"),
            Some(two)
        );
        // An address that is not in the pool any more is ignored.
        assert_ne!(
            memories.choose_of(pool(1), &none, "vm5 eth0 guest"),
            Some(two)
        );
    }

    #[test]
    fn the_memory_has_a_bound() {
        let mut memories = Memories::default();
        for n in 0..MAX_REMEMBERED + 10 {
            memories
                .choose_of(
                    pool(1 << 16),
                    &BTreeSet::new(),
                    &format!("vm{n} eth0 guest"),
                )
                .unwrap();
        }
        assert_eq!(memories.0.len(), MAX_REMEMBERED);
    }
}
