// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Frames that lie in several buffers.

use std::net::Ipv4Addr;

use probe_common::Direction;
use probe_lab::{
    Link,
    packets::{Packet, Transport},
};
use probe_user::{
    kernel::{AttachPlan, Hook, XdpMode},
    net::Role,
};

use super::{
    modes::{send, tc_hook},
    subject::{Counts, Subject, add_packets, assert_bare},
};

/// From the smallest packet to the largest that an MTU of 9000 takes.
fn packets() -> Vec<Packet> {
    let transport = Transport::Udp { source: 4000, destination: 4001 };
    let (source, destination) = (Ipv4Addr::new(192, 0, 2, 1).into(), Ipv4Addr::new(192, 0, 2, 2).into());
    [0, 1, 1000, 1472, 1473, 3300, 3400, 3500, 3600, 4000, 5000, 8000, 8972]
        .map(|payload| Packet { payload: vec![7; payload], ..Packet::new(source, destination, transport) })
        .to_vec()
}

fn jumbo_link(label: &str) -> Link {
    let link = Link::new(label, 1).unwrap();
    for end in [&link.sender, &link.metered] {
        end.namespace.ip(&["link", "set", &end.name, "mtu", "9000"]).unwrap();
    }
    link
}

#[test]
#[ignore = "needs root: run `make test`"]
fn jumbo_frames_take_the_program_for_several_buffers() {
    for (role, mode, details) in [
        (Role::Tap, XdpMode::Auto, false),
        (Role::Tap, XdpMode::Auto, true),
        (Role::Tap, XdpMode::Native, false),
        (Role::Host, XdpMode::Native, false),
        (Role::Host, XdpMode::Native, true),
    ] {
        let what = format!("{role:?}, {mode:?}, details {details}");
        let link = jumbo_link("jumbo");
        let mut subject = Subject::with(|options| options.sizing = options.sizing.with_details(details));
        let held = subject.attach(&link.metered, AttachPlan { mode, ..AttachPlan::new(role) }).unwrap();
        assert_eq!(held.ingress(), Some(Hook::Native), "{what}");
        assert!(held.multi_buffer(), "{what}");
        assert!(held.to_string().contains("native XDP for frames of several buffers"), "{}", *held);
        send(&link.sender, &packets());
        let mut expected = Counts::new();
        add_packets(&mut expected, &packets(), &link.metered, Direction::Ingress);
        subject.assert_counts(&expected, &[], &what);
        drop(held);
        assert_bare(&link.metered);
    }
}

#[test]
#[ignore = "needs root: run `make test`"]
fn jumbo_frames_in_the_stack_need_no_other_program() {
    for (role, mode, hook) in
        [(Role::Host, XdpMode::Auto, tc_hook()), (Role::Tap, XdpMode::Generic, Hook::Generic)]
    {
        let link = jumbo_link("jumbostack");
        let mut subject = Subject::new();
        let held = subject.attach(&link.metered, AttachPlan { mode, ..AttachPlan::new(role) }).unwrap();
        assert_eq!((held.ingress(), held.multi_buffer()), (Some(hook), false));
        send(&link.sender, &packets());
        let mut expected = Counts::new();
        add_packets(&mut expected, &packets(), &link.metered, Direction::Ingress);
        subject.assert_counts(&expected, &[], &format!("{role:?}, {mode:?}"));
    }
}
