// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Every mode, in both roles: the same packets, the same counts.

use std::net::Ipv4Addr;

use probe_common::{Direction, Outcome};
use probe_lab::{
    Link, LinkEnd,
    conversations::{Hosts, arp_request},
    packet_socket::PacketSocket,
    packets::Packet,
};
use probe_user::{
    kernel::{AttachPlan, Directions, Hook, KernelError, XdpMode},
    net::Role,
};

use super::subject::{Counts, Subject, add_packets, assert_bare};

/// Of several kinds; some with one VLAN tag, some with two. At the tc hook the kernel has taken the outer one off.
pub(crate) fn some_packets() -> Vec<Packet> {
    let hosts = Hosts::new(Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(198, 51, 100, 1));
    let tagged = hosts.clone().in_vlan(7);
    let twice = tagged.clone().in_vlan(9);
    [
        hosts.download(40_000, 443, 10_000),
        hosts.query(40_001, 53, 30, 90),
        hosts.ping(3),
        tagged.stream(5000, 5001, 5, 100),
        twice.stream(6000, 6001, 4, 300),
    ]
    .concat()
}

pub(crate) fn send(end: &LinkEnd, packets: &[Packet]) {
    let socket = PacketSocket::open(end).unwrap();
    for packet in packets {
        socket.send(&packet.frame()).unwrap();
    }
}

fn host(mode: XdpMode, directions: Directions, tcx: bool) -> AttachPlan {
    AttachPlan { mode, directions, tcx, ..AttachPlan::new(Role::Host) }
}

/// Where tc programs come to be on this kernel.
pub(crate) fn tc_hook() -> Hook {
    let release = nix::sys::utsname::uname().unwrap().release().to_string_lossy().into_owned();
    let mut numbers = release.split('.').map_while(|part| part.parse::<u32>().ok());
    let version = (numbers.next().unwrap(), numbers.next().unwrap());
    if version >= (6, 6) { Hook::Tcx } else { Hook::Clsact }
}

#[test]
#[ignore = "needs root: run `make test`"]
fn a_host_interface_counts_both_directions_in_every_mode() {
    let arp = arp_request(Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(192, 0, 2, 2));
    let mut subject = Subject::new();
    for (mode, tcx, ingress) in [
        // On veth the tc hook costs the host less than XDP.
        (XdpMode::Auto, true, tc_hook()),
        (XdpMode::Tc, true, tc_hook()),
        (XdpMode::Tc, false, Hook::Clsact),
        (XdpMode::Native, true, Hook::Native),
        (XdpMode::Native, false, Hook::Native),
        (XdpMode::Generic, true, Hook::Generic),
    ] {
        for directions in [Directions::Both, Directions::Ingress, Directions::Egress] {
            let what = format!("{mode:?}, {directions:?}, tcx {tcx}");
            let link = Link::new("modes", 1).unwrap();
            let held = subject.attach(&link.metered, host(mode, directions, tcx)).unwrap();
            subject.begin();
            let egress = if tcx { tc_hook() } else { Hook::Clsact };
            assert_eq!(held.ingress(), directions.ingress().then_some(ingress), "{what}: {}", *held);
            assert_eq!(held.egress(), directions.egress().then_some(egress), "{what}: {}", *held);
            assert!(!held.multi_buffer(), "{what}");
            // Generic XDP cannot see of how many segments a buffer consists.
            let blind = held.ingress() == Some(Hook::Generic);
            assert_eq!(held.warnings().len(), usize::from(blind), "{what}: {:?}", held.warnings());
            assert_eq!(held.why_not_native().is_some(), mode == XdpMode::Auto, "{what}");

            let mut expected = Counts::new();
            let mut arps = 0;
            send(&link.sender, &some_packets());
            PacketSocket::open(&link.sender).unwrap().send(&arp).unwrap();
            if directions.ingress() {
                add_packets(&mut expected, &some_packets(), &link.metered, Direction::Ingress);
                arps += 1;
            }
            send(&link.metered, &some_packets()[3..]);
            PacketSocket::open(&link.metered).unwrap().send(&arp).unwrap();
            if directions.egress() {
                add_packets(&mut expected, &some_packets()[3..], &link.metered, Direction::Egress);
                arps += 1;
            }
            subject.assert_counts(&expected, &[(Outcome::NotIp, arps)], &what);
            drop(held);
            assert_bare(&link.metered);
        }
    }
}

#[test]
#[ignore = "needs root: run `make test`"]
fn a_mirror_port_is_metered_as_it_comes_in() {
    let mut subject = Subject::new();
    for (mode, directions, hook) in [
        (XdpMode::Auto, Directions::Once, Hook::Native),
        (XdpMode::Native, Directions::Ingress, Hook::Native),
        (XdpMode::Generic, Directions::Both, Hook::Generic),
    ] {
        let what = format!("{mode:?}, {directions:?}");
        let link = Link::new("tap", 1).unwrap();
        let plan = AttachPlan { mode, directions, ..AttachPlan::new(Role::Tap) };
        let held = subject.attach(&link.metered, plan).unwrap();
        subject.begin();
        assert_eq!((held.ingress(), held.egress()), (Some(hook), None), "{what}");
        assert_eq!(promiscuity(&link.metered), "1", "{what}");
        send(&link.sender, &some_packets());
        send(&link.metered, &some_packets());
        let mut expected = Counts::new();
        add_packets(&mut expected, &some_packets(), &link.metered, Direction::Ingress);
        subject.assert_counts(&expected, &[], &what);
        drop(held);
        assert_bare(&link.metered);
        assert_eq!(promiscuity(&link.metered), "0", "{what}");
    }
}

/// How many want every frame of the interface.
fn promiscuity(end: &LinkEnd) -> String {
    let shown = end.namespace.ip(&["-d", "link", "show", "dev", &end.name]).unwrap();
    let mut words = shown.split_whitespace().skip_while(|word| *word != "promiscuity");
    words.nth(1).unwrap().to_owned()
}

#[test]
#[ignore = "needs root: run `make test`"]
fn a_plan_that_makes_no_sense_is_refused_with_the_options_named() {
    let link = Link::new("plans", 1).unwrap();
    let mut subject = Subject::new();
    let tap = AttachPlan::new(Role::Tap);
    for (plan, says) in [
        (AttachPlan { mode: XdpMode::Tc, ..tap }, "--xdp-mode tc"),
        (AttachPlan { directions: Directions::Egress, ..tap }, "--direction egress"),
    ] {
        let error = subject.attach(&link.metered, plan).err().unwrap();
        assert!(matches!(error, KernelError::Plan { .. }), "{error}");
        assert!(error.to_string().contains(says) && error.to_string().contains("tap0"), "{error}");
        assert_bare(&link.metered);
    }
}

#[test]
#[ignore = "needs root: run `make test`"]
fn where_the_driver_has_no_xdp_a_host_uses_tc_and_a_mirror_port_generic_xdp() {
    let link = Link::new("nodriver", 1).unwrap();
    let namespace = &link.metered.namespace;
    namespace.ip(&["link", "add", "br0", "type", "bridge"]).unwrap();
    namespace.ip(&["link", "set", "br0", "up"]).unwrap();
    namespace.ip(&["link", "set", "tap0", "master", "br0"]).unwrap();
    let index = namespace.enter(|| nix::net::if_::if_nametoindex("br0")).unwrap().unwrap();
    let bridge = LinkEnd { namespace: namespace.clone(), name: "br0".to_owned(), index };

    let mut subject = Subject::new();
    let held = subject.attach(&bridge, AttachPlan::new(Role::Tap)).unwrap();
    assert_eq!(held.ingress(), Some(Hook::Generic));
    assert_eq!(held.why_not_native(), Some("its driver has no native XDP"));
    assert!(held.warnings()[0].contains("generic XDP, because its driver"), "{:?}", held.warnings());

    // With generic XDP there, native is refused as busy: a host's interface is metered at the tc hook all the same.
    let other = subject.attach(&bridge, AttachPlan::new(Role::Host)).unwrap();
    assert_eq!(other.ingress(), Some(tc_hook()));
    assert!(other.warnings()[0].contains("another XDP program"), "{:?}", other.warnings());
    drop((held, other));
    assert_bare(&bridge);

    let held = subject.attach(&bridge, AttachPlan::new(Role::Host)).unwrap();
    assert_eq!(held.ingress(), Some(tc_hook()));
    assert_eq!(held.why_not_native(), Some("its driver has no native XDP"));
    assert_eq!(held.to_string(), format!("{} (ingress and egress)", tc_hook()));
    drop(held);
    assert_bare(&bridge);
}

#[test]
#[ignore = "needs root: run `make test`"]
fn an_interface_with_another_xdp_program_is_busy() {
    let link = Link::new("busy", 1).unwrap();
    let (mut first, mut second) = (Subject::new(), Subject::new());
    let _held = first.attach(&link.metered, AttachPlan::new(Role::Tap)).unwrap();
    for mode in [XdpMode::Auto, XdpMode::Native, XdpMode::Generic] {
        let plan = AttachPlan { mode, ..AttachPlan::new(Role::Tap) };
        let error = second.attach(&link.metered, plan).err().unwrap();
        assert!(matches!(error, KernelError::Busy { .. }), "{mode:?}: {error}");
    }
    let error = second.attach(&link.metered, host(XdpMode::Native, Directions::Both, true)).err().unwrap();
    assert!(matches!(error, KernelError::Busy { .. }), "{error}");
}

#[test]
#[ignore = "needs root: run `make test`"]
fn the_loopback_interface_is_seen_once() {
    let link = Link::new("lo", 1).unwrap();
    let loopback = LinkEnd { namespace: link.metered.namespace.clone(), name: "lo".to_owned(), index: 1 };
    let mut subject = Subject::new();
    let held = subject.attach(&loopback, AttachPlan::new(Role::Host)).unwrap();
    assert_eq!((held.ingress(), held.egress()), (Some(tc_hook()), None));
    drop(held);
    let held = subject.attach(&loopback, host(XdpMode::Auto, Directions::Both, true)).unwrap();
    assert!(held.egress().is_some());
}
