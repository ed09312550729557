// SPDX-License-Identifier: Apache-2.0 OR MIT
//! NetFlow v5 over wrap points and clocks that jump, read back by our decoder and by an independent one.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use netflow_parser::{NetflowPacket, NetflowParser};
use probe_common::{Detail, FlowKey};
use probe_user::collect::decode::netflow_v5::{Record, decode};
use probe_user::export::encode::netflow_v5::{
    Encoder, Full, HEADER_LEN, MAX_RECORDS, RECORD_LEN, Unfit, split,
};
use probe_user::flow::{EndReason, FlowRecord};
use proptest::prelude::*;

const MS: u64 = 1_000_000;
const SECOND: u64 = 1000 * MS;
const DAY: u64 = 86_400 * SECOND;
/// Last nanosecond that `unix_secs` can tell.
const LAST: u64 = (1 << 32) * SECOND - 1;

/// A flow, and what the host's clock says when it is exported.
#[derive(Clone, Copy, Debug)]
struct Export {
    record: FlowRecord,
    now: u64,
}

fn times() -> impl Strategy<Value = (u64, u64, u64)> {
    // Around the wraps of 31 and 32 bits of milliseconds since anything, and anywhere in between.
    let wrap = prop_oneof![Just(1u64 << 31), Just(1 << 32), Just(0)];
    let base = prop_oneof![Just(0u64), Just(1_700_000_000 * SECOND), 0..LAST - 200 * DAY];
    let start = (base, wrap, -3_000i64..3_000).prop_map(|(base, wrap, around)| {
        (base + wrap * MS).saturating_add_signed(around * 1_000_000 + 123_456)
    });
    let duration = prop_oneof![0..400 * SECOND, 0..2 * MS, 0..20 * DAY];
    let lag = prop_oneof![0..20 * SECOND, Just(0u64), 0..60 * DAY].prop_map(u64::cast_signed);
    let step_back = prop_oneof![4 => Just(0i64), 1 => 0..(30 * DAY).cast_signed()];
    (start, duration, lag, step_back).prop_map(|(start, duration, lag, back)| {
        let end = (start + duration).min(LAST);
        (start.min(end), end, end.saturating_add_signed(lag - back).min(LAST))
    })
}

fn counters() -> impl Strategy<Value = u64> {
    let edge = u64::from(u32::MAX);
    prop_oneof![4 => 1u64..10_000, 1 => edge - 2..edge + 3, 1 => 1..edge * 9, 1 => Just(1 << 38)]
}

fn export() -> impl Strategy<Value = Export> {
    let key = (
        any::<[u8; 4]>(),
        any::<[u8; 4]>(),
        prop_oneof![Just(1u8), Just(6), Just(17), any::<u8>()],
        any::<u8>(),
    );
    let rest = (any::<(u16, u16)>(), 0u32..200_000, 0u16..0x1000);
    (key, rest, times(), counters(), counters()).prop_map(
        |(key, rest, (start_ns, end_ns, now), packets, octets)| {
            let (source, destination, protocol, tos) = key;
            let ((source_port, destination_port), interface, tcp_flags) = rest;
            let mut key = FlowKey::ipv4(source, destination, protocol, tos);
            key.set_ports(if protocol == 1 { 0 } else { source_port }, destination_port);
            key.set_ingress_interface(interface);
            let end_reason = EndReason::Idle;
            Export {
                record: FlowRecord {
                    key,
                    packets,
                    octets,
                    start_ns,
                    end_ns,
                    tcp_flags,
                    end_reason,
                    detail: Detail::UNKNOWN,
                },
                now,
            }
        },
    )
}

/// Encodes as the exporter does, sealing now and then; returns the datagrams.
fn encode(encoder: &mut Encoder, exports: &[Export], seal_every: usize) -> Vec<Vec<u8>> {
    let mut datagrams = Vec::new();
    for (index, Export { record, now }) in exports.iter().enumerate() {
        for (packets, octets) in split(record).unwrap() {
            if let Err(Full) = encoder.push(record, packets, octets, *now) {
                datagrams.extend(encoder.seal(*now).map(<[u8]>::to_vec));
                assert_eq!(encoder.push(record, packets, octets, *now), Ok(()), "an empty datagram has room");
            }
        }
        if index % seal_every == 0 {
            datagrams.extend(encoder.seal(*now).map(<[u8]>::to_vec));
        }
    }
    datagrams.extend(encoder.seal(exports.last().map_or(0, |export| export.now)).map(<[u8]>::to_vec));
    assert!(encoder.seal(0).is_none(), "nothing is left");
    datagrams
}

/// The checks that hold for any datagram, and its records.
fn check(datagram: &[u8], sequence: &mut u32) -> Vec<Record> {
    let (header, records) = decode(datagram).unwrap();
    let records: Vec<_> = records.collect();
    assert_eq!(header.sequence, *sequence);
    assert_eq!(datagram.len(), HEADER_LEN + records.len() * RECORD_LEN);
    assert!((1..=MAX_RECORDS).contains(&records.len()));
    *sequence = sequence.wrapping_add(u32::from(header.count));
    for record in &records {
        assert!(
            record.first_ms <= record.last_ms && record.last_ms <= header.uptime_ms,
            "{header:?} {record:?}"
        );
        assert!(header.uptime_ms < 1 << 31);
    }
    records
}

fn compare_with_an_independent_decoder(datagram: &[u8], ours: &[Record]) {
    let parsed = NetflowParser::default().parse_bytes(datagram);
    assert!(parsed.error.is_none());
    let [NetflowPacket::V5(theirs)] = &parsed.packets[..] else { panic!("not one v5 packet: {parsed:?}") };
    let (header, _) = decode(datagram).unwrap();
    assert_eq!(
        (theirs.header.engine_type, theirs.header.engine_id, theirs.header.sampling_interval),
        (3, 9, 0)
    );
    assert_eq!((theirs.header.flow_sequence, theirs.header.sys_up_time), (header.sequence, header.uptime_ms));
    let unix_ms = u64::from(theirs.header.unix_secs) * 1000 + u64::from(theirs.header.unix_nsecs / 1_000_000);
    assert_eq!(unix_ms, header.unix_ms);
    assert_eq!(theirs.flowsets.len(), ours.len());
    for (their, our) in theirs.flowsets.iter().zip(ours) {
        let boot = unix_ms - u64::from(theirs.header.sys_up_time);
        assert_eq!(boot + u64::from(their.first), our.start_ms);
        assert_eq!(boot + u64::from(their.last), our.end_ms);
        assert_eq!((their.src_addr, their.dst_addr), (our.source, our.destination));
        assert_eq!((their.src_port, their.dst_port), (our.source_port, our.destination_port));
        assert_eq!((their.d_pkts, their.d_octets), (our.packets, our.octets));
        assert_eq!((their.input, their.tcp_flags), (our.input, our.tcp_flags));
        assert_eq!((their.protocol_number, their.tos), (our.protocol, our.tos));
        let zeros = [their.output, their.src_as, their.dst_as, their.pad2, their.pad1.into()];
        assert_eq!((zeros, their.next_hop.is_unspecified()), ([0; 5], true));
        assert_eq!((their.src_mask, their.dst_mask), (0, 0));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(debug_assertions) { 300 } else { 3000 }))]

    #[test]
    fn what_a_collector_reads_is_what_was_metered(
        exports in prop::collection::vec(export(), 1..80),
        seal_every in 1usize..40,
        per_datagram in 1usize..=30,
    ) {
        let mut encoder = Encoder::new(3, 9, per_datagram);
        let datagrams = encode(&mut encoder, &exports, seal_every);
        let mut sequence = 0;
        let mut read = Vec::new();
        for datagram in &datagrams {
            let records = check(datagram, &mut sequence);
            prop_assert!(records.len() <= per_datagram);
            compare_with_an_independent_decoder(datagram, &records);
            read.extend(records);
        }
        prop_assert_eq!(sequence, encoder.sequence());
        let mut read = read.into_iter();
        for Export { record, .. } in &exports {
            let pieces: Vec<Record> = read.by_ref().take(split(record).unwrap().len()).collect();
            prop_assert_eq!(pieces.iter().map(|piece| u64::from(piece.packets)).sum::<u64>(), record.packets);
            prop_assert_eq!(pieces.iter().map(|piece| u64::from(piece.octets)).sum::<u64>(), record.octets);
            for piece in pieces {
                // Whole milliseconds, cut: less than one lost.
                prop_assert_eq!(piece.start_ms, record.start_ns / MS);
                prop_assert_eq!(piece.end_ms, record.end_ns / MS);
                prop_assert_eq!(u32::from(piece.input), Some(record.key.ingress_interface()).filter(|i| *i < 65_536).unwrap_or(0));
                prop_assert_eq!(u16::from(piece.tcp_flags), record.tcp_flags & 0xff);
                prop_assert_eq!((piece.protocol, piece.tos), (record.key.protocol(), record.key.tos()));
                prop_assert_eq!(std::net::IpAddr::from(piece.source), record.key.source());
                prop_assert_eq!(std::net::IpAddr::from(piece.destination), record.key.destination());
                prop_assert_eq!(piece.source_port, record.key.source_port());
                prop_assert_eq!(piece.destination_port, record.key.destination_port());
            }
        }
        prop_assert!(read.next().is_none());
        prop_assert_eq!(encoder.adjusted_times, 0);
    }

    /// Times that version 5 cannot tell are cut, counted, and never break a datagram.
    #[test]
    fn no_times_break_a_datagram(
        exports in prop::collection::vec((export(), any::<(u64, u64, u64)>()), 1..40),
    ) {
        let exports: Vec<_> = exports
            .into_iter()
            .map(|(export, (start_ns, end_ns, now))| Export { record: FlowRecord { start_ns, end_ns, ..export.record }, now })
            .collect();
        let mut encoder = Encoder::new(3, 9, 30);
        let mut sequence = 0;
        for datagram in encode(&mut encoder, &exports, 7) {
            let records = check(&datagram, &mut sequence);
            compare_with_an_independent_decoder(&datagram, &records);
        }
    }
}

fn plain(start_ns: u64, end_ns: u64) -> FlowRecord {
    let key = FlowKey::ipv4([10, 0, 0, 1], [10, 0, 0, 2], 17, 0);
    FlowRecord {
        key,
        packets: 1,
        octets: 100,
        start_ns,
        end_ns,
        tcp_flags: 0,
        end_reason: EndReason::Idle,
        detail: Detail::UNKNOWN,
    }
}

fn boot_ms(datagram: &[u8]) -> u64 {
    let (header, _) = decode(datagram).unwrap();
    header.unix_ms - u64::from(header.uptime_ms)
}

#[test]
fn the_boot_time_stands_still_for_weeks_and_then_moves_between_datagrams() {
    let begin = 1_700_000_000 * SECOND + 999_999;
    let mut encoder = Encoder::new(0, 0, 30);
    let mut boots = Vec::new();
    for minute in 0..60 * 24 * 60 {
        let now = begin + minute * 60 * SECOND + minute * 7_777;
        let record = plain(now - 20 * SECOND, now - 15 * SECOND);
        assert_eq!(encoder.push(&record, 1, 100, now), Ok(()));
        let datagram = encoder.seal(now).unwrap();
        let boot = boot_ms(datagram);
        if boots.last() != Some(&boot) {
            boots.push(boot);
        }
    }
    // 60 days in stretches of almost 24 (24.8, less the day before the first record).
    assert_eq!(boots.len(), 3, "{boots:?}");
}

#[test]
fn a_clock_set_back_keeps_flow_times_and_boot_time() {
    let now = 1_700_000_000 * SECOND;
    let mut encoder = Encoder::new(0, 0, 30);
    encoder.push(&plain(now - SECOND, now), 1, 1, now).unwrap();
    let before = boot_ms(encoder.seal(now).unwrap());
    encoder.push(&plain(now - SECOND, now), 1, 1, now - 3600 * SECOND).unwrap();
    let datagram = encoder.seal(now - 3600 * SECOND).unwrap();
    assert_eq!(boot_ms(datagram), before);
    let (header, mut records) = decode(datagram).unwrap();
    assert_eq!((header.unix_ms, records.next().unwrap().end_ms), (now / MS, now / MS));
}

#[test]
fn an_old_capture_keeps_its_times_whatever_the_clock_says() {
    let (then, now) = (1_100_000_000 * SECOND, 1_780_000_000 * SECOND);
    let mut encoder = Encoder::new(0, 0, 30);
    for at in [then, then + 5 * DAY, then + 2000 * DAY, then] {
        encoder.push(&plain(at, at + SECOND), 1, 1, now).unwrap();
        let datagram = encoder.seal(now).unwrap();
        let (header, mut records) = decode(datagram).unwrap();
        assert_eq!(header.unix_ms, (at + SECOND) / MS);
        assert_eq!(records.next().unwrap().start_ms, at / MS);
    }
    assert_eq!(encoder.adjusted_times, 0);
}

#[test]
fn ipv6_and_counters_beyond_reason_are_refused() {
    let mut record = plain(0, 0);
    record.octets = (1 << 48) + (1 << 33);
    assert_eq!(split(&record).map(|pieces| pieces.len()), Err(Unfit::Counter));
    record.key = FlowKey::ipv6([0; 2], [0; 2], 17, 0);
    assert_eq!(split(&record).map(|pieces| pieces.len()), Err(Unfit::Ipv6));
    record.key = plain(0, 0).key;
    (record.packets, record.octets) = (0, 0);
    assert_eq!(split(&record).unwrap().collect::<Vec<_>>(), [(0, 0)]);
}
