// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Captures of other projects, many of them malformed on purpose: no crash, no hang, a balanced ledger,
//! and the same packets that an independent reader finds.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod replay_support;

use std::fs::File;
use std::path::Path;

use pcap_parser::traits::PcapNGPacketBlock;
use pcap_parser::{Block, PcapBlockOwned, PcapError, create_reader};
use probe_user::capture::CaptureReader;
use replay_support::{corpus, files, options, replay};

const FOLDERS: [&str; 4] = ["tcpdump", "suricata-verify", "arkime", "ipfixprobe"];

#[test]
fn every_capture_ends_with_a_balanced_ledger() {
    let (mut captures, mut packets, mut metered, mut faults) = (0u64, 0u64, 0u64, Vec::new());
    for folder in FOLDERS {
        let Some(folder) = corpus(folder) else { return };
        for path in files(&folder, &["pcap", "pcapng", "gz"]) {
            let replayed = replay(&path, options());
            let (counts, name) = (replayed.counts, path.display());
            let unmetered = counts.outcomes.iter().sum::<u64>() + counts.unsupported_link_type;
            assert_eq!(counts.received_packets, counts.metered_packets + unmetered, "{name}");
            let sum = |part: fn(&probe_user::flow::FlowRecord) -> u64| {
                replayed.records.iter().map(part).sum::<u64>()
            };
            assert_eq!(counts.metered_packets, sum(|record| record.packets), "{name}");
            assert_eq!(counts.metered_octets, sum(|record| record.octets), "{name}");
            assert_eq!(replayed.created, replayed.records.len() as u64, "{name}");
            for record in &replayed.records {
                assert!(record.packets > 0 && record.start_ns <= record.end_ns, "{name}: {record:?}");
            }
            captures += 1;
            packets += counts.received_packets;
            metered += counts.metered_packets;
            faults.extend(replayed.fault.map(|fault| fault.to_string()));
        }
    }
    println!("{captures} captures, {packets} packets, {metered} metered, {} faults", faults.len());
    for fault in &faults {
        println!("{fault}");
    }
    assert!(captures > 2400, "only {captures} captures");
    assert!(metered > 50_000, "only {metered} packets metered");
    assert!(faults.len() < 10, "{} captures with faults: {faults:?}", faults.len());
}

/// Packets, their octets, and the octets that they had on the wire.
type Sum = (u64, u64, u64);

fn ours(path: &Path) -> Option<Sum> {
    let mut reader = CaptureReader::open(path).ok()?;
    let mut sum = (0, 0, 0);
    while let Some(packet) = reader.next_packet().ok()? {
        sum = (sum.0 + 1, sum.1 + packet.data.len() as u64, sum.2 + u64::from(packet.wire_length));
    }
    Some(sum)
}

/// What pcap-parser's own readers find; `None` for a file with a fault or a block that it does not know.
fn independent(path: &Path) -> Option<Sum> {
    let mut reader = create_reader(8 << 20, File::open(path).unwrap()).ok()?;
    let mut sum: Sum = (0, 0, 0);
    loop {
        match reader.next() {
            Ok((offset, block)) => {
                let packet = match &block {
                    PcapBlockOwned::Legacy(packet) => Some((packet.caplen, packet.origlen)),
                    PcapBlockOwned::NG(Block::EnhancedPacket(packet)) => {
                        Some((packet.caplen, packet.origlen))
                    }
                    PcapBlockOwned::NG(Block::SimplePacket(packet)) => {
                        Some((u32::try_from(packet.packet_data().len()).unwrap(), packet.origlen))
                    }
                    // The obsolete packet block, which pcap-parser hands out as it is.
                    PcapBlockOwned::NG(Block::Unknown(unknown)) if unknown.block_type == 2 => return None,
                    _ => None,
                };
                if let Some((captured, wire)) = packet {
                    sum = (sum.0 + 1, sum.1 + u64::from(captured), sum.2 + u64::from(wire));
                }
                reader.consume(offset);
            }
            Err(PcapError::Eof) => return Some(sum),
            Err(PcapError::Incomplete(_)) => reader.refill().unwrap(),
            Err(_) => return None,
        }
    }
}

#[test]
fn an_independent_reader_finds_the_same_packets() {
    let mut compared = 0;
    for folder in FOLDERS {
        let Some(folder) = corpus(folder) else { return };
        for path in files(&folder, &["pcap", "pcapng"]) {
            if let (Some(ours), Some(theirs)) = (ours(&path), independent(&path)) {
                assert_eq!(ours, theirs, "{}", path.display());
                compared += 1;
            }
        }
    }
    println!("{compared} captures compared");
    assert!(compared > 2400, "only {compared} captures compared");
}
