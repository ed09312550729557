// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Interfaces and bridges that change, vanish and come back, with the kernel's own ones in a namespace.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::{sync::Arc, thread, time::Duration};

use netlink_sys::{Socket, protocols::NETLINK_ROUTE};
use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
};
use probe_lab::{Namespace, require_root};
use probe_user::net::{self, LinkChange, LinkMonitor, LinkSettings};

/// Runs `work` in a namespace of its own, whose interfaces /sys shows.
fn in_namespace(label: &str, work: impl FnOnce(&Arc<Namespace>) + Send) {
    require_root();
    let namespace = Arc::new(Namespace::new(label).unwrap());
    namespace
        .enter(|| {
            unshare(CloneFlags::CLONE_NEWNS).unwrap();
            mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_SLAVE, None::<&str>)
                .unwrap();
            mount(Some("sysfs"), "/sys", Some("sysfs"), MsFlags::empty(), None::<&str>).unwrap();
            work(&namespace);
        })
        .unwrap();
}

fn ip(namespace: &Namespace, command: &str) {
    namespace.ip(&command.split_whitespace().collect::<Vec<_>>()).unwrap();
}

fn watch(names: &[&str]) -> LinkMonitor {
    let links: Vec<_> = names.iter().map(|name| net::find(name).unwrap().unwrap()).collect();
    let mut monitor = LinkMonitor::new(&links).unwrap();
    settle(&mut monitor);
    monitor
}

/// Hears out what the kernel tells late: the carrier's changes.
fn settle(monitor: &mut LinkMonitor) {
    for _ in 0..20 {
        thread::sleep(Duration::from_millis(10));
        monitor.changes().unwrap();
    }
}

fn index(name: &str) -> u32 {
    net::find(name).unwrap().unwrap().index
}

/// A change in few words.
fn words(change: &LinkChange) -> String {
    match change {
        LinkChange::Gone { name, .. } => format!("{name} gone"),
        LinkChange::Came(link) => format!("{} came", link.name),
        LinkChange::Down(link) => format!("{} down", link.name),
        LinkChange::Up(link) => format!("{} up", link.name),
        LinkChange::Renamed { from, link } => format!("{from} renamed {}", link.name),
        LinkChange::Settings { link, now, .. } => {
            format!("{} mtu {} queues {}", link.name, now.mtu, now.receive_queues.unwrap_or(0))
        }
        LinkChange::PortAdded { bridge, port } => format!("{bridge} + {}", port.name),
        LinkChange::PortRemoved { bridge, name, .. } => format!("{bridge} - {name}"),
        LinkChange::BridgeGone { name } => format!("bridge {name} gone"),
        LinkChange::BridgeCame(link) => format!("bridge {} came", link.name),
        LinkChange::BridgeRenamed { from, link } => format!("bridge {from} renamed {}", link.name),
    }
}

/// Waits until the last of `expected` is told, and checks that all were, in this order and nothing else.
fn expect(monitor: &mut LinkMonitor, expected: &[&str]) {
    let mut told = Vec::new();
    for _ in 0..500 {
        told.extend(monitor.changes().unwrap().iter().map(words));
        if told.len() >= expected.len() {
            break;
        }
        thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(told, expected);
}

#[test]
#[ignore = "needs root: run `make test`"]
fn an_interface_goes_down_up_away_and_comes_back_with_another_index() {
    in_namespace("links", |namespace| {
        ip(namespace, "link add va type veth peer name vb");
        ip(namespace, "link set va up");
        ip(namespace, "link set vb up");
        let mut monitor = watch(&["va"]);
        let first = index("va");
        ip(namespace, "link set va down");
        expect(&mut monitor, &["va down"]);
        ip(namespace, "link set va up");
        expect(&mut monitor, &["va up"]);
        // The other end decides about the carrier.
        ip(namespace, "link set vb down");
        expect(&mut monitor, &["va down"]);
        ip(namespace, "link set vb up");
        expect(&mut monitor, &["va up"]);
        ip(namespace, "link delete va");
        expect(&mut monitor, &["va gone"]);
        ip(namespace, "link add va type veth peer name vb");
        expect(&mut monitor, &["va came"]);
        assert_ne!(index("va"), first);
        // Others are nobody's business.
        ip(namespace, "link add vc type veth peer name vc-far");
        expect(&mut monitor, &[]);
    });
}

#[test]
#[ignore = "needs root: run `make test`"]
fn an_interface_made_anew_between_two_looks_is_told_gone_and_come_even_with_the_same_index() {
    in_namespace("anew", |namespace| {
        ip(namespace, "link add va index 77 type veth peer name va-far");
        let mut monitor = watch(&["va"]);
        ip(namespace, "link delete va");
        ip(namespace, "link add va index 77 type veth peer name va-far");
        expect(&mut monitor, &["va gone", "va came"]);
        ip(namespace, "link delete va");
        ip(namespace, "link add other index 77 type veth peer name other-far");
        expect(&mut monitor, &["va gone"]);
    });
}

#[test]
#[ignore = "needs root: run `make test`"]
fn a_renamed_interface_stays_the_same() {
    in_namespace("rename", |namespace| {
        ip(namespace, "link add va type veth peer name va-far");
        ip(namespace, "link add vb type veth peer name vb-far");
        let mut monitor = watch(&["va", "vb"]);
        ip(namespace, "link set va name lan");
        expect(&mut monitor, &["va renamed lan"]);
        // Swapped through a third name, in one look.
        ip(namespace, "link set lan name vx");
        ip(namespace, "link set vb name lan");
        ip(namespace, "link set vx name vb");
        expect(&mut monitor, &["lan renamed vb", "vb renamed lan"]);
        ip(namespace, "link delete lan");
        expect(&mut monitor, &["lan gone"]);
    });
}

#[test]
#[ignore = "needs root: run `make test`"]
fn an_interface_moves_to_another_namespace_and_back() {
    in_namespace("move", |namespace| {
        let elsewhere = Namespace::new("elsewhere").unwrap();
        ip(namespace, "link add va type veth peer name va-far");
        let mut monitor = watch(&["va"]);
        ip(namespace, &format!("link set va netns {}", elsewhere.name()));
        expect(&mut monitor, &["va gone"]);
        ip(&elsewhere, &format!("link set va netns {}", namespace.name()));
        expect(&mut monitor, &["va came"]);
    });
}

#[test]
#[ignore = "needs root: run `make test`"]
fn mtu_and_queues_change() {
    in_namespace("settings", |namespace| {
        ip(
            namespace,
            "link add va numrxqueues 4 numtxqueues 4 type veth peer name vb numrxqueues 4 numtxqueues 4",
        );
        ip(namespace, "link set va up");
        ip(namespace, "link set vb up");
        namespace.run("ethtool", &["-L", "va", "rx", "1", "tx", "1"]).unwrap();
        let mut monitor = watch(&["va"]);
        ip(namespace, "link set va mtu 9000");
        expect(&mut monitor, &["va mtu 9000 queues 1"]);
        namespace.run("ethtool", &["-L", "va", "rx", "3", "tx", "3"]).unwrap();
        // veth takes its carrier away meanwhile, which may be seen or not.
        let mut told = Vec::new();
        for _ in 0..500 {
            told.extend(monitor.changes().unwrap());
            if told.iter().any(|change| matches!(change, LinkChange::Settings { .. })) {
                break;
            }
            thread::sleep(Duration::from_millis(10));
        }
        let settings = told.iter().find_map(|change| match change {
            LinkChange::Settings { before, now, .. } => Some((*before, *now)),
            _ => None,
        });
        let with = |queues| LinkSettings { mtu: 9000, receive_queues: Some(queues) };
        assert_eq!(settings, Some((with(1), with(3))), "{told:?}");
    });
}

#[test]
#[ignore = "needs root: run `make test`"]
fn queues_of_an_interface_that_is_down_change_which_only_ethtool_tells() {
    in_namespace("quiet", |namespace| {
        ip(namespace, "link add va numrxqueues 4 numtxqueues 4 type veth peer name vb");
        namespace.run("ethtool", &["-L", "va", "rx", "1", "tx", "1"]).unwrap();
        let mut monitor = watch(&["va"]);
        namespace.run("ethtool", &["-L", "va", "rx", "3", "tx", "3"]).unwrap();
        expect(&mut monitor, &["va mtu 1500 queues 3"]);
    });
}

#[test]
#[ignore = "needs root: run `make test`"]
fn ports_of_a_bridge_come_and_go_and_so_does_the_bridge() {
    in_namespace("bridge", |namespace| {
        for command in [
            "link add br0 type bridge",
            "link add va type veth peer name va-far",
            "link add vb type veth peer name vb-far",
            "link set va master br0",
            "link set br0 up",
        ] {
            ip(namespace, command);
        }
        assert!(net::bridge("br9").unwrap().is_none());
        assert!(net::bridge("va").unwrap_err().to_string().contains("no Linux bridge"));
        let bridge = net::bridge("br0").unwrap().unwrap();
        assert_eq!(bridge.link.index, index("br0"));
        assert_eq!(bridge.ports.iter().map(|port| port.index).collect::<Vec<_>>(), [index("va")]);
        let mut monitor = LinkMonitor::new(&[]).unwrap();
        monitor.watch_bridge(&bridge).unwrap();
        settle(&mut monitor);

        ip(namespace, "link set vb master br0");
        expect(&mut monitor, &["br0 + vb"]);
        // A port is watched like an interface.
        ip(namespace, "link set vb up");
        ip(namespace, "link set vb-far up");
        expect(&mut monitor, &["vb up"]);
        ip(namespace, "link set vb name vm1");
        expect(&mut monitor, &["vb renamed vm1"]);
        // Taken from the bridge: the kernel calls it a deleted link of the bridge's family.
        ip(namespace, "link set vm1 nomaster");
        expect(&mut monitor, &["br0 - vm1"]);
        ip(namespace, "link set vm1 down");
        expect(&mut monitor, &[]);
        // Removed altogether, and made anew.
        ip(namespace, "link delete va");
        expect(&mut monitor, &["br0 - va"]);
        ip(namespace, "link add va master br0 type veth peer name va-far");
        expect(&mut monitor, &["br0 + va"]);
        ip(namespace, "link delete br0");
        expect(&mut monitor, &["br0 - va", "bridge br0 gone"]);
        ip(namespace, "link add br0 type bridge");
        ip(namespace, "link set va master br0");
        expect(&mut monitor, &["bridge br0 came", "br0 + va"]);
        ip(namespace, "link set br0 name lan");
        expect(&mut monitor, &["bridge br0 renamed lan"]);
        assert!(monitor.forget_bridge("lan"));
        ip(namespace, "link delete va");
        expect(&mut monitor, &[]);
    });
}

#[test]
#[ignore = "needs root: run `make test`"]
fn what_is_watched_can_change_and_more_than_the_socket_holds_is_not_missed() {
    in_namespace("storm", |namespace| {
        ip(namespace, "link add va type veth peer name va-far");
        ip(namespace, "link add vb type veth peer name vb-far");
        let mut monitor = watch(&["va"]);
        monitor.watch(&net::find("vb").unwrap().unwrap()).unwrap();
        assert!(monitor.forget("va"));
        let mut witness = Socket::new(NETLINK_ROUTE).unwrap();
        witness.bind_auto().unwrap();
        witness.add_membership(1).unwrap();
        witness.set_non_blocking(true).unwrap();
        // Far more notifications than the socket's buffer (208 KiB by default) holds: ENOBUFS.
        let commands =
            "link set va mtu 1400\nlink set va mtu 1500\n".repeat(400) + "link delete va\nlink delete vb\n";
        let batch = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(batch.path(), commands).unwrap();
        namespace.ip(&["-batch", batch.path().to_str().unwrap()]).unwrap();
        assert_eq!(witness.recv_from_full().unwrap_err().raw_os_error(), Some(libc::ENOBUFS));
        expect(&mut monitor, &["vb gone"]);
    });
}
