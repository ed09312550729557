// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Received records as text, JSON or CSV.

mod csv;
mod json;
mod text;

use std::io::{self, Write};

use super::received::{Received, RecordKind};
use crate::export::TextFlow;

pub(super) use json::write_elements;
pub use json::write_json;

/// How flows are written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OutputFormat {
    /// One aligned line a flow, a header line first.
    Text,
    /// One JSON object a line.
    Json,
    /// Comma-separated, IANA names in the first row.
    Csv,
    /// Not at all.
    None,
}

/// Writes what stands before the first record, if anything does.
pub(super) fn write_header(out: &mut impl Write, format: OutputFormat) -> io::Result<()> {
    match format {
        OutputFormat::Text => TextFlow::write_header(out),
        OutputFormat::Json | OutputFormat::None => Ok(()),
        OutputFormat::Csv => csv::write_header(out),
    }
}

/// Writes one record. CSV has columns for flows only: options are left out there.
pub(super) fn write_record(out: &mut impl Write, format: OutputFormat, record: &Received) -> io::Result<()> {
    match format {
        OutputFormat::Text => text::write(out, record),
        OutputFormat::Json => {
            write_json(out, record)?;
            out.write_all(b"\n")
        }
        OutputFormat::Csv if record.kind == RecordKind::Flow => csv::write(out, record),
        OutputFormat::Csv | OutputFormat::None => Ok(()),
    }
}
