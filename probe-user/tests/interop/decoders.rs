// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Two Rust decoders that we did not write: netflow_parser, and ipfixrw, which knows IPFIX only.

use std::{cell::RefCell, collections::HashMap, rc::Rc};

use ipfixrw::{
    information_elements::get_default_formatter,
    parse_ipfix_message,
    parser::{DataRecordKey, DataRecordValue, Records},
    template_store::TemplateStore,
};
use netflow_parser::{
    NetflowPacket, NetflowParser,
    variable_versions::{
        field_value::FieldValue,
        ipfix::{self, lookup::IPFixField},
        v9::{self, ScopeDataField, lookup::V9Field},
    },
};
use probe_lab::{Datagram, FlowId};

use super::{
    elements::{Decoded, ELEMENTS, Element, Fields},
    seen::Seen,
};

/// What netflow_parser makes of messages of any version; records whose template it does not know are left out.
pub(crate) fn netflow_parser(datagrams: &[Datagram]) -> Decoded {
    let mut parser = NetflowParser::default();
    let mut decoded = Decoded::default();
    for (number, Datagram { octets, .. }) in datagrams.iter().enumerate() {
        let parsed = parser.parse_bytes(octets);
        assert!(parsed.is_ok(), "netflow_parser, datagram {number}: {:?}", parsed.error);
        match parsed.packets.as_slice() {
            [NetflowPacket::V5(message)] => {
                let header = &message.header;
                assert_eq!(octets.len(), 24 + 48 * message.flowsets.len(), "octets after the last record");
                assert_eq!(usize::from(header.count), message.flowsets.len(), "count in the header");
                let now_ms = u64::from(header.unix_secs) * 1000 + u64::from(header.unix_nsecs) / 1_000_000;
                let unix_ms = |uptime: u32| now_ms - u64::from(header.sys_up_time - uptime);
                decoded.flows.extend(message.flowsets.iter().map(|record| Seen {
                    flow: FlowId {
                        source: record.src_addr.into(),
                        destination: record.dst_addr.into(),
                        source_port: record.src_port,
                        destination_port: record.dst_port,
                        protocol: record.protocol_number,
                        tos: record.tos,
                    },
                    vlan: 0,
                    packets: record.d_pkts.into(),
                    octets: record.d_octets.into(),
                    tcp_flags: record.tcp_flags,
                    interface: record.input.into(),
                    start_ms: unix_ms(record.first),
                    end_ms: unix_ms(record.last),
                }));
            }
            [NetflowPacket::V9(message)] => add_v9(&mut decoded, message),
            [NetflowPacket::IPFix(message)] => add_ipfix(&mut decoded, message),
            other => panic!("netflow_parser, datagram {number}: {other:?}"),
        }
    }
    decoded
}

fn add_v9(decoded: &mut Decoded, message: &v9::V9) {
    let boot_ms = u64::from(message.header.unix_secs) * 1000 - u64::from(message.header.sys_up_time);
    let element = |(field, value): &(V9Field, FieldValue)| (u16::from(*field), element(value));
    for set in &message.flowsets {
        match &set.body {
            v9::FlowSetBody::Data(data) => {
                for record in &data.fields {
                    let fields = Fields(record.iter().map(element).collect());
                    decoded.flows.push(fields.seen(Some(boot_ms)));
                }
            }
            v9::FlowSetBody::OptionsData(data) => {
                for record in &data.fields {
                    let mut fields = Fields(record.options_fields.iter().map(element).collect());
                    for scope in &record.scope_fields {
                        if let ScopeDataField::Interface(octets) = scope {
                            fields.0.insert(10, Element::of_octets(octets));
                        }
                    }
                    decoded.options.push(fields);
                }
            }
            _ => {}
        }
    }
}

fn add_ipfix(decoded: &mut Decoded, message: &ipfix::IPFix) {
    let fields_of = |record: &Vec<(IPFixField, FieldValue)>| {
        let mut fields = Fields::default();
        for (field, value) in record {
            let known = ELEMENTS.iter().find(|(id, _)| IPFixField::new(*id, None) == *field);
            if let Some((id, _)) = known {
                fields.0.insert(*id, element(value));
            }
        }
        fields
    };
    for set in &message.flowsets {
        match &set.body {
            ipfix::FlowSetBody::Data(data) => {
                decoded.flows.extend(data.fields.iter().map(|record| fields_of(record).seen(None)));
            }
            ipfix::FlowSetBody::OptionsData(data) => {
                decoded.options.extend(data.fields.iter().map(fields_of));
            }
            _ => {}
        }
    }
}

fn element(value: &FieldValue) -> Element {
    match value {
        FieldValue::Ip4Addr(address) => Element::Address((*address).into()),
        FieldValue::Ip6Addr(address) => Element::Address((*address).into()),
        FieldValue::String(text) => Element::Text(text.value.trim_end_matches('\0').to_owned()),
        // Its numbers, times and enumerations are as wide as on the wire.
        other => {
            let mut octets = Vec::new();
            other.write_be_bytes(&mut octets).unwrap();
            other.as_u64().map_or_else(|| Element::of_octets(&octets), Element::Number)
        }
    }
}

/// What ipfixrw makes of IPFIX messages, from the first one with templates on.
pub(crate) fn ipfixrw(datagrams: &[Datagram]) -> Decoded {
    let templates: TemplateStore = Rc::new(RefCell::new(HashMap::<_, _>::new()));
    let formatter = Rc::new(get_default_formatter());
    let mut decoded = Decoded::default();
    for (number, Datagram { octets, .. }) in datagrams.iter().enumerate() {
        let message = parse_ipfix_message(octets, Rc::clone(&templates), Rc::clone(&formatter))
            .unwrap_or_else(|error| panic!("ipfixrw, datagram {number}: {error}"));
        for set in &message.sets {
            let Records::Data { data, .. } = &set.records else { continue };
            for record in data {
                let mut fields = Fields::default();
                for (key, value) in &record.values {
                    if let Some(id) = id(key) {
                        fields.0.insert(id, value_element(value));
                    }
                }
                if fields.0.contains_key(&4) {
                    decoded.flows.push(fields.seen(None));
                } else {
                    decoded.options.push(fields);
                }
            }
        }
    }
    decoded
}

fn id(key: &DataRecordKey) -> Option<u16> {
    match key {
        DataRecordKey::Str(name) => ELEMENTS.iter().find(|(_, known)| known == name).map(|(id, _)| *id),
        DataRecordKey::Unrecognized(field) => {
            field.enterprise_number.is_none().then_some(field.information_element_identifier)
        }
        DataRecordKey::Err(_) => None,
    }
}

fn value_element(value: &DataRecordValue) -> Element {
    match value {
        DataRecordValue::U8(number) => Element::Number((*number).into()),
        DataRecordValue::U16(number) => Element::Number((*number).into()),
        DataRecordValue::U32(number) | DataRecordValue::DateTimeSeconds(number) => {
            Element::Number((*number).into())
        }
        DataRecordValue::U64(number) | DataRecordValue::DateTimeMilliseconds(number) => {
            Element::Number(*number)
        }
        DataRecordValue::Ipv4Addr(address) => Element::Address((*address).into()),
        DataRecordValue::Ipv6Addr(address) => Element::Address((*address).into()),
        DataRecordValue::String(text) => Element::Text(text.trim_end_matches('\0').to_owned()),
        DataRecordValue::Bytes(octets) => Element::of_octets(octets),
        other => Element::Text(format!("{other:?}")),
    }
}
