//! The addresses of this machine: what makes one side of a leg the local one.

use std::net::IpAddr;

/// The addresses of all interfaces of this machine at this moment, loopback included, each once.
///
/// Empty where the kernel does not tell: then nothing is known to be local, and whoever asks must infer it from
/// traffic.
#[must_use]
pub fn local_addresses() -> Vec<IpAddr> {
    let mut addresses: Vec<IpAddr> =
        if_addrs::get_if_addrs().unwrap_or_default().iter().map(if_addrs::Interface::ip).collect();
    addresses.sort_unstable();
    addresses.dedup();
    addresses
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn loopback_is_one_of_this_machines_addresses() {
        assert!(local_addresses().contains(&IpAddr::V4(Ipv4Addr::LOCALHOST)));
    }
}
