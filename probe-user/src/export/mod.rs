// SPDX-License-Identifier: Apache-2.0 OR MIT
//! From record to wire: pop, select, encode once for all collectors with equal settings, send at each one's pace. Each
//! format has an exporter of its own.
//!
//! ```text
//! record ─select→ stream (─pair→) ─encode→ ring of messages ─sender (pace)→ transport → collector
//! ```

mod biflow;
mod detail_json;
mod division;
mod domain_numbers;
pub mod encode;
mod exporter;
mod membership;
mod pace;
mod print;
mod ring;
mod select;
mod sender;
mod stats;
mod stream;
mod text;
mod transport;
mod url;
mod values;

pub use biflow::{Leaving, Pairing, PairingLimits};
pub use detail_json::{DetailJson, MacAddress};
pub use division::{Division, ExportReport, FormatExporter, QueueReaders};
pub use domain_numbers::DomainNumbers;
pub use encode::{InterfaceName, MeteringStatistics, Told};
pub use exporter::{Exporter, ExporterOptions, OpenCollector, Progress, ToldSource};
pub use pace::{Pacer, Rate, Urgency};
pub use print::{PrintFormat, Printer};
pub use ring::{Cursor, DatagramRing, Run};
pub use select::{
    CollectorPolicy, ConversationHash, Distributor, Filter, FilterError, Handover, NotSelected, Selection,
};
pub use stats::{CollectorStats, DropReason, ErrorReason, ExportStats, NotRepresentable};
pub use stream::{Stream, StreamSettings, Tally};
pub use text::{FlowJson, TextFlow, file_stem, write_utc};
pub use transport::{
    Endpoint, Fate, FileSink, Mechanism, SctpSink, Sent, SessionTiming, Sink, SinkError, TcpSink, Tended,
    TlsSink, Trouble, UdpSink, open,
};
pub use url::{CollectorUrl, UrlError};
pub use values::{Biflow, ExportVersion, InterfaceNumbers, SamplingOptions, Transport};
