// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The clsact qdisc, which does not undo itself, and filters of others on it.

use probe_common::Direction;
use probe_lab::Link;
use probe_user::{
    kernel::{AttachPlan, Directions, Hook, KernelError, XdpMode},
    net::Role,
};

use super::{
    modes::{send, some_packets},
    subject::{Counts, Subject, add_packets, assert_bare, tc},
};

const CLSACT: AttachPlan =
    AttachPlan { role: Role::Host, mode: XdpMode::Tc, directions: Directions::Both, tcx: false };

fn filters(link: &Link, way: &str) -> usize {
    let shown = tc(&link.metered, &["filter", "show", "dev", "tap0", way]);
    shown.lines().filter(|line| line.contains("handle") && line.contains("probe_")).count()
}

fn has_qdisc(link: &Link) -> bool {
    tc(&link.metered, &["qdisc", "show", "dev", "tap0"]).contains("clsact")
}

#[test]
#[ignore = "needs root: run `make test`"]
fn what_a_crash_left_on_clsact_is_removed_by_the_next_attachment() {
    let link = Link::new("crash", 1).unwrap();
    let mut crashed = Subject::new();
    crashed.attach(&link.metered, CLSACT).unwrap().crash();
    drop(crashed);
    assert_eq!((filters(&link, "ingress"), filters(&link, "egress")), (1, 1), "as after a crash");

    let mut subject = Subject::new();
    let held = subject.attach(&link.metered, CLSACT).unwrap();
    assert_eq!((held.ingress(), held.egress()), (Some(Hook::Clsact), Some(Hook::Clsact)));
    assert_eq!((filters(&link, "ingress"), filters(&link, "egress")), (1, 1), "ours, and no other");
    send(&link.sender, &some_packets());
    send(&link.metered, &some_packets());
    let mut expected = Counts::new();
    add_packets(&mut expected, &some_packets(), &link.metered, Direction::Ingress);
    add_packets(&mut expected, &some_packets(), &link.metered, Direction::Egress);
    subject.assert_counts(&expected, &[], "once for each way");
    drop(held);
    assert_bare(&link.metered);
}

#[test]
#[ignore = "needs root: run `make test`"]
fn a_qdisc_or_filter_of_others_stays() {
    let link = Link::new("others", 1).unwrap();
    let mut subject = Subject::new();

    tc(&link.metered, &["qdisc", "add", "dev", "tap0", "clsact"]);
    drop(subject.attach(&link.metered, CLSACT).unwrap());
    assert!(has_qdisc(&link), "it was there before");
    tc(&link.metered, &["qdisc", "del", "dev", "tap0", "clsact"]);

    let held = subject.attach(&link.metered, CLSACT).unwrap();
    add_thief(&link, "10");
    drop(held);
    assert!(has_qdisc(&link), "somebody has put a filter there meanwhile");
    assert_eq!((filters(&link, "ingress"), filters(&link, "egress")), (0, 0));
    assert!(tc(&link.metered, &["filter", "show", "dev", "tap0", "ingress"]).contains("u32"));
}

/// A filter that takes every packet away.
fn add_thief(link: &Link, priority: &str) {
    link.metered.namespace.ip(&["link", "add", "sink0", "type", "bridge"]).unwrap();
    link.metered.namespace.ip(&["link", "set", "sink0", "up"]).unwrap();
    let mut args = vec!["filter", "add", "dev", "tap0", "ingress", "prio", priority, "protocol", "all"];
    args.extend(["u32", "match", "u32", "0", "0", "action", "mirred", "egress", "redirect", "dev", "sink0"]);
    tc(&link.metered, &args);
}

#[test]
#[ignore = "needs root: run `make test`"]
fn the_probe_sees_packets_before_filters_of_others() {
    for tcx in [true, false] {
        let link = Link::new("thief", 1).unwrap();
        tc(&link.metered, &["qdisc", "add", "dev", "tap0", "clsact"]);
        add_thief(&link, "10");
        let mut subject = Subject::new();
        let held = subject.attach(&link.metered, AttachPlan { tcx, ..CLSACT }).unwrap();
        assert_eq!(held.warnings(), [""; 0]);
        send(&link.sender, &some_packets());
        let mut expected = Counts::new();
        add_packets(&mut expected, &some_packets(), &link.metered, Direction::Ingress);
        subject.assert_counts(&expected, &[], &format!("tcx {tcx}"));
    }
}

#[test]
#[ignore = "needs root: run `make test`"]
fn a_filter_that_cannot_be_preceded_is_told() {
    let link = Link::new("before", 1).unwrap();
    tc(&link.metered, &["qdisc", "add", "dev", "tap0", "clsact"]);
    add_thief(&link, "1");
    let mut subject = Subject::new();
    let held = subject.attach(&link.metered, CLSACT).unwrap();
    let [warning] = held.warnings().try_into().unwrap();
    assert!(warning.contains("tc filters before the probe's (ingress"), "{warning}");
    assert_eq!(filters(&link, "ingress"), 1, "attached all the same");
}

#[test]
#[ignore = "needs root: run `make test`"]
fn an_ingress_qdisc_takes_no_program_for_what_goes_out() {
    let link = Link::new("oldqdisc", 1).unwrap();
    tc(&link.metered, &["qdisc", "add", "dev", "tap0", "ingress"]);
    let mut subject = Subject::new();
    let error = subject.attach(&link.metered, CLSACT).err().unwrap();
    assert!(matches!(error, KernelError::Attach { .. }), "{error}");
    assert!(error.to_string().contains("tc qdisc del dev tap0 ingress"), "{error}");
    assert_eq!(filters(&link, "ingress"), 0, "nothing stays attached");

    let ingress = AttachPlan { directions: Directions::Ingress, ..CLSACT };
    let held = subject.attach(&link.metered, ingress).unwrap();
    send(&link.sender, &some_packets());
    let mut expected = Counts::new();
    add_packets(&mut expected, &some_packets(), &link.metered, Direction::Ingress);
    subject.assert_counts(&expected, &[], "through an ingress qdisc");
    drop(held);
    assert!(tc(&link.metered, &["qdisc", "show", "dev", "tap0"]).contains("qdisc ingress"));
}
