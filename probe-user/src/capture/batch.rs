// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Packets that were read and not merged yet. Where details are not kept nobody copies them.

use probe_common::{Detail, parse::ParsedPacket};

use crate::flow::{FlowRecord, FlowTable, Moment, Observation, Timestamp};

/// As many as the flow table keeps in flight.
pub(super) const BATCH: usize = 32;

/// See the module.
pub(super) enum Batch {
    Plain(Vec<Observation>),
    Detailed(Vec<Observation<Detail>>),
}

impl Batch {
    /// An empty one.
    pub(super) fn new(details: bool) -> Self {
        if details {
            Self::Detailed(Vec::with_capacity(BATCH))
        } else {
            Self::Plain(Vec::with_capacity(BATCH))
        }
    }

    /// Puts a packet in that was captured at `at`.
    #[inline(always)]
    pub(super) fn push(&mut self, packet: &ParsedPacket, at: Timestamp) {
        let observation = Observation::packet(packet.key, packet.octets.into(), at, packet.tcp_flags);
        match self {
            Self::Plain(batch) => batch.push(observation),
            Self::Detailed(batch) => batch.push(observation.with_detail(packet.detail)),
        }
    }

    /// Merges all into `table`.
    pub(super) fn merge_into(&mut self, table: &mut FlowTable, moment: Moment, out: &mut Vec<FlowRecord>) {
        match self {
            Self::Plain(batch) => {
                table.merge(batch, moment, out);
                batch.clear();
            }
            Self::Detailed(batch) => {
                table.merge(batch, moment, out);
                batch.clear();
            }
        }
    }
}
