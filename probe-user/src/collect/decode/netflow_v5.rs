// SPDX-License-Identifier: Apache-2.0 OR MIT
//! NetFlow version 5, read strictly: a datagram is exactly its header and the records it counts.
//!
//! A time on the wire is an uptime; the header says what Unix time its own uptime is. Versions 1 and 7 share
//! the header's clock and most of the record.

use std::net::Ipv4Addr;

use super::Malformed;
use super::times::unix_ms;

/// Octets of the header.
const HEADER_LEN: usize = 24;
/// Octets of a record.
const RECORD_LEN: usize = 48;
const MAX_RECORDS: u16 = 30;

/// The header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    /// Records.
    pub count: u16,
    /// Milliseconds since the exporter started.
    pub uptime_ms: u32,
    /// The same moment as Unix time in milliseconds.
    pub unix_ms: u64,
    /// Flows sent before.
    pub sequence: u32,
    /// Engine type.
    pub engine_type: u8,
    /// Engine id.
    pub engine_id: u8,
    /// Sampling mode (2 bits) and interval (14 bits).
    pub sampling: u16,
}

/// A record, with Unix times.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Record {
    /// Source.
    pub source: Ipv4Addr,
    /// Destination.
    pub destination: Ipv4Addr,
    /// Next hop.
    pub next_hop: Ipv4Addr,
    /// ifIndex it came in on, 0 for not known.
    pub input: u16,
    /// ifIndex it left by, 0 for not known.
    pub output: u16,
    /// Packets.
    pub packets: u32,
    /// Octets.
    pub octets: u32,
    /// `First` as it stands on the wire.
    pub first_ms: u32,
    /// `Last` as it stands on the wire.
    pub last_ms: u32,
    /// First packet, Unix time in milliseconds.
    pub start_ms: u64,
    /// Last packet, Unix time in milliseconds.
    pub end_ms: u64,
    /// Source port.
    pub source_port: u16,
    /// Destination port, or ICMP type * 256 + code.
    pub destination_port: u16,
    /// TCP flags.
    pub tcp_flags: u8,
    /// IP protocol.
    pub protocol: u8,
    /// Type of service.
    pub tos: u8,
    /// Source AS.
    pub source_as: u16,
    /// Destination AS.
    pub destination_as: u16,
    /// Source prefix length.
    pub source_mask: u8,
    /// Destination prefix length.
    pub destination_mask: u8,
}

/// Reads a datagram.
///
/// # Errors
/// When it is not exactly a header and the records that the header counts.
pub fn decode(datagram: &[u8]) -> Result<(Header, impl ExactSizeIterator<Item = Record>), Malformed> {
    let (head, records) = split::<HEADER_LEN, RECORD_LEN>(datagram, 5, MAX_RECORDS)?;
    let header = Header {
        sequence: be32(head, 16),
        engine_type: head[20],
        engine_id: head[21],
        sampling: be16(head, 22),
        ..clock(head)?
    };
    Ok((header, records.iter().map(move |octets| record(&header, octets))))
}

/// Header and records of a version whose header counts its records.
pub(super) fn split<const HEADER: usize, const RECORD: usize>(
    datagram: &[u8],
    version: u16,
    most: u16,
) -> Result<(&[u8; HEADER], &[[u8; RECORD]]), Malformed> {
    let Some((head, body)) = datagram.split_first_chunk::<HEADER>() else {
        // A version that can be read is worth more than the length.
        return Err(match datagram.first_chunk().copied().map(u16::from_be_bytes) {
            Some(other) if other != version => Malformed::Version(other),
            _ => Malformed::Truncated,
        });
    };
    let found = be16(head, 0);
    if found != version {
        return Err(Malformed::Version(found));
    }
    let count = be16(head, 2);
    if count == 0 || count > most {
        return Err(Malformed::Count(count));
    }
    match body.as_chunks::<RECORD>() {
        (records, []) if records.len() == usize::from(count) => Ok((head, records)),
        _ => Err(Malformed::Length),
    }
}

/// What headers of versions 1, 5 and 7 have in common.
pub(super) fn clock<const N: usize>(head: &[u8; N]) -> Result<Header, Malformed> {
    let nanoseconds = be32(head, 12);
    if nanoseconds >= 1_000_000_000 {
        return Err(Malformed::Clock);
    }
    Ok(Header {
        count: be16(head, 2),
        uptime_ms: be32(head, 4),
        unix_ms: u64::from(be32(head, 8)) * 1000 + u64::from(nanoseconds / 1_000_000),
        sequence: 0,
        engine_type: 0,
        engine_id: 0,
        sampling: 0,
    })
}

fn record(header: &Header, octets: &[u8; RECORD_LEN]) -> Record {
    Record {
        tcp_flags: octets[37],
        source_as: be16(octets, 40),
        destination_as: be16(octets, 42),
        source_mask: octets[44],
        destination_mask: octets[45],
        ..common(header, octets)
    }
}

/// What records of versions 1, 5 and 7 have in the same place.
pub(super) fn common<const N: usize>(header: &Header, octets: &[u8; N]) -> Record {
    let (first_ms, last_ms) = (be32(octets, 24), be32(octets, 28));
    Record {
        source: be32(octets, 0).into(),
        destination: be32(octets, 4).into(),
        next_hop: be32(octets, 8).into(),
        input: be16(octets, 12),
        output: be16(octets, 14),
        packets: be32(octets, 16),
        octets: be32(octets, 20),
        first_ms,
        last_ms,
        start_ms: unix_ms(header.unix_ms, header.uptime_ms, first_ms),
        end_ms: unix_ms(header.unix_ms, header.uptime_ms, last_ms),
        source_port: be16(octets, 32),
        destination_port: be16(octets, 34),
        tcp_flags: 0,
        protocol: octets[38],
        tos: octets[39],
        source_as: 0,
        destination_as: 0,
        source_mask: 0,
        destination_mask: 0,
    }
}

/// The 16 bits at `at`; callers pass constant offsets within `N`.
pub(super) fn be16<const N: usize>(octets: &[u8; N], at: usize) -> u16 {
    u16::from_be_bytes([octets[at], octets[at + 1]])
}

pub(super) fn be32<const N: usize>(octets: &[u8; N], at: usize) -> u32 {
    u32::from_be_bytes([octets[at], octets[at + 1], octets[at + 2], octets[at + 3]])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn datagram(uptime: u32, first: u32, last: u32) -> Vec<u8> {
        let mut datagram = vec![0; HEADER_LEN + RECORD_LEN];
        datagram[1] = 5;
        datagram[3] = 1;
        datagram[4..8].copy_from_slice(&uptime.to_be_bytes());
        datagram[8..12].copy_from_slice(&1_700_000_000u32.to_be_bytes());
        datagram[12..16].copy_from_slice(&123_999_999u32.to_be_bytes());
        datagram[48..52].copy_from_slice(&first.to_be_bytes());
        datagram[52..56].copy_from_slice(&last.to_be_bytes());
        datagram
    }

    fn times(uptime: u32, first: u32, last: u32) -> (i64, i64) {
        let datagram = datagram(uptime, first, last);
        let (header, mut records) = decode(&datagram).unwrap();
        let record = records.next().unwrap();
        assert_eq!(header.unix_ms, 1_700_000_000_123);
        (record.start_ms.cast_signed() - 1_700_000_000_123, record.end_ms.cast_signed() - 1_700_000_000_123)
    }

    #[test]
    fn times_across_the_wrap_of_the_uptime() {
        assert_eq!(times(5000, 1000, 4000), (-4000, -1000));
        assert_eq!(times(500, u32::MAX - 499, 400), (-1000, -100), "began before the wrap");
        assert_eq!(times(500, u32::MAX - 999, u32::MAX - 499), (-1500, -1000), "lay before the wrap");
        assert_eq!(times(5000, 4000, 5007), (-1000, 7), "ended just after the header was written");
        assert_eq!(times(u32::MAX, u32::MAX, 6), (0, 7));
    }

    #[test]
    fn what_is_malformed_is_said() {
        let good = datagram(5000, 1000, 4000);
        let with = |at: usize, value: u8| {
            let mut datagram = good.clone();
            datagram[at] = value;
            datagram
        };
        for (datagram, expected) in [
            (vec![], Malformed::Truncated),
            (vec![0, 5, 0], Malformed::Truncated),
            (vec![0, 10], Malformed::Version(10)),
            (with(1, 9), Malformed::Version(9)),
            (with(3, 0), Malformed::Count(0)),
            (with(3, 31), Malformed::Count(31)),
            (with(2, 1), Malformed::Count(257)),
            (with(3, 2), Malformed::Length),
            (good[..71].to_vec(), Malformed::Length),
            ([&good[..], &[0]].concat(), Malformed::Length),
            (with(12, 60), Malformed::Clock),
        ] {
            let error = decode(&datagram).map(|_| ()).unwrap_err();
            assert_eq!(error, expected, "{datagram:?}");
            assert!(error.index() < Malformed::NAMES.len());
        }
    }

    proptest::proptest! {
        #[test]
        fn any_octets_are_decoded_or_refused(octets in proptest::collection::vec(proptest::num::u8::ANY, 0..200), good in proptest::bool::ANY) {
            let mut octets = octets;
            if good && octets.len() >= 72 {
                octets.truncate(72);
                octets[..4].copy_from_slice(&[0, 5, 0, 1]);
            }
            if let Ok((header, records)) = decode(&octets) {
                proptest::prop_assert_eq!(records.count(), usize::from(header.count));
            }
        }
    }
}
