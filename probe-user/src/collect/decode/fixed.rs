// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Records of NetFlow v1, v5 and v7 as elements.
//!
//! What these versions send as 0 for "not known" is left out.

use std::net::Ipv4Addr;

use super::Malformed;
use super::netflow_v5::{self, Header, Record, be16, be32, clock, common, split};
use crate::element::{ElementId, Value};

const MILLISECOND: u64 = 1_000_000;
const ICMP: u8 = 1;

/// Cisco's NetFlow v1: 24 records of 48 octets (as softflowd sends and nfdump and Wireshark read them), no
/// sequence, no AS.
pub(super) fn decode_v1(datagram: &[u8]) -> Result<(Header, impl Iterator<Item = Record>), Malformed> {
    let (head, records) = split::<16, 48>(datagram, 1, 24)?;
    let header = clock(head)?;
    Ok((
        header,
        records.iter().map(move |octets| Record { tcp_flags: octets[40], ..common(&header, octets) }),
    ))
}

/// Cisco's NetFlow v7 of Catalyst switches: as v5, with the router that was bypassed.
pub(super) fn decode_v7(
    datagram: &[u8],
) -> Result<(Header, impl Iterator<Item = (Record, Ipv4Addr)>), Malformed> {
    let (head, records) = split::<24, 52>(datagram, 7, 30)?;
    let header = Header { sequence: be32(head, 16), ..clock(head)? };
    let records = records.iter().map(move |octets| {
        let record = Record {
            tcp_flags: octets[37],
            source_as: be16(octets, 40),
            destination_as: be16(octets, 42),
            source_mask: octets[44],
            destination_mask: octets[45],
            ..common(&header, octets)
        };
        (record, be32(octets, 48).into())
    });
    Ok((header, records))
}

pub(super) use netflow_v5::decode as decode_v5;

/// The elements of a record, in the order in which they are shown.
pub(super) fn push(record: &Record, out: &mut Vec<(ElementId, Value)>) {
    let icmp = record.protocol == ICMP;
    let mut put = |id, value| out.push((ElementId::iana(id), value));
    let number = |value: u32| Value::Unsigned(value.into());
    put(8, Value::Ipv4(record.source));
    put(12, Value::Ipv4(record.destination));
    // Type and code of ICMP stand in the destination port.
    put(7, number(if icmp { 0 } else { record.source_port.into() }));
    put(11, number(if icmp { 0 } else { record.destination_port.into() }));
    put(4, number(record.protocol.into()));
    put(5, number(record.tos.into()));
    for (id, interface) in [(10, record.input), (14, record.output)] {
        if interface != 0 {
            put(id, number(interface.into()));
        }
    }
    put(2, number(record.packets));
    put(1, number(record.octets));
    put(6, number(record.tcp_flags.into()));
    put(152, Value::Time(record.start_ms.saturating_mul(MILLISECOND)));
    put(153, Value::Time(record.end_ms.saturating_mul(MILLISECOND)));
    if icmp {
        put(32, number(record.destination_port.into()));
    }
    for (id, value) in [
        (16, record.source_as),
        (17, record.destination_as),
        (9, record.source_mask.into()),
        (13, record.destination_mask.into()),
    ] {
        if value != 0 {
            put(id, number(value.into()));
        }
    }
    if record.next_hop != Ipv4Addr::UNSPECIFIED {
        put(15, Value::Ipv4(record.next_hop));
    }
}
