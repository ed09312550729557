// SPDX-License-Identifier: Apache-2.0 OR MIT
//! One record as it was received, whatever the version: what every output writes.

use std::net::SocketAddr;

use crate::element::{ElementId, Value};

/// What a record is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RecordKind {
    /// A flow.
    Flow,
    /// Data of an options template: about the exporter, an interface, a sampler, ….
    Options,
}

/// A decoded record.
///
/// v1, v5 and v7 are given as IANA elements as well; times that count from the exporter's boot are Unix
/// time (elements 152 and 153) already. What those versions send as 0 for "not known" is absent.
#[derive(Clone, PartialEq, Debug)]
pub struct Received {
    /// Who sent it: address and port, or `None` from a file.
    pub exporter: Option<SocketAddr>,
    /// 1, 5, 7, 9 or 10.
    pub version: u16,
    /// Observation domain (IPFIX), source id (v9), engine type × 256 + engine id (v5), 0.
    pub domain: u32,
    /// Template id; 0 where there is none.
    pub template: u16,
    /// Export time of its message, Unix time in nanoseconds.
    pub exported_ns: u64,
    /// Flow or options.
    pub kind: RecordKind,
    /// Elements in the order of the template; one may come more than once.
    pub elements: Vec<(ElementId, Value)>,
}

impl Received {
    /// The first value of an element.
    #[must_use]
    pub fn get(&self, element: ElementId) -> Option<&Value> {
        self.elements.iter().find(|(id, _)| *id == element).map(|(_, value)| value)
    }

    /// Packets that a flow tells of: since the last record, else in all.
    #[must_use]
    pub fn packets(&self) -> u64 {
        self.count([2, 86])
    }

    /// Octets likewise.
    #[must_use]
    pub fn octets(&self) -> u64 {
        self.count([1, 85])
    }

    fn count(&self, ids: [u16; 2]) -> u64 {
        ids.into_iter().find_map(|id| self.get(ElementId::iana(id))?.unsigned()).unwrap_or(0)
    }
}
