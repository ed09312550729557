// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The elements that are known by name.
//!
//! The tables are part of the program and are read once, at the first question. NetFlow v9 shares IANA's
//! numbers; what only v9 or an enterprise uses stands in a table of its own.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::LazyLock;

use super::{DataType, ElementId};

const IANA: &str = include_str!("iana.tsv");
const OTHERS: &str = include_str!("others.tsv");

/// What is known of an element.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Element {
    /// Name as registered; "reverse" and the name for the reverse direction (RFC 5103 section 6.1).
    pub name: &'static str,
    /// Abstract data type (RFC 7012 section 3.1).
    pub data_type: DataType,
}

struct Registry {
    /// By number.
    iana: Vec<Option<Element>>,
    reverse: Vec<Option<Element>>,
    others: HashMap<ElementId, Element>,
}

static REGISTRY: LazyLock<Registry> = LazyLock::new(Registry::read);

/// The element of that number, if it is known.
#[must_use]
pub fn lookup(id: ElementId) -> Option<&'static Element> {
    let at = usize::from(id.id);
    let found = match id.enterprise {
        0 => REGISTRY.iana.get(at).and_then(Option::as_ref),
        ElementId::REVERSE => return REGISTRY.reverse.get(at)?.as_ref(),
        _ => None,
    };
    found.or_else(|| REGISTRY.others.get(&id))
}

/// Its name; `element105` or `enterprise6876id885` for one that is not known.
#[must_use]
pub fn name(id: ElementId) -> Cow<'static, str> {
    match (lookup(id), id.enterprise) {
        (Some(element), _) => Cow::Borrowed(element.name),
        (None, 0) => Cow::Owned(format!("element{}", id.id)),
        (None, ElementId::V9_SCOPE) => Cow::Owned(format!("scope{}", id.id)),
        (None, enterprise) => Cow::Owned(format!("enterprise{enterprise}id{}", id.id)),
    }
}

impl Registry {
    fn read() -> Self {
        let mut iana = Vec::new();
        let mut reverse = Vec::new();
        let mut others = HashMap::new();
        for line in lines(IANA) {
            if let [id, name, data_type] = columns(line)
                && let (Ok(id), Some(data_type)) = (id.parse::<usize>(), DataType::from_name(data_type))
            {
                iana.resize(iana.len().max(id + 1), None);
                reverse.resize(iana.len(), None);
                iana[id] = Some(Element { name, data_type });
                // Kept for as long as the program runs, like the table itself.
                let name = reverse_name(name).leak();
                reverse[id] = Some(Element { name, data_type });
            }
        }
        for line in lines(OTHERS) {
            if let [enterprise, id, name, data_type] = columns(line)
                && let (Ok(enterprise), Ok(id)) = (enterprise.parse(), id.parse())
                && let Some(data_type) = DataType::from_name(data_type)
            {
                others.insert(ElementId { enterprise, id }, Element { name, data_type });
            }
        }
        Self { iana, reverse, others }
    }
}

fn lines(table: &'static str) -> impl Iterator<Item = &'static str> {
    table.lines().filter(|line| !line.starts_with('#'))
}

/// Exactly `N` columns; of another number, none that can be read.
fn columns<const N: usize>(line: &'static str) -> [&'static str; N] {
    let mut cells = line.split('\t');
    let row = std::array::from_fn(|_| cells.next().unwrap_or_default());
    if cells.next().is_some() { [""; N] } else { row }
}

/// "reverse" and the name, its first letter capitalised.
fn reverse_name(name: &str) -> String {
    let mut letters = name.chars();
    letters.next().map_or_else(String::new, |first| {
        format!("reverse{}{}", first.to_ascii_uppercase(), letters.as_str())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_of_the_tables_is_read() {
        let rows = |table| lines(table).count();
        assert_eq!(REGISTRY.iana.iter().flatten().count(), rows(IANA));
        assert_eq!(REGISTRY.others.len(), rows(OTHERS));
        assert!(rows(IANA) > 490 && rows(OTHERS) > 30);
        let mut names: Vec<_> = REGISTRY.iana.iter().flatten().map(|element| element.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), rows(IANA), "a name stands for one element");
    }

    #[test]
    fn elements_have_their_registered_names_and_types() {
        let vmware = |id| ElementId { enterprise: 6876, id };
        for (id, name, data_type) in [
            (ElementId::iana(1), "octetDeltaCount", DataType::Unsigned64),
            (ElementId::iana(6), "tcpControlBits", DataType::Unsigned16),
            (ElementId::iana(8), "sourceIPv4Address", DataType::Ipv4Address),
            (ElementId::iana(28), "destinationIPv6Address", DataType::Ipv6Address),
            (ElementId::iana(70), "mplsTopLabelStackSection", DataType::OctetArray),
            (ElementId::iana(80), "destinationMacAddress", DataType::MacAddress),
            (ElementId::iana(152), "flowStartMilliseconds", DataType::DateTimeMilliseconds),
            (ElementId::iana(156), "flowStartNanoseconds", DataType::DateTimeNanoseconds),
            (ElementId::iana(276), "dataRecordsReliability", DataType::Boolean),
            (ElementId::iana(291), "basicList", DataType::BasicList),
            (ElementId::iana(311), "samplingProbability", DataType::Float64),
            (ElementId::reverse(2), "reversePacketDeltaCount", DataType::Unsigned64),
            (vmware(880), "tenantProtocol", DataType::Unsigned8),
            (vmware(881), "tenantSourceIPv4", DataType::Ipv4Address),
            (vmware(884), "tenantDestIPv6", DataType::Ipv6Address),
            (vmware(898), "virtualObsID", DataType::String),
            (ElementId::iana(33002), "firewallExtendedEvent", DataType::Unsigned16),
            (ElementId { enterprise: ElementId::V9_SCOPE, id: 2 }, "scopeInterface", DataType::Unsigned64),
        ] {
            assert_eq!(lookup(id), Some(&Element { name, data_type }), "{id:?}");
            assert_eq!(super::name(id), name);
        }
    }

    #[test]
    fn what_is_not_known_has_a_name_made_of_its_numbers() {
        for (id, expected) in [
            (ElementId::iana(105), "element105"),
            (ElementId::iana(65_535), "element65535"),
            (ElementId::reverse(105), "enterprise29305id105"),
            (ElementId { enterprise: 6876, id: 885 }, "enterprise6876id885"),
            (ElementId { enterprise: ElementId::V9_SCOPE, id: 9 }, "scope9"),
        ] {
            assert_eq!(lookup(id), None);
            assert_eq!(name(id), expected);
        }
    }
}
