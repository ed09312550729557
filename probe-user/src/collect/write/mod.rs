// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Files of what was received, a new one at each step of the clock: JSON lines, IPFIX (RFC 5655), Parquet.
//!
//! A file is written under a name that no reader takes for a whole one, and gets its own when it is complete
//! and on the disk. So whoever kills the collector finds complete files and at most one unfinished per open
//! file, which the next start removes.
//!
//! Every record and every message offered is written or counted under a reason ([`Unwritten`]); it counts as
//! written when its file is complete.

mod appender;
mod closer;
mod columns;
mod ipfix_lanes;
mod ipfix_message;
mod json_lines;
mod parquet_file;
mod parquet_hours;
mod part_file;
mod record_writer;
mod rotation;
mod shelf;
mod templates;
mod totals;

pub use record_writer::{RecordWriter, WriteError, WriteFormat, WriteOptions};
pub use totals::{FormatTotals, Unwritten, WriteTotals};
