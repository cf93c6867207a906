//! How long it takes to connect a VM with a bridge. `cargo xtask bench network` runs it, as root in a network namespace
//! of its own; no process of the suite does.
//!
//!     set_up BRIDGE DIRECTORY      # milliseconds to set one interface up

use std::error::Error;
use std::path::Path;
use std::time::Instant;

use config::{MacPool, Nic, Subnet};
use net::{Driver, Eth, Networks, Owner, Records};

fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [bridge, directory] = &words[..] else {
        return Err("usage: set_up BRIDGE DIRECTORY".into());
    };
    let directory = Path::new(directory);
    std::fs::create_dir_all(directory.join("macpool"))?;
    let records = Records::open(directory, &"vm1".parse()?)?;
    let nic: Nic =
        format!("bridged(bridge_if={bridge},proxy_if=b0,proxy_hwaddr=pool,guest_hwaddr=pool)")
            .parse()?;
    let owner = Owner {
        vm_dir: directory,
        gid: 65534,
        uid: 65534,
        pool: MacPool::default(),
        nat_pool: Subnet::default(),
        driver: Driver::Vec,
        on_host: false,
    };
    let eth = Eth {
        number: 0,
        nic: &nic,
        namespace: None,
    };
    let begun = Instant::now();
    let networks = Networks::set_up(&records, &owner, &[eth])?;
    let taken = begun.elapsed();
    drop(networks);
    println!("{:.4}", taken.as_secs_f64() * 1e3);
    Ok(())
}
