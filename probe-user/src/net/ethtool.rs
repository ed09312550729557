// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a NIC does to packets before anybody sees them, and its queues.
//!
//! JUSTIFICATION for unsafe: the ethtool ioctl takes an address inside its argument, and there is no other way to ask
//! on kernels without ethtool over netlink. It is called in one place, with a command that writes one word.

use std::{fs, io, os::fd::AsRawFd, os::unix::net::UnixDatagram, path::Path, ptr};

use super::{Link, LinkKind};

/// Asks for flags (include/uapi/linux/ethtool.h).
const ETHTOOL_GFLAGS: u32 = 0x25;
const ETH_FLAG_RXVLAN: u32 = 1 << 8;
const ETH_FLAG_LRO: u32 = 1 << 15;

mod ioctl {
    nix::ioctl_readwrite_bad!(ethtool, libc::SIOCETHTOOL, libc::ifreq);
}

/// What is done to packets that come in.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Offloads {
    /// VLAN tags are taken off and kept beside the packet, where XDP programs cannot read them.
    pub strips_tags: bool,
    /// Segments of a connection are merged into large packets (LRO).
    pub merges_segments: bool,
}

/// What is done to packets that come in on an interface of this network namespace; `None` where the kernel does not
/// say.
#[must_use]
pub fn offloads(name: &str) -> Option<Offloads> {
    let flags = flags(name).ok()?;
    Some(Offloads { strips_tags: flags & ETH_FLAG_RXVLAN != 0, merges_segments: flags & ETH_FLAG_LRO != 0 })
}

/// struct ethtool_value.
#[repr(C)]
struct EthtoolValue {
    command: u32,
    data: u32,
}

fn flags(name: &str) -> io::Result<u32> {
    // Any socket will do.
    let socket = UnixDatagram::unbound()?;
    let mut ifr_name = [0; libc::IFNAMSIZ];
    if name.len() >= ifr_name.len() {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    for (to, from) in ifr_name.iter_mut().zip(name.bytes()) {
        *to = libc::c_char::from_ne_bytes([from]);
    }
    let mut value = EthtoolValue { command: ETHTOOL_GFLAGS, data: 0 };
    let data = ptr::from_mut(&mut value).cast();
    let mut request = libc::ifreq { ifr_name, ifr_ifru: libc::__c_anonymous_ifr_ifru { ifru_data: data } };
    // SAFETY: the name ends with a zero octet, `data` points to a struct ethtool_value, the kernel reads its command
    // and writes its data, and both outlive the call; the descriptor is open.
    unsafe { ioctl::ethtool(socket.as_raw_fd(), &raw mut request) }?;
    Ok(value.data)
}

/// What the NIC hides from XDP programs on an interface, and what to do about it: whole sentences. At the tc hook and
/// in packet sockets it can be seen.
#[must_use]
pub fn hidden_from_xdp(link: &Link) -> Vec<String> {
    // A veth end says that it strips tags, but only passes on what the other end has kept beside the packet.
    let offloads = match link.kind {
        LinkKind::Veth => Offloads::default(),
        _ => offloads(&link.name).unwrap_or_default(),
    };
    let mut sentences = Vec::new();
    if offloads.strips_tags {
        sentences.push(format!(
            "the NIC takes VLAN tags off before XDP sees the packets: they are metered without VLAN; `ethtool -K {} rxvlan off` leaves the tags where they are",
            link.name
        ));
    }
    sentences
}

/// What the NIC does to packets before the tc hook or a packet socket sees them, as [`hidden_from_xdp`].
#[must_use]
pub fn hidden_from_the_stack(link: &Link) -> Vec<String> {
    let mut sentences = Vec::new();
    if offloads(&link.name).unwrap_or_default().merges_segments {
        sentences.push(format!(
            "the NIC merges TCP segments (LRO) before they are metered: fewer packets may be counted than came; `ethtool -K {} lro off` ends that",
            link.name
        ));
    }
    sentences
}

/// The driver of an interface, where /sys shows this namespace's interfaces and it has one.
#[must_use]
pub fn driver(name: &str) -> Option<String> {
    let target = fs::read_link(sys(name)?.join("device/driver")).ok()?;
    Some(target.file_name()?.to_str()?.to_owned())
}

/// Receive queues in use, where /sys shows this namespace's interfaces. Attaching XDP may add some (virtio gives each
/// CPU one): ask afterwards.
#[must_use]
pub fn rx_queues(name: &str) -> Option<u32> {
    let entries = fs::read_dir(sys(name)?.join("queues")).ok()?;
    let queues = entries
        .filter_map(Result::ok)
        .filter(|entry| entry.file_name().as_encoded_bytes().starts_with(b"rx-"));
    u32::try_from(queues.count()).ok().filter(|queues| *queues > 0)
}

/// Where /sys describes an interface.
fn sys(name: &str) -> Option<std::path::PathBuf> {
    // Names of interfaces hold neither `/` nor dots alone (dev_valid_name in net/core/dev.c); others are not asked for.
    (!name.contains('/') && !name.starts_with('.')).then(|| Path::new("/sys/class/net").join(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_interface_answers_and_others_do_not() {
        assert_eq!(offloads("lo"), Some(Offloads::default()));
        assert_eq!(rx_queues("lo"), Some(1));
        assert_eq!(driver("lo"), None);
        for absent in ["no-such-if", "", "..", "../..", "a name that is longer than the kernel's"] {
            assert_eq!(offloads(absent), None, "{absent}");
            assert_eq!((rx_queues(absent), driver(absent)), (None, None), "{absent}");
        }
    }
}
