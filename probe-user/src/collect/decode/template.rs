// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the records of a set look like: templates of NetFlow v9 and IPFIX.

use super::octets::Octets;
use crate::collect::RecordKind;
use crate::element::{DataType, ElementId, lookup};

/// Length that stands for "its length stands before each value" (RFC 7011 section 7). Some exporters of
/// NetFlow v9 use it as well; no datagram could hold a field that long.
const VARIABLE: u16 = u16::MAX;
/// First number of templates and of their data sets; those below are sets with a meaning of their own.
pub(super) const FIRST_ID: u16 = 256;

/// One field of a record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Field {
    pub(super) element: ElementId,
    pub(super) data_type: DataType,
    /// Octets; `None` for variable.
    pub(super) length: Option<u16>,
}

impl Field {
    fn new(element: ElementId, length: u16) -> Self {
        let data_type = lookup(element).map_or(DataType::OctetArray, |known| known.data_type);
        Self { element, data_type, length: (length != VARIABLE).then_some(length) }
    }

    /// Reads a field specifier of IPFIX (RFC 7011 section 3.2).
    pub(super) fn read(octets: &mut Octets<'_>) -> Option<Self> {
        let (number, length) = (octets.u16()?, octets.u16()?);
        let enterprise = if number >> 15 == 1 { octets.u32()? } else { 0 };
        Some(Self::new(ElementId { enterprise, id: number & 0x7fff }, length))
    }
}

/// A template without its number.
#[derive(PartialEq, Eq, Debug)]
pub(super) struct Template {
    pub(super) kind: RecordKind,
    pub(super) fields: Vec<Field>,
    /// Octets of the shortest record.
    pub(super) shortest: usize,
}

/// Why a set of templates could not be read on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Fault {
    /// The set ends within a template, or a number is reserved.
    Malformed,
    /// More fields than are remembered.
    TooLarge,
}

/// What a template set says.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum Definition {
    /// Records of this number look so.
    Template(u16, Template),
    /// This number is free again; 2 and 3 stand for all templates and all options templates.
    Withdrawal(u16),
}

/// Where templates come from: which of the four kinds of sets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum TemplateSet {
    V9(RecordKind),
    Ipfix(RecordKind),
}

impl TemplateSet {
    /// Reads one template; `Ok(None)` when the rest is padding.
    pub(super) fn next(self, octets: &mut Octets<'_>, most: usize) -> Result<Option<Definition>, Fault> {
        // Fewer octets than a header are padding; zeros are as well, whatever the alignment.
        if octets.len() < 4 || octets.0.iter().all(|octet| *octet == 0) {
            return Ok(None);
        }
        let definition = match self {
            Self::V9(RecordKind::Flow) => v9(octets, most),
            Self::V9(RecordKind::Options) => v9_options(octets, most),
            Self::Ipfix(kind) => ipfix(kind, octets, most),
        };
        definition.map(Some)
    }
}

/// RFC 3954 section 5.2.
fn v9(octets: &mut Octets<'_>, most: usize) -> Result<Definition, Fault> {
    let (id, count) = header(octets)?;
    let mut body = body(octets, usize::from(count) * 4)?;
    template(id, RecordKind::Flow, usize::from(count), most, || v9_field(&mut body, 0))
}

/// RFC 3954 section 6.1: lengths in octets instead of counts, scopes with numbers of their own.
fn v9_options(octets: &mut Octets<'_>, most: usize) -> Result<Definition, Fault> {
    let (id, scope_length) = header(octets)?;
    let option_length = octets.u16().ok_or(Fault::Malformed)?;
    let (scopes, options) = (usize::from(scope_length), usize::from(option_length));
    if !scopes.is_multiple_of(4) || !options.is_multiple_of(4) {
        return Err(Fault::Malformed);
    }
    let mut body = body(octets, scopes + options)?;
    let mut at = 0;
    template(id, RecordKind::Options, (scopes + options) / 4, most, || {
        let enterprise = if at < scopes { ElementId::V9_SCOPE } else { 0 };
        at += 4;
        v9_field(&mut body, enterprise)
    })
}

/// NetFlow v9 knows no enterprises: its numbers have 16 bits.
fn v9_field(octets: &mut Octets<'_>, enterprise: u32) -> Option<Field> {
    let (id, length) = (octets.u16()?, octets.u16()?);
    Some(Field::new(ElementId { enterprise, id }, length))
}

/// RFC 7011 sections 3.4.1, 3.4.2 and 8.1.
fn ipfix(kind: RecordKind, octets: &mut Octets<'_>, most: usize) -> Result<Definition, Fault> {
    let (id, count) = (octets.u16().ok_or(Fault::Malformed)?, octets.u16().ok_or(Fault::Malformed)?);
    let all = if kind == RecordKind::Flow { 2 } else { 3 };
    if count == 0 && (id == all || id >= FIRST_ID) {
        return Ok(Definition::Withdrawal(id));
    }
    if kind == RecordKind::Options {
        // How many of the fields are scope does not matter to whoever shows them all.
        octets.u16().ok_or(Fault::Malformed)?;
    }
    if id < FIRST_ID {
        return Err(Fault::Malformed);
    }
    template(id, kind, count.into(), most, || Field::read(octets))
}

fn header(octets: &mut Octets<'_>) -> Result<(u16, u16), Fault> {
    match (octets.u16(), octets.u16()) {
        (Some(id), Some(count)) if id >= FIRST_ID => Ok((id, count)),
        _ => Err(Fault::Malformed),
    }
}

fn body<'a>(octets: &mut Octets<'a>, len: usize) -> Result<Octets<'a>, Fault> {
    octets.take(len).map(Octets).ok_or(Fault::Malformed)
}

/// Reads `count` fields, also of a template that is too large, so that the next one is found.
fn template(
    id: u16,
    kind: RecordKind,
    count: usize,
    most: usize,
    mut next: impl FnMut() -> Option<Field>,
) -> Result<Definition, Fault> {
    let mut fields = Vec::with_capacity(count.min(most));
    let mut shortest = 0;
    let mut too_large = false;
    for _ in 0..count {
        let field = next().ok_or(Fault::Malformed)?;
        // Fields without octets say nothing; a record could hold any number of them.
        if field.length == Some(0) {
            continue;
        }
        shortest += usize::from(field.length.unwrap_or(1));
        too_large |= fields.len() == most;
        if !too_large {
            fields.push(field);
        }
    }
    if too_large {
        return Err(Fault::TooLarge);
    }
    Ok(Definition::Template(id, Template { kind, fields, shortest }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[u16]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_be_bytes()).collect()
    }

    fn all(set: TemplateSet, words_: &[u16]) -> Vec<Result<Definition, Fault>> {
        let octets = words(words_);
        let mut octets = Octets(&octets);
        let mut found = Vec::new();
        loop {
            match set.next(&mut octets, 8) {
                Ok(None) => return found,
                Ok(Some(definition)) => found.push(Ok(definition)),
                Err(Fault::Malformed) => {
                    found.push(Err(Fault::Malformed));
                    return found;
                }
                Err(fault) => found.push(Err(fault)),
            }
        }
    }

    fn field(enterprise: u32, id: u16, data_type: DataType, length: Option<u16>) -> Field {
        Field { element: ElementId { enterprise, id }, data_type, length }
    }

    fn made(id: u16, kind: RecordKind, shortest: usize, fields: &[Field]) -> Result<Definition, Fault> {
        Ok(Definition::Template(id, Template { kind, fields: fields.to_vec(), shortest }))
    }

    #[test]
    fn templates_of_ipfix() {
        let flow = TemplateSet::Ipfix(RecordKind::Flow);
        let address = field(0, 8, DataType::Ipv4Address, Some(4));
        let two = [256, 1, 8, 4, 999, 3, 82, 0xffff, 0x8000 | 880, 1, 0, 6876, 0x8000 | 2, 4, 0, 29305, 0];
        let expected = [
            made(256, RecordKind::Flow, 4, &[address]),
            made(
                999,
                RecordKind::Flow,
                6,
                &[
                    field(0, 82, DataType::String, None),
                    field(6876, 880, DataType::Unsigned8, Some(1)),
                    field(29305, 2, DataType::Unsigned64, Some(4)),
                ],
            ),
        ];
        assert_eq!(all(flow, &two), expected, "and padding");
        let options = TemplateSet::Ipfix(RecordKind::Options);
        let sampler = field(0, 302, DataType::Unsigned64, Some(8));
        assert_eq!(all(options, &[300, 1, 1, 302, 8]), [made(300, RecordKind::Options, 8, &[sampler])]);
        for cut in [&[255, 1, 8, 4][..], &[256, 2, 8, 4], &[256, 1, 0x8008, 4, 0], &[1, 0]] {
            assert_eq!(all(flow, cut), [Err(Fault::Malformed)], "{cut:?}");
        }
        assert_eq!(all(options, &[256, 1]), [Err(Fault::Malformed)]);
    }

    #[test]
    fn withdrawals() {
        let flow = TemplateSet::Ipfix(RecordKind::Flow);
        assert_eq!(
            all(flow, &[256, 0, 2, 0]),
            [Ok(Definition::Withdrawal(256)), Ok(Definition::Withdrawal(2))]
        );
        let options = TemplateSet::Ipfix(RecordKind::Options);
        assert_eq!(all(options, &[3, 0]), [Ok(Definition::Withdrawal(3))]);
        assert_eq!(all(flow, &[3, 0]), [Err(Fault::Malformed)]);
    }

    #[test]
    fn templates_of_netflow_v9_have_no_enterprises_and_scopes_of_their_own() {
        let flow = TemplateSet::V9(RecordKind::Flow);
        let acl = field(0, 33000, DataType::OctetArray, Some(12));
        assert_eq!(all(flow, &[260, 1, 33000, 12]), [made(260, RecordKind::Flow, 12, &[acl])]);
        let options = TemplateSet::V9(RecordKind::Options);
        let scope = field(ElementId::V9_SCOPE, 2, DataType::Unsigned64, Some(4));
        let name = field(0, 82, DataType::String, Some(16));
        assert_eq!(
            all(options, &[257, 4, 4, 2, 4, 82, 16, 0]),
            [made(257, RecordKind::Options, 20, &[scope, name])]
        );
        for wrong in [&[257, 4, 8, 2, 4, 82, 16][..], &[257, 3, 4, 2, 4, 82, 16], &[257, 4]] {
            assert_eq!(all(options, wrong), [Err(Fault::Malformed)], "{wrong:?}");
        }
    }

    #[test]
    fn fields_without_octets_and_templates_without_end() {
        let flow = TemplateSet::Ipfix(RecordKind::Flow);
        let protocol = field(0, 4, DataType::Unsigned8, Some(1));
        assert_eq!(all(flow, &[256, 2, 8, 0, 4, 1]), [made(256, RecordKind::Flow, 1, &[protocol])]);
        assert_eq!(all(flow, &[256, 1, 8, 0]), [made(256, RecordKind::Flow, 0, &[])]);
        let mut large = vec![256, 9];
        large.extend([4, 1].repeat(9));
        large.extend([257, 1, 4, 1]);
        assert_eq!(
            all(flow, &large),
            [Err(Fault::TooLarge), made(257, RecordKind::Flow, 1, &[protocol])],
            "the next one is read"
        );
    }
}
