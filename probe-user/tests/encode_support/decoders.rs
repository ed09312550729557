// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Decoders we did not write: netflow_parser for v9 and IPFIX, ipfixrw for IPFIX.

use std::{cell::RefCell, collections::HashMap, rc::Rc};

use ipfixrw::{
    information_elements::{Formatter, get_default_formatter},
    parse_ipfix_message,
    parser::{DataRecordKey, DataRecordValue, Records},
    template_store::TemplateStore,
};
use netflow_parser::{
    NetflowPacket, NetflowParser,
    variable_versions::{field_value::FieldValue, ipfix, v9},
};

use super::number;

/// Enterprise and number of an element.
pub(crate) type Id = (u32, u16);

/// A record as a collector reads it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Record {
    pub(crate) template: u16,
    /// In the order of the template; scopes first.
    pub(crate) fields: Vec<(Id, u128)>,
}

impl Record {
    pub(crate) fn get(&self, id: u16) -> Option<u128> {
        self.fields
            .iter()
            .find(|((enterprise, other), _)| (*enterprise, *other) == (0, id))
            .map(|(_, value)| *value)
    }
}

/// A message as a collector reads it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Message {
    pub(crate) sequence: u32,
    pub(crate) domain: u32,
    /// Unix time of the header.
    pub(crate) seconds: u32,
    /// SysUptime, v9 only.
    pub(crate) uptime: u32,
    /// Records as the header of v9 counts them.
    pub(crate) count: u16,
    /// Templates and options templates in it.
    pub(crate) templates: Vec<u16>,
    pub(crate) flows: Vec<Record>,
    pub(crate) options: Vec<Record>,
}

impl Message {
    pub(crate) fn data_records(&self) -> u32 {
        u32::try_from(self.flows.len() + self.options.len()).unwrap()
    }
}

fn value(value: &FieldValue) -> u128 {
    if let FieldValue::String(text) = value {
        return u128::try_from(text.raw.len()).unwrap();
    }
    let mut octets = Vec::new();
    value.write_be_bytes(&mut octets).unwrap();
    number(&octets)
}

/// netflow_parser, with the templates as they were on the wire.
#[derive(Default)]
pub(crate) struct Parser {
    parser: NetflowParser,
    templates: HashMap<u16, Vec<Id>>,
}

impl Parser {
    pub(crate) fn read(&mut self, message: &[u8]) -> Message {
        let parsed = self.parser.parse_bytes(message);
        assert!(parsed.error.is_none(), "{:?}", parsed.error);
        match &parsed.packets[..] {
            [NetflowPacket::IPFix(packet)] => self.ipfix(packet),
            [NetflowPacket::V9(packet)] => self.v9(packet),
            _ => panic!("not one message: {parsed:?}"),
        }
    }

    fn ipfix(&mut self, packet: &ipfix::IPFix) -> Message {
        use ipfix::FlowSetBody as Body;
        let header = packet.header;
        let mut message = Message {
            sequence: header.sequence_number,
            domain: header.observation_domain_id,
            seconds: header.export_time,
            ..Message::default()
        };
        let ids = |fields: &[ipfix::TemplateField]| {
            let id = |field: &ipfix::TemplateField| {
                (field.enterprise_number.unwrap_or(0), field.field_type_number & 0x7fff)
            };
            fields.iter().map(id).collect::<Vec<_>>()
        };
        for set in &packet.flowsets {
            let template = set.header.header_id;
            match &set.body {
                Body::Template(template) => {
                    self.templates.insert(template.template_id, ids(&template.fields));
                    message.templates.push(template.template_id);
                }
                Body::OptionsTemplate(template) => {
                    self.templates.insert(template.template_id, ids(&template.fields));
                    message.templates.push(template.template_id);
                }
                Body::Data(data) => {
                    assert!(data.padding.is_empty());
                    message.flows.extend(data.fields.iter().map(|pairs| self.record(template, pairs)));
                }
                Body::OptionsData(data) => {
                    assert!(data.padding.is_empty());
                    message.options.extend(data.fields.iter().map(|pairs| self.record(template, pairs)));
                }
                other => panic!("{other:?}"),
            }
        }
        message
    }

    fn record<F>(&self, template: u16, pairs: &[(F, FieldValue)]) -> Record {
        let ids = &self.templates[&template];
        assert_eq!(ids.len(), pairs.len());
        Record { template, fields: ids.iter().copied().zip(pairs.iter().map(|(_, v)| value(v))).collect() }
    }

    fn v9(&mut self, packet: &v9::V9) -> Message {
        use v9::FlowSetBody as Body;
        let header = &packet.header;
        let mut message = Message {
            sequence: header.sequence_number,
            domain: header.source_id,
            seconds: header.unix_secs,
            uptime: header.sys_up_time,
            count: header.count,
            ..Message::default()
        };
        for set in &packet.flowsets {
            assert_eq!(set.header.length % 4, 0, "padded");
            let template = set.header.flowset_id;
            match &set.body {
                Body::Template(set) => {
                    for template in &set.templates {
                        let ids = template.fields.iter().map(|field| (0, field.field_type_number)).collect();
                        self.templates.insert(template.template_id, ids);
                        message.templates.push(template.template_id);
                    }
                }
                Body::OptionsTemplate(set) => {
                    message.templates.extend(set.templates.iter().map(|template| template.template_id));
                }
                Body::Data(data) => {
                    assert!(data.padding.len() < 4 && data.padding.iter().all(|octet| *octet == 0));
                    message.flows.extend(data.fields.iter().map(|pairs| self.record(template, pairs)));
                }
                Body::OptionsData(data) => {
                    message.options.extend(data.fields.iter().map(|record| {
                        Record {
                            template,
                            fields: record
                                .scope_fields
                                .iter()
                                .map(scope)
                                .chain(
                                    record.options_fields.iter().map(|(f, v)| ((0, u16::from(*f)), value(v))),
                                )
                                .collect(),
                        }
                    }));
                }
                other => panic!("{other:?}"),
            }
        }
        message
    }
}

/// Scopes of v9, by their type in an enterprise of their own.
pub(crate) const V9_SCOPE: u32 = u32::MAX;

fn scope(field: &v9::ScopeDataField) -> (Id, u128) {
    match field {
        v9::ScopeDataField::System(octets) => ((V9_SCOPE, 1), number(octets)),
        v9::ScopeDataField::Interface(octets) => ((V9_SCOPE, 2), number(octets)),
        other => panic!("{other:?}"),
    }
}

/// ipfixrw, which has IANA's registry: names and types are checked by the way.
pub(crate) struct Rw {
    templates: TemplateStore,
    formatter: Rc<Formatter>,
    ids: HashMap<&'static str, u16>,
}

impl Rw {
    pub(crate) fn new() -> Self {
        let formatter = get_default_formatter();
        let ids = formatter.iter().map(|((_, id), (name, _))| (*name, *id)).collect();
        let templates = Rc::new(RefCell::new(HashMap::new()));
        Self { templates, formatter: Rc::new(formatter), ids }
    }

    /// Names of IANA's elements, by number.
    pub(crate) fn name(&self, id: u16) -> Option<&'static str> {
        self.formatter.get(&(0, id)).map(|(name, _)| *name)
    }

    /// Sequence, and the records with their fields in the order of their elements.
    pub(crate) fn read(&self, message: &[u8]) -> (u32, Vec<Record>) {
        let parsed =
            parse_ipfix_message(&message, Rc::clone(&self.templates), Rc::clone(&self.formatter)).unwrap();
        let mut records = Vec::new();
        for set in &parsed.sets {
            let Records::Data { set_id, data } = &set.records else { continue };
            records.extend(data.iter().map(|record| {
                let mut fields: Vec<_> =
                    record.values.iter().map(|(key, value)| (self.id(key), rw_value(value))).collect();
                fields.sort_unstable();
                Record { template: *set_id, fields }
            }));
        }
        (parsed.sequence_number, records)
    }

    fn id(&self, key: &DataRecordKey) -> Id {
        match key {
            DataRecordKey::Str(name) => (0, self.ids[name]),
            DataRecordKey::Unrecognized(field) => {
                (field.enterprise_number.unwrap_or(0), field.information_element_identifier)
            }
            DataRecordKey::Err(error) => panic!("{error}"),
        }
    }
}

fn rw_value(value: &DataRecordValue) -> u128 {
    use DataRecordValue as V;
    match value {
        V::U8(n) => (*n).into(),
        V::U16(n) => (*n).into(),
        V::U32(n) | V::DateTimeSeconds(n) => (*n).into(),
        V::U64(n) | V::DateTimeMilliseconds(n) => (*n).into(),
        V::F64(n) => n.to_bits().into(),
        V::MacAddress(octets) => number(octets),
        V::Bytes(octets) => number(octets),
        V::String(text) => u128::try_from(text.len()).unwrap(),
        V::Ipv4Addr(address) => u32::from(*address).into(),
        V::Ipv6Addr(address) => (*address).into(),
        other => panic!("{other:?}"),
    }
}
