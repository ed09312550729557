// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A small collector: what arrives on a UDP port, as text, JSON or CSV, and what is missing.

mod collector;
mod ipfix_file;
pub mod netflow_v5_decode;
mod output;
mod received;
mod sequence;
pub mod write;

pub use collector::{CollectError, Collector, CollectorOptions, Progress, Totals};
pub use ipfix_file::{IpfixFileError, IpfixFileReader};
pub use output::{OutputFormat, to_json};
pub use received::{Received, RecordKind};
pub use sequence::{Arrival, Exporter, SequenceTable};
