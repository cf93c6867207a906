//! The same work for many VMs at once, in threads (umladmin).

use std::sync::Mutex;
use std::thread;

/// At most this many monitors are started at the same time: each start is work for the processor and the disk.
pub(crate) const STARTS: usize = 16;

/// At most this many monitors are called at the same time. Such a thread only waits; a VM that hangs for minutes must
/// not delay another one.
pub(crate) const CALLS: usize = 256;

/// Enough for a connection and a message; hundreds of threads must not use gigabytes of address space.
const STACK: usize = 256 * 1024;

/// Calls `work` for every item, `at_once` at the same time. The results have the order of the items.
pub(crate) fn each<T: Sync, R: Send>(
    items: &[T],
    at_once: usize,
    work: impl Fn(&T) -> R + Sync,
) -> Vec<R> {
    let queue = Mutex::new(items.iter().enumerate());
    let results = Mutex::new(Vec::with_capacity(items.len()));
    let next = || queue.lock().ok()?.next();
    let worker = || {
        while let Some((n, item)) = next() {
            let result = work(item);
            if let Ok(mut results) = results.lock() {
                results.push((n, result));
            }
        }
    };
    thread::scope(|scope| {
        for _ in 1..at_once.min(items.len()) {
            // If no further thread can be made, those that run do the work.
            let thread = thread::Builder::new().stack_size(STACK);
            if thread.spawn_scoped(scope, worker).is_err() {
                break;
            }
        }
        worker();
    });
    let mut results = results.into_inner().unwrap_or_default();
    results.sort_by_key(|(n, _)| *n);
    results.into_iter().map(|(_, result)| result).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn results_keep_the_order() {
        let items: Vec<usize> = (0..1000).collect();
        assert_eq!(each(&items, 16, |n| *n), items);
        assert!(each(&[] as &[usize], 16, |n| *n).is_empty());
    }

    #[test]
    fn so_many_at_once_and_no_more() {
        let (now, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let four = Barrier::new(4);
        each(&[(); 20], 4, |()| {
            most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            four.wait(); // passes only if four are here together
            now.fetch_sub(1, Ordering::SeqCst);
        });
        assert_eq!(most.load(Ordering::SeqCst), 4);
    }
}
