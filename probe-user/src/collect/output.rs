// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Decoded records as text, JSON or CSV.

use std::io::{self, Write};
use std::net::Ipv4Addr;

use probe_common::IpVersion;

use super::netflow_v5_decode::Record;
use crate::export::{FlowJson, TextFlow, known};

/// How flows are written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OutputFormat {
    /// One aligned line a flow, a header line first.
    Text,
    /// One JSON object a line.
    Json,
    /// Comma-separated, IANA names in the first row.
    Csv,
}

const CSV_HEADER: &str = "sourceIPv4Address,destinationIPv4Address,sourceTransportPort,\
    destinationTransportPort,protocolIdentifier,ipClassOfService,ingressInterface,egressInterface,\
    packetDeltaCount,octetDeltaCount,tcpControlBits,flowStartMilliseconds,flowEndMilliseconds,\
    icmpTypeCodeIPv4,bgpSourceAsNumber,bgpDestinationAsNumber,sourceIPv4PrefixLength,\
    destinationIPv4PrefixLength,ipNextHopIPv4Address";

/// The JSON form of a record; fields that NetFlow v5 sets to 0 for "not known" are absent.
#[must_use]
pub fn to_json(record: &Record) -> FlowJson {
    let mut json = FlowJson {
        source_ipv4: Some(record.source),
        destination_ipv4: Some(record.destination),
        source_transport_port: record.source_port,
        destination_transport_port: record.destination_port,
        protocol_identifier: record.protocol,
        ip_class_of_service: record.tos,
        ingress_interface: known(record.input.into()),
        egress_interface: known(record.output.into()),
        packet_delta_count: record.packets.into(),
        octet_delta_count: record.octets.into(),
        tcp_control_bits: record.tcp_flags.into(),
        flow_start_milliseconds: record.start_ms,
        flow_end_milliseconds: record.end_ms,
        bgp_source_as_number: known(record.source_as.into()),
        bgp_destination_as_number: known(record.destination_as.into()),
        source_prefix_length: known(record.source_mask),
        destination_prefix_length: known(record.destination_mask),
        next_hop: Some(record.next_hop).filter(|hop| *hop != Ipv4Addr::UNSPECIFIED),
        ..FlowJson::default()
    };
    json.move_icmp(IpVersion::V4);
    json
}

fn to_text(record: &Record) -> TextFlow {
    TextFlow {
        source: (record.source.into(), record.source_port),
        destination: (record.destination.into(), record.destination_port),
        protocol: record.protocol,
        tos: record.tos,
        tcp_flags: record.tcp_flags.into(),
        packets: record.packets.into(),
        octets: record.octets.into(),
        start_ms: record.start_ms,
        end_ms: record.end_ms,
    }
}

/// Writes what stands before the first record, if anything does.
pub(super) fn write_header(out: &mut impl Write, format: OutputFormat) -> io::Result<()> {
    match format {
        OutputFormat::Text => TextFlow::write_header(out),
        OutputFormat::Json => Ok(()),
        OutputFormat::Csv => writeln!(out, "{CSV_HEADER}"),
    }
}

/// Writes one record.
pub(super) fn write_record(out: &mut impl Write, format: OutputFormat, record: &Record) -> io::Result<()> {
    match format {
        OutputFormat::Text => to_text(record).write(out),
        OutputFormat::Json => {
            serde_json::to_writer(&mut *out, &to_json(record))?;
            out.write_all(b"\n")
        }
        OutputFormat::Csv => write_csv(out, &to_json(record)),
    }
}

/// A row; an empty cell is what JSON leaves out. No value needs quotes.
fn write_csv(out: &mut impl Write, json: &FlowJson) -> io::Result<()> {
    fn cell<T: ToString>(value: Option<T>) -> String {
        value.map(|value| value.to_string()).unwrap_or_default()
    }
    let row = [
        cell(json.source_ipv4),
        cell(json.destination_ipv4),
        json.source_transport_port.to_string(),
        json.destination_transport_port.to_string(),
        json.protocol_identifier.to_string(),
        json.ip_class_of_service.to_string(),
        cell(json.ingress_interface),
        cell(json.egress_interface),
        json.packet_delta_count.to_string(),
        json.octet_delta_count.to_string(),
        json.tcp_control_bits.to_string(),
        json.flow_start_milliseconds.to_string(),
        json.flow_end_milliseconds.to_string(),
        cell(json.icmp_type_code_ipv4),
        cell(json.bgp_source_as_number),
        cell(json.bgp_destination_as_number),
        cell(json.source_prefix_length),
        cell(json.destination_prefix_length),
        cell(json.next_hop),
    ];
    writeln!(out, "{}", row.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        Record {
            source: Ipv4Addr::new(192, 0, 2, 1),
            destination: Ipv4Addr::new(198, 51, 100, 2),
            next_hop: Ipv4Addr::UNSPECIFIED,
            input: 3,
            output: 0,
            packets: 10,
            octets: 840,
            first_ms: 1,
            last_ms: 2,
            start_ms: 1_709_251_200_123,
            end_ms: 1_709_251_201_124,
            source_port: 0,
            destination_port: 0x0800,
            tcp_flags: 0,
            protocol: 1,
            tos: 8,
            source_as: 64_500,
            destination_as: 0,
            source_mask: 24,
            destination_mask: 0,
        }
    }

    fn written(format: OutputFormat) -> String {
        let mut out = Vec::new();
        write_header(&mut out, format).unwrap();
        write_record(&mut out, format, &record()).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn json_leaves_out_what_is_not_known() {
        let expected = r#"{"sourceIPv4Address":"192.0.2.1","destinationIPv4Address":"198.51.100.2","#
            .to_owned()
            + r#""sourceTransportPort":0,"destinationTransportPort":0,"protocolIdentifier":1,"#
            + r#""ipClassOfService":8,"ingressInterface":3,"packetDeltaCount":10,"octetDeltaCount":840,"#
            + r#""tcpControlBits":0,"flowStartMilliseconds":1709251200123,"#
            + r#""flowEndMilliseconds":1709251201124,"icmpTypeCodeIPv4":2048,"bgpSourceAsNumber":64500,"#
            + r#""sourceIPv4PrefixLength":24}"#
            + "\n";
        assert_eq!(written(OutputFormat::Json), expected);
    }

    #[test]
    fn csv_has_a_cell_under_every_name() {
        let text = written(OutputFormat::Csv);
        let rows: Vec<Vec<&str>> = text.lines().map(|line| line.split(',').collect()).collect();
        assert_eq!(rows[0].len(), rows[1].len());
        let cell = |name| rows[1][rows[0].iter().position(|column| *column == name).unwrap()];
        for (name, value) in [
            ("sourceIPv4Address", "192.0.2.1"),
            ("octetDeltaCount", "840"),
            ("icmpTypeCodeIPv4", "2048"),
            ("bgpSourceAsNumber", "64500"),
            ("destinationIPv4PrefixLength", ""),
            ("ipNextHopIPv4Address", ""),
        ] {
            assert_eq!(cell(name), value, "{name}");
        }
    }
}
