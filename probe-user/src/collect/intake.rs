// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What becomes of a message, whichever way it came: decoded, counted, written.

use std::io::{self, BufWriter, Write};
use std::time::Duration;

use super::decode::{Decoder, Limits, Malformed, Message, Source};
use super::output::{OutputFormat, write_header, write_record};
use super::received::{Received, RecordKind};
use super::sequence::{SequenceTable, Unit};
use super::streams::StreamTotals;
use super::write::RecordWriter;
use crate::flow::Timestamp;
use crate::throttle::Throttle;

const OUTPUT_BUFFER: usize = 256 << 10;
const COMPLAINT: Duration = Duration::from_secs(60);
/// Samplers named in the summary.
const MAX_SAMPLERS: usize = 32;

/// What was received so far.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Totals {
    /// Datagrams, and messages of connections, of all kinds.
    pub datagrams: u64,
    /// Flow records decoded.
    pub records: u64,
    /// Options records decoded.
    pub options: u64,
    /// Packets that the flows tell of.
    pub packets: u64,
    /// Octets that the flows tell of.
    pub octets: u64,
    /// Messages not decoded, by [`Malformed`].
    pub malformed: [u64; Malformed::NAMES.len()],
    /// Datagrams that the kernel dropped because a receive buffer was full.
    pub overflowed: u64,
    /// Connections.
    pub streams: StreamTotals,
}

/// See the module.
pub(super) struct Intake {
    decoder: Decoder,
    sequences: SequenceTable,
    out: BufWriter<Box<dyn Write + Send>>,
    format: OutputFormat,
    show_options: bool,
    header_due: bool,
    limit: u64,
    pub(super) totals: Totals,
    complaint: Throttle,
    /// Files that it is written into as well, and their time: Unix time in nanoseconds.
    pub(super) files: Option<RecordWriter>,
    pub(super) unix_ns: u64,
}

impl Intake {
    pub(super) fn new(
        format: OutputFormat,
        show_options: bool,
        limit: u64,
        out: Box<dyn Write + Send>,
    ) -> Self {
        Self {
            decoder: Decoder::new(Limits::default()),
            sequences: SequenceTable::default(),
            out: BufWriter::with_capacity(OUTPUT_BUFFER, out),
            format,
            show_options,
            header_due: true,
            limit,
            totals: Totals::default(),
            complaint: Throttle::new(COMPLAINT),
            files: None,
            unix_ns: 0,
        }
    }

    /// Whether the records asked for have been written.
    pub(super) fn is_full(&self) -> bool {
        self.totals.records >= self.limit
    }

    /// Writes what stands before the first record, once.
    pub(super) fn begin(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.header_due) {
            write_header(&mut self.out, self.format)?;
            self.out.flush()?;
        }
        Ok(())
    }

    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    /// Decodes a message and writes its records; `None` for one that is not decoded, or not wanted any more.
    pub(super) fn message(
        &mut self,
        source: Source,
        octets: &[u8],
        now: Timestamp,
    ) -> io::Result<Option<Message>> {
        if self.is_full() {
            return Ok(None);
        }
        self.totals.datagrams += 1;
        let Self { decoder, out, totals, files, .. } = self;
        let unix_ns = self.unix_ns;
        if let Some(files) = files {
            files.message(source, octets, unix_ns);
        }
        let (format, show_options, limit) = (self.format, self.show_options, self.limit);
        let mut written = Ok(());
        let decoded = decoder.decode(source, octets, |record: &Received| {
            if written.is_ok() && totals.records < limit {
                totals.note(record);
                if let Some(files) = files {
                    files.record(record, unix_ns);
                }
                if record.kind == RecordKind::Flow || show_options {
                    written = write_record(out, format, record);
                }
            }
        });
        written?;
        match decoded {
            Ok(message) => {
                self.sequences.note(source, &message);
                Ok(Some(message))
            }
            Err(malformed) => {
                self.totals.malformed[malformed.index()] += 1;
                if let Some(held_back) = self.complaint.admit(now) {
                    let from = source.exporter.map_or_else(|| "unknown".to_owned(), |from| from.to_string());
                    tracing::warn!(
                        "a message of {} octets from {from} was not decoded: {malformed} ({held_back} more since \
                         this was last said)",
                        octets.len()
                    );
                }
                Ok(None)
            }
        }
    }

    /// Forgets a connection that has ended.
    pub(super) fn forget(&mut self, stream: u64) {
        self.decoder.forget(stream);
        self.sequences.forget(stream);
        if let Some(files) = &mut self.files {
            files.forget(stream);
        }
    }

    pub(super) fn sequences(&self) -> &SequenceTable {
        &self.sequences
    }

    pub(super) fn decoder(&self) -> &Decoder {
        &self.decoder
    }

    /// Writes what was received and what is missing.
    pub(super) fn summarize(&self, out: &mut impl Write) -> io::Result<()> {
        let Totals { datagrams, records, options, packets, octets, malformed, overflowed, streams } =
            self.totals;
        let sequences = &self.sequences;
        write!(out, "datagrams {datagrams}, flows {records}, packets {packets}, octets {octets}")?;
        if options > 0 {
            write!(out, ", options records {options}")?;
        }
        write!(out, "\nexporters {}", sequences.met)?;
        for (unit, name) in Unit::NAMES {
            // Of versions that nobody sent, nothing can be missing.
            if unit == Unit::Flows || sequences.missed_of(unit) > 0 {
                write!(out, ", {name} {}", sequences.missed_of(unit))?;
            }
        }
        write!(out, ", late datagrams {}, restarts {}", sequences.late, sequences.restarts)?;
        if sequences.forgotten > 0 {
            write!(out, ", exporters forgotten to make room {}", sequences.forgotten)?;
        }
        write!(out, "\nnot decoded {}", malformed.iter().sum::<u64>())?;
        for (name, count) in Malformed::NAMES.iter().zip(malformed).filter(|(_, count)| *count > 0) {
            write!(out, ", {name} {count}")?;
        }
        writeln!(out, "; dropped by the kernel for want of buffer {overflowed}")?;
        let mut separator = "in part not decoded: ";
        for (name, count) in self.decoder.defects().iter() {
            write!(out, "{separator}{name} {count}")?;
            separator = ", ";
        }
        if separator == ", " {
            writeln!(out)?;
        }
        let StreamTotals { accepted, refused, displaced, slow, garbage, cut } = streams;
        if accepted + refused > 0 {
            writeln!(
                out,
                "connections {accepted}, refused {refused}, displaced {displaced}, slow {slow}, garbage {garbage}, \
                 cut {cut}"
            )?;
        }
        let samplings: Vec<_> = self.decoder.samplings().take(MAX_SAMPLERS).collect();
        for (id, sampler, rate) in samplings {
            let exporter = id.source.exporter.map_or_else(|| "a file".to_owned(), |from| from.to_string());
            writeln!(
                out,
                "sampling told by {exporter}, domain {}, sampler {sampler}: {rate} (counts are as received)",
                id.domain
            )?;
        }
        Ok(())
    }
}

impl Totals {
    fn note(&mut self, record: &Received) {
        match record.kind {
            RecordKind::Flow => {
                self.records += 1;
                self.packets = self.packets.saturating_add(record.packets());
                self.octets = self.octets.saturating_add(record.octets());
            }
            RecordKind::Options => self.options += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An options template of the domain's sampling interval (elements 149 and 34), and its record.
    const SAMPLING: [u8; 54] = [
        0, 10, 0, 54, 0x6a, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7, // header
        0, 3, 0, 22, 1, 0, 0, 2, 0, 1, 0, 149, 0, 4, 0, 34, 0, 4, 0, 0, 0, 0, // template, padding
        1, 0, 0, 16, 0, 0, 0, 7, 0, 0, 0, 100, 0, 0, 0, 0, // record, padding
    ];

    #[test]
    fn the_summary_tells_of_exporters_that_have_gone() {
        let mut intake = Intake::new(OutputFormat::None, false, u64::MAX, Box::new(io::sink()));
        for (stream, port) in [(1, 4001), (2, 4002)] {
            let source = Source { exporter: Some(([192, 0, 2, 1], port).into()), stream };
            let message = intake.message(source, &SAMPLING, Timestamp(0)).unwrap();
            assert_eq!(message.map(|message| (message.records, message.complete)), Some((1, true)));
            intake.forget(stream);
        }
        let mut summary = Vec::new();
        intake.summarize(&mut summary).unwrap();
        let summary = String::from_utf8(summary).unwrap();
        assert!(summary.contains("\nexporters 2, missed flows 0"), "{summary}");
        let told = "sampling told by 192.0.2.1:4002, domain 7, sampler 0: 1:100 (counts are as received)\n";
        assert!(summary.ends_with(told), "{summary}");
        assert_eq!(summary.matches("sampling told").count(), 1, "once for each exporter: {summary}");
    }
}
