// SPDX-License-Identifier: Apache-2.0 OR MIT
//! From record to wire: pop, encode once for all collectors with equal settings, send at each one's pace.

mod exporter;
pub mod netflow_v5;
mod pace;
mod print;
mod ring;
mod sender;
mod stats;
mod stream;
mod text;
mod udp;
mod url;

pub use exporter::{Exporter, ExporterOptions, Progress};
pub use pace::{Pacer, Rate, Urgency};
pub use print::{PrintFormat, Printer};
pub use ring::{Cursor, DatagramRing, Run};
pub use stats::{CollectorStats, DropReason, ErrorReason, ExportStats, NotRepresentable};
pub use stream::{Stream, StreamSettings};
pub use text::{FlowJson, TextFlow, write_utc};
pub use udp::{Fate, Mechanism, SinkError, UdpSink};
pub use url::{CollectorUrl, ExportVersion, UrlError};
