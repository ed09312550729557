// SPDX-License-Identifier: Apache-2.0 OR MIT
//! As much of an IPFIX message as is needed to keep it: its header, its sets, and the templates in them
//! (RFC 7011 §3).

/// Octets of the message header.
pub(super) const HEADER_LEN: usize = 16;
/// Octets of a set header.
pub(super) const SET_HEADER_LEN: usize = 4;
const VERSION: u16 = 10;
/// §3.4.1: with this bit, an enterprise number follows.
const ENTERPRISE: u16 = 0x8000;
/// §3.4.1: smaller ids are those of sets.
const FIRST_TEMPLATE: u16 = 256;

/// Template or options template, by the id of its set.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum TemplateKind {
    Flow = 2,
    Options = 3,
}

impl TemplateKind {
    pub(super) const ALL: [Self; 2] = [Self::Flow, Self::Options];

    pub(super) fn set_id(self) -> u16 {
        self as u16
    }
}

/// What a template set says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Declaration<'a> {
    /// A template with its record's octets, header included.
    Template(TemplateKind, u16, &'a [u8]),
    /// A template is not used any more; `None` for all of the kind (§8.1).
    Withdrawal(TemplateKind, Option<u16>),
}

/// A message whose lengths add up.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Message<'a> {
    pub(super) octets: &'a [u8],
    pub(super) head: Head,
    /// What its template sets say, in order.
    pub(super) declarations: Vec<Declaration<'a>>,
}

/// What a message header says besides version and length.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Head {
    pub(super) export_s: u32,
    pub(super) sequence: u32,
    pub(super) domain: u32,
}

/// Why octets are no such message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum NotAMessage {
    /// NetFlow of another version.
    OtherVersion,
    /// Lengths that do not add up.
    Malformed,
}

impl<'a> Message<'a> {
    pub(super) fn read(octets: &'a [u8]) -> Result<Self, NotAMessage> {
        match u16_at(octets, 0) {
            Some(VERSION) => Self::read_sets(octets).ok_or(NotAMessage::Malformed),
            Some(_) => Err(NotAMessage::OtherVersion),
            None => Err(NotAMessage::Malformed),
        }
    }

    fn read_sets(octets: &'a [u8]) -> Option<Self> {
        let octets = octets.get(..usize::from(u16_at(octets, 2)?))?;
        let head =
            Head { export_s: u32_at(octets, 4)?, sequence: u32_at(octets, 8)?, domain: u32_at(octets, 12)? };
        let mut declarations = Vec::new();
        let mut sets = octets.get(HEADER_LEN..)?;
        while !sets.is_empty() {
            let length = usize::from(u16_at(sets, 2)?);
            let (set, rest) = sets.split_at_checked(length)?;
            let records = set.get(SET_HEADER_LEN..)?;
            if let Some(kind) =
                TemplateKind::ALL.into_iter().find(|kind| u16_at(set, 0) == Some(kind.set_id()))
            {
                read_templates(kind, records, &mut declarations)?;
            }
            sets = rest;
        }
        Some(Self { octets, head, declarations })
    }
}

/// The records of a template set (§3.4); `None` when they do not add up.
fn read_templates<'a>(
    kind: TemplateKind,
    mut records: &'a [u8],
    declarations: &mut Vec<Declaration<'a>>,
) -> Option<()> {
    // §3.3.1: what is shorter than any record is padding, and padding is 0.
    while records.len() >= 4 && u16_at(records, 0)? != 0 {
        let (id, fields) = (u16_at(records, 0)?, u16_at(records, 2)?);
        let mut length = 4;
        if fields == 0 {
            let id = if id == kind.set_id() { None } else { Some(id).filter(|id| *id >= FIRST_TEMPLATE) };
            if id.is_none() && u16_at(records, 0)? != kind.set_id() {
                return None;
            }
            declarations.push(Declaration::Withdrawal(kind, id));
        } else {
            if id < FIRST_TEMPLATE {
                return None;
            }
            if kind == TemplateKind::Options {
                length += 2;
            }
            for _ in 0..fields {
                length += if u16_at(records, length)? & ENTERPRISE == 0 { 4 } else { 8 };
            }
            declarations.push(Declaration::Template(kind, id, records.get(..length)?));
        }
        records = &records[length..];
    }
    Some(())
}

/// Appends messages of templates, or of withdrawals: their records as they stand in a set, those of one kind
/// together. The sequence counts data records only, so they carry that of the message they stand before.
pub(super) fn write_declarations<'a>(
    head: Head,
    mut records: impl Iterator<Item = (TemplateKind, &'a [u8])>,
    out: &mut Vec<u8>,
) {
    let mut next = records.next();
    while let Some((mut kind, _)) = next {
        let message = out.len();
        out.extend(VERSION.to_be_bytes());
        out.extend([0; 2]);
        for word in [head.export_s, head.sequence, head.domain] {
            out.extend(word.to_be_bytes());
        }
        let mut set = begin_set(kind, out);
        while let Some((this, record)) = next {
            let change = this != kind;
            let room = usize::from(u16::MAX) - (out.len() - message);
            if record.len() + if change { SET_HEADER_LEN } else { 0 } > room {
                break;
            }
            if change {
                set_len(out, set, set + 2);
                kind = this;
                set = begin_set(kind, out);
            }
            out.extend(record);
            next = records.next();
        }
        set_len(out, set, set + 2);
        set_len(out, message, message + 2);
        if out.len() == message + HEADER_LEN + SET_HEADER_LEN {
            // A record that no message holds, which came in none.
            out.truncate(message);
            return;
        }
    }
}

fn begin_set(kind: TemplateKind, out: &mut Vec<u8>) -> usize {
    let at = out.len();
    out.extend(kind.set_id().to_be_bytes());
    out.extend([0; 2]);
    at
}

/// Writes the octets since `from` as the length at `at`.
fn set_len(out: &mut [u8], from: usize, at: usize) {
    let length = u16::try_from(out.len() - from).unwrap_or(u16::MAX);
    out[at..at + 2].copy_from_slice(&length.to_be_bytes());
}

fn u16_at(octets: &[u8], at: usize) -> Option<u16> {
    octets.get(at..)?.first_chunk().map(|chunk| u16::from_be_bytes(*chunk))
}

fn u32_at(octets: &[u8], at: usize) -> Option<u32> {
    octets.get(at..)?.first_chunk().map(|chunk| u32::from_be_bytes(*chunk))
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A message of sets.
    pub(in super::super) fn message(domain: u32, sequence: u32, sets: &[(u16, &[u8])]) -> Vec<u8> {
        let mut octets = vec![0, 10, 0, 0, 0x6a, 0, 0, 0];
        octets.extend(sequence.to_be_bytes());
        octets.extend(domain.to_be_bytes());
        for (id, body) in sets {
            octets.extend(id.to_be_bytes());
            octets.extend(u16::try_from(body.len() + 4).unwrap().to_be_bytes());
            octets.extend(*body);
        }
        let length = u16::try_from(octets.len()).unwrap();
        octets[2..4].copy_from_slice(&length.to_be_bytes());
        octets
    }

    /// A template of IANA elements of four octets.
    pub(in super::super) fn template(id: u16, elements: &[u16]) -> Vec<u8> {
        let mut octets = id.to_be_bytes().to_vec();
        octets.extend(u16::try_from(elements.len()).unwrap().to_be_bytes());
        for element in elements {
            octets.extend(element.to_be_bytes());
            octets.extend([0, 4]);
        }
        octets
    }

    #[test]
    fn declarations_are_read_in_order() {
        let plain = template(256, &[8, 12]);
        let enterprise = [1, 1, 0, 1, 0x80, 5, 0, 2, 0, 0, 0x1a, 0xdc];
        let options = [1, 2, 0, 2, 0, 1, 0, 149, 0, 4, 0, 34, 0, 4];
        let flow_set = [&plain[..], &enterprise, &[1, 7, 0, 0], &[0, 2, 0, 0], &[0, 0]].concat();
        let octets = message(7, 9, &[(2, &flow_set), (256, &[1; 8]), (3, &options)]);
        let read = Message::read(&octets).unwrap();
        assert_eq!((read.head.domain, read.head.sequence), (7, 9));
        assert_eq!(
            read.declarations,
            [
                Declaration::Template(TemplateKind::Flow, 256, &plain),
                Declaration::Template(TemplateKind::Flow, 257, &enterprise),
                Declaration::Withdrawal(TemplateKind::Flow, Some(263)),
                Declaration::Withdrawal(TemplateKind::Flow, None),
                Declaration::Template(TemplateKind::Options, 258, &options),
            ]
        );
        // Octets behind the message are not part of it.
        assert_eq!(Message::read(&[&octets[..], &[1, 2, 3]].concat()).unwrap().octets, octets);
    }

    #[test]
    fn what_does_not_add_up_is_refused() {
        let good = message(0, 0, &[(2, &template(256, &[8]))]);
        for cut in 0..good.len() {
            assert_eq!(Message::read(&good[..cut]), Err(NotAMessage::Malformed), "{cut}");
        }
        for (at, octets, why) in [
            (2, [0, 15], "shorter than a header"),
            (18, [0, 3], "a set shorter than its header"),
            (18, [0, 13], "a set beyond the message"),
            (20, [0, 255], "a template id of a set"),
            (22, [0, 2], "more fields than octets"),
            (22, [0xff, 0xff], "many more"),
            (24, [0x80, 8], "no room for the enterprise number"),
        ] {
            let mut bad = good.clone();
            bad[at..at + 2].copy_from_slice(&octets);
            assert_eq!(Message::read(&bad), Err(NotAMessage::Malformed), "{why}");
        }
        for version in [1, 5, 7, 9] {
            assert_eq!(Message::read(&[0, version, 0, 1]), Err(NotAMessage::OtherVersion));
        }
    }

    #[test]
    fn templates_are_written_as_they_are_read_over_as_many_messages_as_it_takes() {
        let head = Head { export_s: 5, sequence: 6, domain: 7 };
        let templates: Vec<(TemplateKind, Vec<u8>)> = (0..40)
            .map(|n| {
                let kind = if n < 30 { TemplateKind::Flow } else { TemplateKind::Options };
                let mut octets = template(256 + n, &vec![8; 600]);
                if kind == TemplateKind::Options {
                    octets.splice(4..4, [0, 1]);
                }
                (kind, octets)
            })
            .collect();
        let mut out = Vec::new();
        write_declarations(head, templates.iter().map(|(kind, octets)| (*kind, &octets[..])), &mut out);
        let mut rest = &out[..];
        let (mut read, mut messages) = (Vec::new(), 0);
        while !rest.is_empty() {
            let message = Message::read(rest).unwrap();
            assert_eq!(message.head, head);
            for declaration in message.declarations {
                let Declaration::Template(kind, _, octets) = declaration else { panic!("{declaration:?}") };
                read.push((kind, octets.to_vec()));
            }
            rest = &rest[message.octets.len()..];
            messages += 1;
        }
        assert_eq!((read == templates, messages), (true, 2));
    }

    proptest! {
        #[test]
        fn any_octets_are_read_or_refused(mut octets in proptest::collection::vec(any::<u8>(), 0..200), ipfix: bool) {
            if ipfix && octets.len() > 20 {
                let length = u16::try_from(octets.len()).unwrap().to_be_bytes();
                octets[..4].copy_from_slice(&[0, 10, length[0], length[1]]);
                octets[16..18].copy_from_slice(&[0, 2]);
            }
            if let Ok(message) = Message::read(&octets) {
                prop_assert!(message.octets.len() <= octets.len());
            }
        }
    }
}
