// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The outer form of messages: headers and sets, read here for what the tests steer by.

use std::collections::BTreeMap;

use probe_lab::Datagram;

/// What kind of records a set has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// Templates.
    Template,
    /// Options templates.
    OptionsTemplate,
    /// Records of the template with this id.
    Data(u16),
}

/// A message.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    /// 5, 9 or 10.
    pub(crate) version: u16,
    /// Second field of the header: count of records in v5 and v9, length in IPFIX.
    pub(crate) count_or_length: u16,
    /// Sequence number.
    pub(crate) sequence: u32,
    /// Source id or observation domain; in v5 engine type and id, and the field for sampling.
    pub(crate) domain: u32,
    /// Uptime in milliseconds, not in IPFIX.
    pub(crate) uptime_ms: Option<u32>,
    /// Its sets with their bodies.
    pub(crate) sets: Vec<(Kind, Vec<u8>)>,
}

fn u16_at(octets: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([octets[at], octets[at + 1]])
}

fn u32_at(octets: &[u8], at: usize) -> u32 {
    u32::from(u16_at(octets, at)) << 16 | u32::from(u16_at(octets, at + 2))
}

impl Message {
    /// Reads a whole message.
    pub(crate) fn read(octets: &[u8]) -> Self {
        let version = u16_at(octets, 0);
        let (uptime_ms, at, header) = match version {
            5 => (Some(u32_at(octets, 4)), 8, octets.len()),
            9 => (Some(u32_at(octets, 4)), 8, 20),
            10 => (None, 4, 16),
            other => panic!("version {other}"),
        };
        if version == 10 {
            assert_eq!(usize::from(u16_at(octets, 2)), octets.len(), "length in the header");
        }
        let mut sets = Vec::new();
        let mut rest = &octets[header..];
        while !rest.is_empty() {
            let (id, length) = (u16_at(rest, 0), usize::from(u16_at(rest, 2)));
            assert!(length > 4 && length <= rest.len(), "set {id} of {length} in {}", rest.len());
            let kind = match (version, id) {
                (9, 0) | (10, 2) => Kind::Template,
                (9, 1) | (10, 3) => Kind::OptionsTemplate,
                (_, 256..) => Kind::Data(id),
                _ => panic!("set id {id} in version {version}"),
            };
            sets.push((kind, rest[4..length].to_vec()));
            rest = &rest[length..];
        }
        Self {
            version,
            count_or_length: u16_at(octets, 2),
            // In v5 the nanoseconds stand between.
            sequence: u32_at(octets, if version == 5 { 16 } else { at + 4 }),
            domain: u32_at(octets, if version == 5 { 20 } else { at + 8 }),
            uptime_ms,
            sets,
        }
    }

    /// Whether it carries templates of flow records.
    pub(crate) fn has_templates(&self) -> bool {
        self.sets.iter().any(|(kind, _)| *kind == Kind::Template)
    }

    /// Whether it carries templates of any kind.
    pub(crate) fn has_any_templates(&self) -> bool {
        self.sets.iter().any(|(kind, _)| !matches!(kind, Kind::Data(_)))
    }

    /// Fields of its templates: scope fields first in options templates.
    pub(crate) fn templates(&self) -> Vec<Template> {
        let mut templates = Vec::new();
        for (kind, body) in &self.sets {
            let mut at = 0;
            // What is shorter than a template's header is padding.
            while !matches!(kind, Kind::Data(_)) && at + 4 <= body.len() {
                let id = u16_at(body, at);
                let is_options = *kind == Kind::OptionsTemplate;
                let (fields, scopes, header) = match (self.version, is_options) {
                    (_, false) => (u16_at(body, at + 2), 0, 4),
                    (10, true) => (u16_at(body, at + 2), u16_at(body, at + 4), 6),
                    // v9 tells octets of scope and option fields.
                    (_, true) => {
                        let (scope, option) = (u16_at(body, at + 2), u16_at(body, at + 4));
                        ((scope + option) / 4, scope / 4, 6)
                    }
                };
                at += header;
                let mut template =
                    Template { id, is_options, scopes: usize::from(scopes), fields: Vec::new() };
                for _ in 0..fields {
                    let (element, length) = (u16_at(body, at), u16_at(body, at + 2));
                    at += 4;
                    let mut enterprise = 0;
                    if self.version == 10 && element & 0x8000 != 0 {
                        enterprise = u32_at(body, at);
                        at += 4;
                    }
                    template.fields.push((enterprise, element & 0x7fff, length));
                }
                templates.push(template);
            }
        }
        templates
    }
}

/// A template or an options template.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Template {
    /// Its id.
    pub(crate) id: u16,
    /// Whether its records are options.
    pub(crate) is_options: bool,
    /// How many of the fields are scopes.
    pub(crate) scopes: usize,
    /// Enterprise (0: IANA), element and length of each field.
    pub(crate) fields: Vec<(u32, u16, u16)>,
}

impl Template {
    /// Octets of a record; none if that varies.
    fn record_length(&self) -> Option<usize> {
        self.fields.iter().map(|(_, _, length)| Some(usize::from(*length)).filter(|n| *n < 65_535)).sum()
    }

    /// Records in the body of a data set.
    pub(crate) fn records(&self, body: &[u8]) -> u32 {
        if let Some(length) = self.record_length() {
            return u32::try_from(body.len() / length).unwrap();
        }
        let (mut at, mut records) = (0, 0);
        while at < body.len() {
            for (_, _, length) in &self.fields {
                at += match (*length, body[at]) {
                    (65_535, 255) => 3 + usize::from(u16_at(body, at + 1)),
                    (65_535, short) => 1 + usize::from(short),
                    (length, _) => usize::from(length),
                };
            }
            records += 1;
        }
        records
    }
}

/// What a walk over the messages of one exporter finds.
#[derive(Clone, Default, Debug)]
pub(crate) struct Walk {
    /// Messages whose sequence number is not what the messages before it say.
    pub(crate) gaps: usize,
    /// Flow records.
    pub(crate) flows: u32,
    /// Options records.
    pub(crate) options: u32,
    /// Messages that nfcapd 1.7.1 finds out of sequence. In IPFIX it does not count options records, and
    /// says nothing before its first flow record.
    pub(crate) nfcapd_failures: u64,
    /// Messages that nfacctd 1.7.7 finds out of sequence: it takes an expected 0 for none.
    pub(crate) nfacctd_failures: usize,
    /// Templates by their id, as they were last.
    pub(crate) templates: BTreeMap<u16, Template>,
}

/// Walks over messages in the order of their arrival, of one domain.
pub(crate) fn walk(datagrams: &[Datagram]) -> Walk {
    let mut walk = Walk::default();
    let mut next = None;
    let (mut nfcapd_next, mut nfcapd_has_flows) = (0u32, false);
    for datagram in datagrams {
        let message = Message::read(&datagram.octets);
        for template in message.templates() {
            walk.templates.insert(template.id, template);
        }
        let is_gap = next.is_some_and(|next| next != message.sequence);
        walk.gaps += usize::from(is_gap);
        walk.nfacctd_failures += usize::from(is_gap && next != Some(0));
        let nfcapd_gap = nfcapd_next != message.sequence && nfcapd_has_flows;
        walk.nfcapd_failures += u64::from(if message.version == 10 { nfcapd_gap } else { is_gap });
        nfcapd_next = message.sequence;
        let (mut flows, mut options) = (0, 0);
        for (kind, body) in &message.sets {
            let Kind::Data(id) = kind else { continue };
            let Some(template) = walk.templates.get(id) else { continue };
            let records = template.records(body);
            if template.is_options { options += records } else { flows += records }
        }
        nfcapd_has_flows |= flows > 0;
        if message.version == 5 {
            flows = u32::from(message.count_or_length);
        }
        (walk.flows, walk.options) = (walk.flows + flows, walk.options + options);
        let step = if message.version == 9 { 1 } else { flows + options };
        next = Some(message.sequence.wrapping_add(step));
        nfcapd_next = nfcapd_next.wrapping_add(flows);
        if message.version == 9 {
            let templates = u32::try_from(message.templates().len()).unwrap();
            let all_known = message.sets.iter().all(|(kind, _)| match kind {
                Kind::Data(id) => walk.templates.contains_key(id),
                _ => true,
            });
            let count = u32::from(message.count_or_length);
            assert!(!all_known || count == templates + flows + options, "count {count} of {message:?}");
        }
    }
    walk
}
