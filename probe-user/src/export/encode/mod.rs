// SPDX-License-Identifier: Apache-2.0 OR MIT
//! record → message, all behind [`Encoder`].
//!
//! ```text
//! fixed.rs      v1, v5, v7: what they share; netflow_v*.rs: what each adds
//! templated.rs  v9, IPFIX: what they share; netflow_v9.rs, ipfix.rs: headers, times, sequences
//!   fields.rs   the table of fields; field_set.rs: which of them a collector gets
//!   plan.rs     a template, and how records are cut out of the image (image.rs) of a flow
//!   options.rs  what the probe tells of itself; schedule.rs: when
//! ```

mod field_set;
mod fields;
mod fixed;
mod image;
mod interface_number;
mod ipfix;
mod message;
mod netflow_v1;
pub mod netflow_v5;
mod netflow_v7;
mod netflow_v9;
mod options;
mod plan;
mod sampling;
mod schedule;
mod template;
mod templated;
mod told;
mod virtual_boot;

pub use field_set::{FieldSet, FieldSetError};
pub use told::{InterfaceName, MeteringStatistics, Told};

use super::{
    ring::DatagramRing,
    values::{Biflow, ExportVersion, InterfaceNumbers, SamplingOptions, Transport},
};
use crate::flow::{FlowRecord, Timestamp};
use std::time::Duration;

/// One flow, or both directions of a conversation.
#[derive(Clone, Copy, Debug)]
pub struct ExportFlow<'a> {
    /// The flow; of a conversation the direction of who began it.
    pub forward: &'a FlowRecord,
    /// The other direction, for encoders that put both into one record (RFC 5103).
    pub reverse: Option<&'a FlowRecord>,
}

impl<'a> From<&'a FlowRecord> for ExportFlow<'a> {
    fn from(forward: &'a FlowRecord) -> Self {
        Self { forward, reverse: None }
    }
}

/// Why a flow cannot be told in a format.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unfit {
    /// An IPv6 flow, in a format without IPv6.
    Ipv6,
    /// More packets or octets than the format can tell.
    Counter,
}

/// Now, by both clocks, of one reading.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Now {
    /// Unix time in nanoseconds.
    pub unix_ns: u64,
    /// The same instant in monotonic time.
    pub at: Timestamp,
}

/// Records that could be told only in part.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Adjusted {
    /// Times that do not fit the format and were cut.
    pub times: u64,
    /// ifIndex that does not fit the field: sent as 0, or its lower 9 bits behind an engine id.
    pub interfaces: u64,
}

/// What makes two encoders write the same octets.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EncoderSettings {
    /// Protocol.
    pub version: ExportVersion,
    /// Templates are resent over datagrams, and sent once in a session.
    pub transport: Transport,
    /// Engine type of v5 and v7.
    pub engine_type: u8,
    /// Engine id of the first domain; the others count up from it.
    pub engine_id: u8,
    /// Number of the first observation domain, or source id; the others count up from it.
    pub domain: u32,
    /// What stands in the fields for interfaces.
    pub interfaces: InterfaceNumbers,
    /// Largest message in octets.
    pub message_octets: usize,
    /// Fields of v9 and IPFIX.
    pub fields: FieldSet,
    /// Whether records may tell of both directions, and how much of the reverse.
    pub biflow: Biflow,
    /// Templates are sent again after this time …
    pub template_refresh: Duration,
    /// … and after so many datagrams.
    pub template_packets: u32,
    /// Whether options are sent.
    pub options: bool,
    /// Options are sent again after this time.
    pub options_refresh: Duration,
    /// Which elements tell of sampling.
    pub sampling_options: SamplingOptions,
    /// Whether the sampling mode stands in the v5 header.
    pub v5_sampling_mode_bits: bool,
    /// The collector's own sampling of records, one flow in so many; 1: all.
    pub record_sampling: u32,
}

/// Turns flows of one observation domain into messages. Every message goes to a ring as soon as it is full.
///
/// Sequences, templates and clocks are the encoder's own; it never fails and never waits.
pub trait Encoder: Send {
    /// Encodes a flow; returns the records that it takes on the wire (more than one where counters are
    /// split).
    ///
    /// # Errors
    /// Why the format cannot tell it; nothing was written then.
    fn encode(&mut self, flow: &ExportFlow<'_>, now: Now, out: &mut DatagramRing) -> Result<u64, Unfit>;

    /// Finishes the message that is being filled, if there is one with records.
    fn seal(&mut self, now: Now, out: &mut DatagramRing);

    /// What time alone asks for: templates and options that are due. `told` is what options tell. To be
    /// called often; cheap when nothing is due.
    fn tick(&mut self, told: &Told, now: Now, out: &mut DatagramRing);

    /// The interfaces whose flows these are: names are told of them. What changed is told at the next tick.
    fn set_interfaces(&mut self, indexes: &[u32]);

    /// Templates and options are due at the next tick: a collector came back.
    fn refresh(&mut self);

    /// Messages with all templates, for the beginning of a session; each ends where its length says.
    fn preamble(&self, now: Now, out: &mut Vec<u8>);

    /// Flow records in the message that is being filled.
    fn open_records(&self) -> u64;

    /// Sequence number of the next message.
    fn sequence(&self) -> u32;

    /// Records that could be told only in part.
    fn adjusted(&self) -> Adjusted;
}

impl EncoderSettings {
    /// Octets of the largest message that comes of them.
    #[must_use]
    pub fn largest_message(&self) -> usize {
        match self.version {
            ExportVersion::V1 => fixed::largest_message::<netflow_v1::V1>(self.message_octets),
            ExportVersion::V5 => fixed::largest_message::<netflow_v5::V5>(self.message_octets),
            ExportVersion::V7 => fixed::largest_message::<netflow_v7::V7>(self.message_octets),
            ExportVersion::V9 | ExportVersion::Ipfix => templated::largest_message(self.message_octets),
        }
    }
}

/// An encoder of the domain with number `offset`: engine id and domain are so much above the first.
#[must_use]
pub fn encoder(settings: &EncoderSettings, offset: u32) -> Box<dyn Encoder> {
    match settings.version {
        ExportVersion::V1 => Box::new(fixed::Fixed::<netflow_v1::V1>::new(settings, offset)),
        ExportVersion::V5 => Box::new(fixed::Fixed::<netflow_v5::V5>::new(settings, offset)),
        ExportVersion::V7 => Box::new(fixed::Fixed::<netflow_v7::V7>::new(settings, offset)),
        ExportVersion::V9 => Box::new(templated::Templated::<netflow_v9::V9>::new(settings, offset)),
        ExportVersion::Ipfix => Box::new(templated::Templated::<ipfix::Ipfix>::new(settings, offset)),
    }
}
