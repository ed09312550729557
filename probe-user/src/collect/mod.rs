// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A small collector: what arrives over UDP, TCP and TLS, as text, JSON, CSV or files, and what is missing.

mod collector;
mod connection;
mod datagrams;
pub mod decode;
mod intake;
mod ipfix_file;
mod listen_url;
mod lru;
mod output;
mod received;
mod sequence;
mod streams;
mod tls;
pub mod write;

pub use collector::{CollectError, Collector, CollectorOptions, Progress};
pub use intake::Totals;
pub use ipfix_file::{IpfixFileError, IpfixFileReader};
pub use listen_url::{ListenUrl, Transport};
pub use output::{OutputFormat, write_json};
pub use received::{Received, RecordKind};
pub use sequence::{Arrival, SequenceTable, Unit};
pub use streams::StreamTotals;
pub use tls::TlsFiles;
