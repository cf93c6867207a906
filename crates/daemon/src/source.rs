//! What counts as one source of connections. Runs in umlmon, in the monitor process, in umldir and in umlweb.

use std::net::{IpAddr, Ipv6Addr};

/// The unit that is counted as one source: an IPv4 address, or a network of IPv6, because one host may have all
/// addresses of it.
pub fn source(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let network = address.to_bits() & (u128::MAX << 64);
            IpAddr::V6(Ipv6Addr::from_bits(network))
        }
        address @ IpAddr::V4(_) => address,
    }
}
