//! What copy-on-write disks take of a guest's memory. umlmon tells it at a start, and umladmin when it checks.

use crate::{DiskKind, DiskName, Vm};

/// For an open image, the kernel keeps a map with a bit for each sector of 512 bytes (arch/um/drivers/ubd_kern.c,
/// `ubd_open_dev`).
const BYTES_PER_BYTE_OF_MAP: u64 = 512 * 8;

/// The maps of a VM's copy-on-write disks, if they take more than a quarter of its memory. `length` tells the bytes of
/// an image, which has those of its backing file and little more.
pub fn large_cow_maps(vm: &Vm, length: impl Fn(&DiskName) -> Option<u64>) -> Option<String> {
    let images = vm.ubd.values().filter(|disk| disk.kind() == DiskKind::Cow);
    let bytes: u64 = images.filter_map(length).fold(0, u64::saturating_add);
    let megabytes = (bytes / BYTES_PER_BYTE_OF_MAP) >> 20;
    (megabytes > u64::from(vm.mem) / 4).then(|| {
        format!(
            "the kernel needs {megabytes} of its {} MB of memory for the maps of copy-on-write disks, 1 MB for 4 GB of \
             backing file",
            vm.mem
        )
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn the_memory_for_maps_is_told_if_it_matters() {
        let text = "[a]\nvmuser = nobody\nmem = 64\nubd0 = /disks/a.cow\nubd1 = /disks/b.dsk\n";
        let config = crate::Config::parse(text, Path::new("umlmon")).unwrap();
        let vm = config.vm(&"a".parse().unwrap()).unwrap();
        let of = |gigabytes: u64| large_cow_maps(&vm, |_| Some(gigabytes << 30));
        assert!(
            of(300)
                .unwrap()
                .starts_with("the kernel needs 75 of its 64 MB of memory")
        );
        assert_eq!(of(64), None);
        assert!(of(68).is_some());
        assert_eq!(large_cow_maps(&vm, |_| None), None);
    }
}
