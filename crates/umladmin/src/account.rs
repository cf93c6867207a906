//! As which user a VM runs (umladmin).

use cli::{Exit, Failure};
use config::{Global, Vm};
use jail::{Account, UserPool};

/// The numbers for VMs with `vmuser = auto`.
pub(crate) fn pool(global: &Global) -> UserPool {
    UserPool {
        vardir: global.vardir.clone(),
        first: global.user_pool.first,
        last: global.user_pool.last,
    }
}

/// The account of a VM whose directory exists; with `vmuser = auto`, it gets a number now if it has none.
pub(crate) fn of(global: &Global, vm: &Vm) -> Result<Account, Failure> {
    let pool = pool(global);
    let account = pool.account(vm.name.as_str(), vm.named_user(), vm.vmgroup.as_deref());
    account.map_err(|error| Failure::new(Exit::Failed, error))
}
