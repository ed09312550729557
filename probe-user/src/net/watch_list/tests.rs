// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Differences between two looks, and what is told of them.

use super::*;
use crate::net::LinkKind;

fn link(name: &str, index: u32) -> Link {
    Link {
        index,
        name: name.into(),
        up: true,
        controller: None,
        stacked_on: None,
        loopback: false,
        kind: LinkKind::default(),
        mtu: 1500,
    }
}

fn port(name: &str, index: u32, bridge: u32) -> Link {
    Link { controller: Some(bridge), ..link(name, index) }
}

const MTU: LinkSettings = LinkSettings { mtu: 1500, receive_queues: Some(1) };

/// Names of the changes, which is what most tests are about.
fn look_at(list: &mut WatchList, links: &[Link], removed: &[u32]) -> Vec<LinkChange> {
    list.compare(&Look { links, removed, queues: &|_| Some(1) })
}

fn watching(links: &[Link]) -> WatchList {
    let mut list = WatchList::default();
    links.iter().for_each(|link| list.watch(link, MTU));
    list
}

fn gone(name: &str, index: u32) -> LinkChange {
    LinkChange::Gone { name: name.into(), index }
}

fn removed_port(name: &str, index: u32) -> LinkChange {
    LinkChange::PortRemoved { bridge: "br0".into(), name: name.into(), index }
}

fn added_port(port: Link) -> LinkChange {
    LinkChange::PortAdded { bridge: "br0".into(), port }
}

/// `br0` with index 9 and the ports a (1) and b (2).
fn watching_bridge() -> WatchList {
    let mut list = WatchList::default();
    let bridge = Bridge { link: link("br0", 9), ports: vec![port("a", 1, 9), port("b", 2, 9)] };
    list.watch_bridge(&bridge, |_| MTU);
    list
}

#[test]
fn each_change_is_told_once() {
    let down = Link { up: false, ..link("eth1", 3) };
    let renamed = LinkChange::Renamed { from: "eth1".into(), link: link("eth9", 3) };
    for (links, told) in [
        (vec![link("eth1", 3)], vec![]),
        (vec![link("eth1", 3), link("eth2", 4)], vec![]),
        (vec![down.clone()], vec![LinkChange::Down(down)]),
        (vec![], vec![gone("eth1", 3)]),
        (vec![link("eth1", 4)], vec![gone("eth1", 3), LinkChange::Came(link("eth1", 4))]),
        (vec![link("eth9", 3)], vec![renamed]),
    ] {
        let mut list = watching(&[link("eth1", 3)]);
        assert_eq!(look_at(&mut list, &links, &[]), told);
        assert_eq!(look_at(&mut list, &links, &[]), [], "{told:?} is told twice");
    }
}

#[test]
fn what_went_down_comes_up_and_what_went_comes_back() {
    let mut list = watching(&[Link { up: false, ..link("eth1", 3) }]);
    assert_eq!(look_at(&mut list, &[link("eth1", 3)], &[]), [LinkChange::Up(link("eth1", 3))]);
    assert_eq!(look_at(&mut list, &[], &[]), [gone("eth1", 3)]);
    assert_eq!(look_at(&mut list, &[link("eth1", 3)], &[]), [LinkChange::Came(link("eth1", 3))]);
}

#[test]
fn an_index_that_was_given_again_is_not_the_same_interface() {
    let mut list = watching(&[link("eth1", 3)]);
    let told = [gone("eth1", 3), LinkChange::Came(link("eth1", 3))];
    assert_eq!(look_at(&mut list, &[link("eth1", 3)], &[3]), told);
    assert_eq!(look_at(&mut list, &[link("other", 3)], &[3]), [gone("eth1", 3)]);
}

#[test]
fn a_renamed_interface_is_waited_for_by_its_new_name() {
    let mut list = watching(&[link("eth1", 3)]);
    look_at(&mut list, &[link("eth9", 3)], &[]);
    // The old name is no longer ours, whoever has it.
    assert_eq!(look_at(&mut list, &[link("eth9", 3), link("eth1", 5)], &[]), []);
    assert_eq!(look_at(&mut list, &[link("eth1", 5)], &[]), [gone("eth9", 3)]);
    assert_eq!(look_at(&mut list, &[link("eth9", 7)], &[]), [LinkChange::Came(link("eth9", 7))]);
}

#[test]
fn two_that_swap_their_names_stay_themselves() {
    let mut list = watching(&[link("eth1", 3), link("eth2", 4)]);
    let swapped = [link("eth2", 3), link("eth1", 4)];
    let told = [
        LinkChange::Renamed { from: "eth1".into(), link: swapped[0].clone() },
        LinkChange::Renamed { from: "eth2".into(), link: swapped[1].clone() },
    ];
    assert_eq!(look_at(&mut list, &swapped, &[]), told);
}

#[test]
fn nothing_is_watched_twice_when_it_takes_the_name_of_what_is_gone() {
    let mut list = watching(&[link("eth1", 3), link("eth2", 4)]);
    let told = [gone("eth1", 3), LinkChange::Renamed { from: "eth2".into(), link: link("eth1", 4) }];
    assert_eq!(look_at(&mut list, &[link("eth1", 4)], &[]), told);
    assert_eq!(look_at(&mut list, &[link("eth1", 4)], &[]), []);
}

#[test]
fn settings_are_told_with_what_they_were() {
    let mut list = watching(&[link("eth1", 3)]);
    let mut look = |mtu, queues: Option<u32>| {
        let links = [Link { mtu, ..link("eth1", 3) }];
        list.compare(&Look { links: &links, removed: &[], queues: &move |_| queues })
    };
    let settings = |mtu, receive_queues| LinkSettings { mtu, receive_queues };
    let told =
        |before, now| LinkChange::Settings { link: Link { mtu: 9000, ..link("eth1", 3) }, before, now };
    assert_eq!(look(9000, Some(1)), [told(MTU, settings(9000, Some(1)))]);
    assert_eq!(look(9000, Some(4)), [told(settings(9000, Some(1)), settings(9000, Some(4)))]);
    // Not to know is no change.
    assert_eq!(look(9000, None), []);
}

#[test]
fn forgotten_interfaces_are_not_told_of() {
    let mut list = watching(&[link("eth1", 3), link("eth2", 4)]);
    assert!(list.forget("eth1"));
    assert!(!list.forget("eth1"));
    assert_eq!(look_at(&mut list, &[], &[]), [gone("eth2", 4)]);
}

#[test]
fn ports_come_and_go() {
    let mut list = watching_bridge();
    let (a, b, c) = (port("a", 1, 9), port("b", 2, 9), port("c", 3, 9));
    let bridge = link("br0", 9);
    assert_eq!(look_at(&mut list, &[a.clone(), b.clone(), bridge.clone()], &[]), []);
    let told = look_at(&mut list, &[a.clone(), b.clone(), c.clone(), bridge.clone()], &[]);
    assert_eq!(told, [added_port(c.clone())]);
    // Taken from the bridge; removed altogether; and made anew at once, with the same index or another.
    let told = look_at(&mut list, &[link("a", 1), b.clone(), c.clone(), bridge.clone()], &[]);
    assert_eq!(told, [removed_port("a", 1)]);
    assert_eq!(look_at(&mut list, &[b.clone(), bridge.clone()], &[1, 3]), [removed_port("c", 3)]);
    let told = look_at(&mut list, &[b.clone(), bridge.clone()], &[2]);
    assert_eq!(told, [removed_port("b", 2), added_port(b)]);
    let b = port("b", 7, 9);
    let told = look_at(&mut list, &[b.clone(), bridge.clone()], &[2]);
    assert_eq!(told, [removed_port("b", 2), added_port(b.clone())]);
    assert_eq!(look_at(&mut list, &[b, bridge], &[]), []);
}

#[test]
fn ports_are_watched_like_interfaces_as_long_as_they_are_ports() {
    let mut list = watching_bridge();
    let down = Link { up: false, ..port("a", 1, 9) };
    let bridge = link("br0", 9);
    let told = look_at(&mut list, &[down.clone(), port("b2", 2, 9), bridge.clone()], &[]);
    let renamed = LinkChange::Renamed { from: "b".into(), link: port("b2", 2, 9) };
    assert_eq!(told, [LinkChange::Down(down), renamed]);
    look_at(&mut list, &[link("a", 1), port("b2", 2, 9), bridge.clone()], &[]);
    let told = look_at(&mut list, &[Link { up: false, ..link("a", 1) }, port("b2", 2, 9), bridge], &[]);
    assert_eq!(told, []);
}

#[test]
fn a_port_watched_by_itself_stays_watched_when_it_leaves_the_bridge() {
    let mut list = watching_bridge();
    list.watch(&port("a", 1, 9), MTU);
    let told = look_at(&mut list, &[link("a", 1), port("b", 2, 9), link("br0", 9)], &[]);
    assert_eq!(told, [removed_port("a", 1)]);
    assert_eq!(look_at(&mut list, &[port("b", 2, 9), link("br0", 9)], &[]), [gone("a", 1)]);
}

#[test]
fn a_forgotten_port_is_new_only_when_it_is_added_again() {
    let mut list = watching_bridge();
    assert!(list.forget("a"));
    let bridge = link("br0", 9);
    assert_eq!(look_at(&mut list, &[port("a", 1, 9), port("b", 2, 9), bridge.clone()], &[]), []);
    look_at(&mut list, &[link("a", 1), port("b", 2, 9), bridge.clone()], &[]);
    let told = look_at(&mut list, &[port("a", 1, 9), port("b", 2, 9), bridge], &[]);
    assert_eq!(told, [added_port(port("a", 1, 9))]);
}

#[test]
fn the_bridge_itself_comes_and_goes() {
    let mut list = watching_bridge();
    let free = [link("a", 1), link("b", 2)];
    let bridge_gone = LinkChange::BridgeGone { name: "br0".into() };
    let told = look_at(&mut list, &free, &[9]);
    assert_eq!(told, [removed_port("a", 1), removed_port("b", 2), bridge_gone]);
    assert_eq!(look_at(&mut list, &free, &[]), []);
    let (a, bridge) = (port("a", 1, 12), link("br0", 12));
    let told = look_at(&mut list, &[a.clone(), link("b", 2), bridge.clone()], &[]);
    assert_eq!(told, [LinkChange::BridgeCame(bridge.clone()), added_port(a.clone())]);
    let renamed = Link { name: "lan".into(), ..bridge.clone() };
    let told = look_at(&mut list, &[a.clone(), renamed.clone()], &[]);
    assert_eq!(told, [LinkChange::BridgeRenamed { from: "br0".into(), link: renamed.clone() }]);
    // Ports are told under the new name.
    let told = look_at(&mut list, &[link("a", 1), renamed], &[]);
    assert_eq!(told, [LinkChange::PortRemoved { bridge: "lan".into(), name: "a".into(), index: 1 }]);
}

#[test]
fn a_port_that_goes_to_another_watched_bridge_stays_watched() {
    for order in [["br0", "br1"], ["br1", "br0"]] {
        let mut list = WatchList::default();
        let index = |name| if name == "br0" { 9 } else { 8 };
        for name in order {
            let ports = if name == "br0" { vec![port("a", 1, 9)] } else { Vec::new() };
            list.watch_bridge(&Bridge { link: link(name, index(name)), ports }, |_| MTU);
        }
        let bridges = [link("br0", 9), link("br1", 8)];
        let told = look_at(&mut list, &[&[port("a", 1, 8)], &bridges[..]].concat(), &[]);
        let added = LinkChange::PortAdded { bridge: "br1".into(), port: port("a", 1, 8) };
        assert_eq!(told, [removed_port("a", 1), added]);
        let down = Link { up: false, ..port("a", 1, 8) };
        let told = look_at(&mut list, &[std::slice::from_ref(&down), &bridges[..]].concat(), &[]);
        assert_eq!(told, [LinkChange::Down(down)]);
    }
}

#[test]
fn a_forgotten_bridge_takes_its_ports_along_but_not_what_is_watched_by_itself() {
    let mut list = watching_bridge();
    list.watch(&port("a", 1, 9), MTU);
    assert!(list.forget_bridge("br0"));
    assert!(!list.forget_bridge("br0"));
    assert_eq!(look_at(&mut list, &[], &[]), [gone("a", 1)]);
}
