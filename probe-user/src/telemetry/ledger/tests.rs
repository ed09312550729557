// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The sums, the JSON contract, the text, the file.

use std::{fs, path::Path};

use serde_json::json;

use super::*;

fn balanced() -> Ledger {
    Ledger {
        packets: PacketLedger {
            received: 1_000,
            metered: 900,
            unmetered: Reasons::unmetered(&[50, 5, 4, 0, 30, 0, 1, 0, 0]),
            steered: 10,
            af_xdp: AfXdpLedger {
                metered: 5,
                unmetered: Reasons::unmetered(&[0, 1, 0, 0, 0, 0, 0, 0, 0]),
                dropped: Reasons::af_xdp_drop(1, 3),
            },
            exported: 805,
            live: 70,
            lost: Reasons::lost(20, 10),
        },
        octets: OctetLedger {
            received: 99_000,
            metered: 79_500,
            metered_by_af_xdp: 500,
            exported: 70_000,
            live: 7_000,
            lost: Reasons::lost(2_000, 1_000),
        },
        flows: FlowLedger { created: 50, live: 8, expired: Reasons::expired(&[20, 2, 10, 10, 0]) },
        collectors: vec![CollectorLedger {
            url: "v5://192.0.2.10:2055".into(),
            not_selected: Reasons::new(&[("filtered", 7), ("elsewhere", 0)]),
            paired: 3,
            offered: 42,
            records: 30,
            datagrams: 2,
            dropped: Reasons::new(&[("queue", 2), ("send_error", 0)]),
            not_representable: Reasons::new(&[("ipv6", 10)]),
        }],
        noted: Reasons::new(&[("later_fragment", 3)]),
        nic: vec![NicLedger { interface: "eth1".into(), dropped: Reasons::new(&[("rx_missed_errors", 7)]) }],
    }
}

#[test]
fn every_number_of_a_sum_matters() {
    assert!(balanced().balanced());
    let packets: [fn(&mut Ledger); 10] = [
        |l| l.packets.received += 1,
        |l| l.packets.metered += 1,
        |l| l.packets.unmetered.add("not_ip", 1),
        |l| l.packets.af_xdp.metered += 1,
        |l| l.packets.steered += 1,
        |l| l.packets.af_xdp.unmetered.add("malformed", 1),
        |l| l.packets.af_xdp.dropped.add(RX_DROPPED, 1),
        |l| l.packets.exported += 1,
        |l| l.packets.live += 1,
        |l| l.packets.lost.add(QUEUE_FULL, 1),
    ];
    for (i, change) in packets.into_iter().enumerate() {
        let mut ledger = balanced();
        change(&mut ledger);
        assert!(!ledger.balanced(), "change {i}");
        // A packet too many in `metered`, there or here, or in `steered` is wrong in two sums.
        assert_eq!(ledger.imbalance_packets(), if [1, 3, 4].contains(&i) { 2 } else { 1 }, "change {i}");
    }
    let others: [fn(&mut Ledger); 9] = [
        |l| l.octets.metered += 1,
        |l| l.octets.metered_by_af_xdp += 1,
        |l| l.octets.exported += 1,
        |l| l.octets.live += 1,
        |l| l.octets.lost.add(SPILL_RING_FULL, 1),
        |l| l.collectors[0].offered += 1,
        |l| l.collectors[0].records += 1,
        |l| l.collectors[0].dropped.add("send_error", 1),
        |l| l.collectors[0].not_representable.add("ipv6", 1),
    ];
    for (i, change) in others.into_iter().enumerate() {
        let mut ledger = balanced();
        change(&mut ledger);
        assert!(!ledger.balanced(), "change {i}");
        assert_eq!(ledger.imbalance_packets(), 0);
        assert_eq!(ledger.imbalance_octets() + ledger.imbalance_records(), 1, "change {i}");
    }
}

#[test]
fn the_json_has_the_agreed_shape() {
    let json = serde_json::to_value(balanced()).unwrap();
    assert_eq!(
        json["packets"],
        json!({"received": 1000, "metered": 900,
               "unmetered": {"not_ip": 50, "truncated": 5, "malformed": 4, "too_deep": 0, "own_export": 30, "sampled_out": 0,
                             "llc": 1, "already_metered": 0, "socket_full": 0},
               "steered": 10, "metered_by_af_xdp": 5,
               "unmetered_by_af_xdp": {"not_ip": 0, "truncated": 1, "malformed": 0, "too_deep": 0, "own_export": 0,
                                       "sampled_out": 0, "llc": 0, "already_metered": 0, "socket_full": 0},
               "af_xdp_drop": {"rx_dropped": 1, "rx_ring_full": 3},
               "exported": 805, "live": 70, "lost": {"spill_ring_full": 20, "queue_full": 10}})
    );
    assert_eq!(
        json["octets"],
        json!({"received": 99_000, "metered": 79_500, "metered_by_af_xdp": 500, "exported": 70_000, "live": 7_000,
               "lost": {"spill_ring_full": 2000, "queue_full": 1000}})
    );
    assert_eq!(
        json["flows"],
        json!({"created": 50, "live": 8,
               "expired": {"idle": 20, "active": 2, "end": 10, "forced": 10, "lack_of_resources": 0}})
    );
    assert_eq!(
        json["collectors"],
        json!([{"url": "v5://192.0.2.10:2055", "not_selected": {"filtered": 7, "elsewhere": 0}, "paired": 3, "offered": 42, "records": 30, "datagrams": 2,
                "dropped": {"queue": 2, "send_error": 0}, "not_representable": {"ipv6": 10}}])
    );
    assert_eq!(json["balanced"], json!(true));
    assert_eq!(serde_json::to_value(Ledger::default()).unwrap()["balanced"], json!(true));
}

#[test]
fn the_text_says_where_everything_went() {
    let text = balanced().to_string();
    let expected = "\
Ledger                            packets  octets
received                             1000
  metered                             900   79500
  not metered                          90
    not_ip                             50
    truncated                           5
    malformed                           4
    own_export                         30
    llc                                 1
  steered to AF_XDP                    10
    metered                             5     500
    not metered                         1
      truncated                         1
    dropped                             4
      rx_dropped                        1
      rx_ring_full                      3
metered by both                       905   80000
  exported                            805   70000
  live                                 70    7000
  lost                                 30    3000
    spill_ring_full                    20    2000
    queue_full                         10    1000
flows: 50 created, 8 live, 42 ended (idle 20, active 2, end 10, forced 10)
metered, with something special: 3 packets (later_fragment 3)
v5://192.0.2.10:2055: 42 records, 30 sent in 2 datagrams, 2 dropped (queue 2), 10 not representable (ipv6 10); 7 not for it \
(filtered 7); 3 told as the reverse of another
eth1: 7 packets lost before the probe saw them (rx_missed_errors 7)
balanced: every packet, octet and record is accounted for
";
    assert_eq!(text, expected);
}

#[test]
fn where_nothing_was_steered_the_text_does_not_speak_of_it() {
    let mut ledger = balanced();
    ledger.packets.received -= 10;
    (ledger.packets.steered, ledger.packets.af_xdp) = (0, AfXdpLedger::default());
    ledger.packets.exported -= 5;
    (ledger.octets.metered_by_af_xdp, ledger.octets.exported) = (0, 69_500);
    assert!(ledger.balanced());
    let expected = "\
Ledger                            packets  octets
received                              990
  metered                             900   79500
    exported                          800   69500
    live                               70    7000
    lost                               30    3000
      spill_ring_full                  20    2000
      queue_full                       10    1000
  not metered                          90
";
    assert!(ledger.to_string().starts_with(expected), "{ledger}");
}

#[test]
fn the_text_shouts_when_a_sum_is_wrong() {
    let mut ledger = balanced();
    ledger.packets.received += 3;
    ledger.octets.live += 5;
    let text = ledger.to_string();
    assert!(text.contains("NOT BALANCED by 3 packets, 5 octets, 0 records"), "{text}");
    assert!(!text.contains("balanced:"), "{text}");
}

#[test]
fn the_columns_hold_the_largest_numbers() {
    let mut ledger = balanced();
    ledger.packets.received = u64::MAX;
    ledger.octets.metered = u64::MAX;
    let text = ledger.to_string();
    assert!(text.contains(&format!(" {}\n", u64::MAX)), "{text}");
}

#[test]
fn a_file_is_replaced_whole_and_nothing_is_left_beside_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ledger.json");
    fs::write(&path, "x".repeat(10_000)).unwrap();
    balanced().write(&path).unwrap();
    let read: serde_json::Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    assert_eq!(read["packets"]["received"], json!(1000));
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
}

#[test]
fn a_link_stays_a_link_and_a_device_a_device() {
    let directory = tempfile::tempdir().unwrap();
    let (target, link) = (directory.path().join("target"), directory.path().join("link"));
    fs::write(&target, "old").unwrap();
    std::os::unix::fs::symlink(&target, &link).unwrap();
    balanced().write(&link).unwrap();
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert!(fs::read_to_string(&target).unwrap().contains("\"balanced\":true"));
    balanced().write(Path::new("/dev/null")).unwrap();
    assert!(!fs::metadata("/dev/null").unwrap().is_file());
}

#[test]
fn a_file_that_cannot_be_written_is_named() {
    let directory = tempfile::tempdir().unwrap();
    for path in [directory.path().join("no/such/ledger.json"), directory.path().into(), "/".into()] {
        let error = balanced().write(&path).unwrap_err();
        assert_eq!(error.exit_status(), 1);
        assert!(error.report().contains(&path.display().to_string()), "{}", error.report());
    }
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    balanced().write(&directory.path().join("ledger.json")).unwrap();
}
