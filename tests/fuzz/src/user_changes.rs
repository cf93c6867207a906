//! The file of user changes, which a monitor reads as root: nothing protected comes through.

use std::path::Path;

use config::{Config, UserChanges};

const MAIN: &str = "[vm1]\nvmuser = nobody\nkernel = /shared/kernels/linux\nmem = 64\nmem_limit = 128\ncon0 = pty\n";

/// Reads `data` as the changes of the users of a VM.
pub fn target(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let Ok(changes) = UserChanges::parse(text, Path::new("/var/lib/umlmon/vm1/config")) else {
        return;
    };
    let config = Config::parse(MAIN, Path::new("/etc/umlmon")).expect("it is right");
    let name = "vm1".try_into().expect("it is right");
    let Ok(vm) = config.vm_with(&name, &changes) else {
        return;
    };
    assert_eq!(vm.vmuser, "nobody");
    assert!(vm.mem <= 128, "{}", vm.mem);
    assert!(vm.eth.is_empty() && vm.scheduler.is_none());
    assert!(
        vm.kernelargs
            .iter()
            .all(|arg| config::check_user_argument(arg).is_ok()),
        "{:?}",
        vm.kernelargs
    );
}

/// Some changes that are accepted, and some that are not.
pub fn seeds() -> Vec<Vec<u8>> {
    [
        "[vm1]\nmem = 100\nkernelarg = single\nubd0 = /disks/a.dsk\ncon1 = pty:con1\n",
        "[vm1]\nmem = 200\n",
        "[vm1]\nvmuser = root\neth0 = tuntap\nkernelarg = ubd7c=/shared/disks/other.dsk\n",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec()
}
