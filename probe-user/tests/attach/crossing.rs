// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Packets that cross two metered interfaces of a host.

use std::{net::UdpSocket, sync::Arc};

use probe_common::{Counters, Direction, Outcome};
use probe_lab::{Link, LinkEnd, Namespace};
use probe_user::{
    kernel::{AttachPlan, Directions, Hook, XdpMode},
    net::Role,
};

use super::{
    modes::{send, some_packets, tc_hook},
    subject::{Counts, Held, Subject, add_packets},
};

/// A host with two cables, to a client and to a server.
struct Crossing {
    client: LinkEnd,
    server: LinkEnd,
    /// Its ends, to the client and to the server.
    ends: [LinkEnd; 2],
}

impl Crossing {
    fn new(label: &str) -> Self {
        let host = Arc::new(Namespace::new(&format!("{label}-host")).unwrap());
        let cable = |name: &str, end: &str| {
            let namespace = Arc::new(Namespace::new(&format!("{label}-{name}")).unwrap());
            Link::between(&namespace, name, &host, end, 1).unwrap()
        };
        let (to_client, to_server) = (cable("client", "port1"), cable("server", "port2"));
        Self {
            client: to_client.sender,
            server: to_server.sender,
            ends: [to_client.metered, to_server.metered],
        }
    }

    fn bridged(label: &str) -> Self {
        let crossing = Self::new(label);
        let host = &crossing.ends[0].namespace;
        // A bridge that snoops joins a group itself, and reports that on its ports.
        host.ip(&["link", "add", "br0", "type", "bridge", "mcast_snooping", "0"]).unwrap();
        for port in &crossing.ends {
            host.ip(&["link", "set", &port.name, "master", "br0"]).unwrap();
        }
        host.ip(&["link", "set", "br0", "up"]).unwrap();
        // Where bridges ask the firewall, the host's rules would have a say.
        host.enter(|| {
            for table in ["iptables", "ip6tables", "arptables"] {
                let path = format!("/proc/sys/net/bridge/bridge-nf-call-{table}");
                if std::fs::exists(&path).unwrap() {
                    std::fs::write(&path, "0").unwrap();
                }
            }
        })
        .unwrap();
        crossing
    }

    fn attach(&self, subject: &mut Subject, plan: AttachPlan) -> Vec<Held> {
        self.ends.iter().map(|end| subject.attach(end, plan).unwrap()).collect()
    }
}

fn plan(mode: XdpMode, directions: Directions) -> AttachPlan {
    AttachPlan { mode, directions, ..AttachPlan::new(Role::Host) }
}

#[test]
#[ignore = "needs root: run `make test`"]
fn what_crosses_a_bridge_is_counted_once_or_on_each_port() {
    let packets = some_packets();
    let many = u64::try_from(packets.len()).unwrap();
    for directions in [Directions::Once, Directions::Both] {
        let once = directions == Directions::Once;
        let mut subject = Subject::with(|options| options.once = once);
        for mode in [XdpMode::Auto, XdpMode::Native, XdpMode::Generic] {
            let what = format!("{mode:?}, {directions:?}");
            let crossing = Crossing::bridged("bridge");
            let _held = crossing.attach(&mut subject, plan(mode, directions));
            subject.begin();
            send(&crossing.client, &packets);
            let mut expected = Counts::new();
            add_packets(&mut expected, &packets, &crossing.ends[0], Direction::Ingress);
            let mut again = Vec::new();
            if once {
                again.push((Outcome::AlreadyMetered, many));
            } else {
                add_packets(&mut expected, &packets, &crossing.ends[1], Direction::Egress);
            }
            subject.assert_counts(&expected, &again, &what);
            assert!(crossing.server.received_frames().unwrap() >= many, "{what}: all of them went on");
        }
    }
}

#[test]
#[ignore = "needs root: run `make test`"]
fn what_came_in_on_an_interface_that_is_not_metered_is_counted_going_out() {
    let packets = some_packets();
    let crossing = Crossing::bridged("oneport");
    let mut subject = Subject::with(|options| options.once = true);
    let _held = subject.attach(&crossing.ends[1], AttachPlan::new(Role::Host)).unwrap();
    send(&crossing.client, &packets);
    send(&crossing.server, &packets[..5]);
    let mut expected = Counts::new();
    add_packets(&mut expected, &packets, &crossing.ends[1], Direction::Egress);
    add_packets(&mut expected, &packets[..5], &crossing.ends[1], Direction::Ingress);
    subject.assert_counts(&expected, &[], "one port of two");

    // No longer known as metered: as if it had never been.
    subject.program.remove_interface(crossing.ends[1].index).unwrap();
    subject.program.remove_interface(crossing.ends[1].index).unwrap();
}

#[test]
#[ignore = "needs root: run `make test`"]
fn what_is_routed_is_counted_once_and_what_the_host_sends_too() {
    const QUESTIONS: usize = 40;
    for (directions, times) in [(Directions::Once, 1), (Directions::Both, 2)] {
        let crossing = Crossing::new("routed");
        for (end, address) in [
            (&crossing.client, "10.1.0.1/24"),
            (&crossing.ends[0], "10.1.0.254/24"),
            (&crossing.server, "10.2.0.1/24"),
            (&crossing.ends[1], "10.2.0.254/24"),
        ] {
            end.add_address(address).unwrap();
        }
        let host = &crossing.ends[0].namespace;
        host.enter(|| std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap()).unwrap();
        crossing.client.namespace.ip(&["route", "add", "default", "via", "10.1.0.254"]).unwrap();
        crossing.server.namespace.ip(&["route", "add", "default", "via", "10.2.0.254"]).unwrap();

        let mut subject = Subject::with(|options| options.once = directions == Directions::Once);
        let _held = crossing.attach(&mut subject, plan(XdpMode::Auto, directions));
        let server = crossing.server.namespace.enter(|| UdpSocket::bind("10.2.0.1:5000").unwrap()).unwrap();
        let client = crossing.client.namespace.enter(|| UdpSocket::bind("10.1.0.1:5001").unwrap()).unwrap();
        let own = host.enter(|| UdpSocket::bind("10.2.0.254:5002").unwrap()).unwrap();
        for socket in [&client, &own] {
            ask(socket, &server, QUESTIONS);
        }

        let counts = subject.counts();
        let packets_of = |port: u16| -> u64 {
            let key = |words: &[u64; 6]| probe_common::FlowKey::from_words(*words);
            counts
                .iter()
                .filter(|(words, _)| {
                    [key(words).source_port(), key(words).destination_port()].contains(&port)
                })
                .map(|(_, (packets, _))| packets)
                .sum()
        };
        // A question and an answer each.
        let one_way = u64::try_from(2 * QUESTIONS).unwrap();
        assert_eq!(packets_of(5001), times * one_way, "routed, {directions:?}: {counts:?}");
        assert_eq!(packets_of(5002), one_way, "the host's own, {directions:?}: {counts:?}");
        let Counters { outcomes, received_packets, metered_packets, .. } = subject.counters();
        assert_eq!(received_packets, metered_packets + outcomes.iter().sum::<u64>());
        let already = if directions == Directions::Once { one_way } else { 0 };
        assert_eq!(outcomes[Outcome::AlreadyMetered as usize], already, "{directions:?}");
    }
}

fn ask(from: &UdpSocket, server: &UdpSocket, times: usize) {
    let mut answer = [0; 64];
    from.set_read_timeout(Some(super::subject::SOON)).unwrap();
    server.set_read_timeout(Some(super::subject::SOON)).unwrap();
    for _ in 0..times {
        from.send_to(b"question", server.local_addr().unwrap()).unwrap();
        let (length, asker) = server.recv_from(&mut answer).unwrap();
        server.send_to(&answer[..length], asker).unwrap();
        from.recv_from(&mut answer).unwrap();
    }
}

#[test]
#[ignore = "needs root: run `make test`"]
fn hooks_of_either_kind_know_of_each_other() {
    // In by native XDP on one port, out by tc on the other: the packet carries where it came in on.
    let crossing = Crossing::bridged("mixed");
    let mut subject = Subject::with(|options| options.once = true);
    let _in = subject.attach(&crossing.ends[0], plan(XdpMode::Native, Directions::Ingress)).unwrap();
    let out = subject.attach(&crossing.ends[1], plan(XdpMode::Tc, Directions::Egress)).unwrap();
    assert_eq!((out.ingress(), out.egress(), out.mode()), (None, Some(tc_hook()), tc_hook()));
    assert_ne!(out.mode(), Hook::Native);
    send(&crossing.client, &some_packets());
    let mut expected = Counts::new();
    add_packets(&mut expected, &some_packets(), &crossing.ends[0], Direction::Ingress);
    let many = u64::try_from(some_packets().len()).unwrap();
    subject.assert_counts(&expected, &[(Outcome::AlreadyMetered, many)], "mixed");
}
