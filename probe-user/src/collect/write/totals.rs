// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What was written, and what was not and why.

use std::io::{self, Write};

use super::WriteFormat;

/// Why something that was offered is in no file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unwritten {
    /// The disk is full, the directory is gone, …: also all that comes until the next attempt.
    WriteError,
    /// Data of an options template: JSON and Parquet files hold flows only.
    Options,
    /// A message of another version: IPFIX files hold IPFIX messages only.
    NotIpfix,
    /// A message whose lengths do not add up, which would make its file unreadable.
    Malformed,
    /// More exporters of one observation domain id than files are kept open.
    TooManyExporters,
}

impl Unwritten {
    /// All reasons, in the order of [`FormatTotals::unwritten`].
    pub const ALL: [Self; 5] =
        [Self::WriteError, Self::Options, Self::NotIpfix, Self::Malformed, Self::TooManyExporters];

    /// The name in the summary.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::WriteError => "write_error",
            Self::Options => "options",
            Self::NotIpfix => "not_ipfix",
            Self::Malformed => "malformed",
            Self::TooManyExporters => "too_many_exporters",
        }
    }
}

/// Totals of one format. `written + open + the sum of unwritten` is what was offered to it.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct FormatTotals {
    /// Complete files.
    pub files: u64,
    /// Records in them; of the IPFIX format, messages.
    pub written: u64,
    /// Not written, by [`Unwritten`].
    pub unwritten: [u64; Unwritten::ALL.len()],
}

impl FormatTotals {
    pub(super) fn count(&mut self, reason: Unwritten, count: u64) {
        self.unwritten[reason as usize] += count;
    }
}

/// Totals of all formats.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct WriteTotals {
    /// By [`WriteFormat`].
    pub formats: [FormatTotals; WriteFormat::ALL.len()],
}

impl WriteTotals {
    /// What could not be written, of all formats.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.formats.iter().map(|totals| totals.unwritten[Unwritten::WriteError as usize]).sum()
    }

    /// Those of a format.
    #[must_use]
    pub fn of(&self, format: WriteFormat) -> &FormatTotals {
        &self.formats[format as usize]
    }

    pub(super) fn of_mut(&mut self, format: WriteFormat) -> &mut FormatTotals {
        &mut self.formats[format as usize]
    }

    /// Writes a line for each format in use.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn summarize(&self, formats: &[WriteFormat], out: &mut impl Write) -> io::Result<()> {
        for format in WriteFormat::ALL.into_iter().filter(|format| formats.contains(format)) {
            let FormatTotals { files, written, unwritten } = *self.of(format);
            let unit = if format == WriteFormat::Ipfix { "messages" } else { "records" };
            write!(
                out,
                "written as {format}: files {files}, {unit} {written}, not written {}",
                unwritten.iter().sum::<u64>()
            )?;
            for (reason, count) in Unwritten::ALL.iter().zip(unwritten).filter(|(_, count)| *count > 0) {
                write!(out, ", {} {count}", reason.name())?;
            }
            writeln!(out)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_names_every_reason_that_occurred() {
        let mut totals = WriteTotals::default();
        *totals.of_mut(WriteFormat::Ipfix) = FormatTotals { files: 2, written: 7, ..FormatTotals::default() };
        for (reason, count) in Unwritten::ALL.into_iter().zip([5, 0, 3, 0, 1]) {
            totals.of_mut(WriteFormat::Ipfix).count(reason, count);
        }
        let mut out = Vec::new();
        totals.summarize(&[WriteFormat::Ipfix, WriteFormat::Json], &mut out).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "written as json: files 0, records 0, not written 0\n\
             written as ipfix: files 2, messages 7, not written 9, write_error 5, not_ipfix 3, \
             too_many_exporters 1\n"
        );
    }
}
