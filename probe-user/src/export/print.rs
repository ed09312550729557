// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `--print`: every exported record on a writer, most often standard output.

use std::io::{self, BufWriter, ErrorKind, Write};

use super::text::{FlowJson, TextFlow};
use crate::flow::FlowRecord;

const BUFFER: usize = 256 << 10;

/// How records are printed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PrintFormat {
    /// One aligned line a flow, a header line first.
    Text,
    /// One JSON object a line.
    Json,
}

/// Prints records until whoever reads them goes away.
pub struct Printer {
    format: PrintFormat,
    out: Option<BufWriter<Box<dyn Write + Send>>>,
    header_due: bool,
}

impl Printer {
    /// A printer on `out`.
    #[must_use]
    pub fn new(format: PrintFormat, out: Box<dyn Write + Send>) -> Self {
        let out = Some(BufWriter::with_capacity(BUFFER, out));
        Self { format, out, header_due: format == PrintFormat::Text }
    }

    /// Prints a batch.
    pub fn print(&mut self, records: &[FlowRecord]) {
        let Some(out) = &mut self.out else { return };
        let result = print(out, self.format, std::mem::take(&mut self.header_due), records);
        self.check(result);
    }

    /// Hands over what is buffered.
    pub fn flush(&mut self) {
        let Some(out) = &mut self.out else { return };
        let result = out.flush();
        self.check(result);
    }

    /// Whether printing has ended because the other side did.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.out.is_none()
    }

    fn check(&mut self, result: io::Result<()>) {
        let Err(error) = result else { return };
        // `probe replay … | head`: the reader has seen enough.
        if error.kind() != ErrorKind::BrokenPipe {
            tracing::error!("printing records failed: {error}; they are no longer printed, export goes on");
        }
        // The buffer goes without another attempt to write it.
        if let Some(out) = self.out.take() {
            drop(out.into_parts());
        }
    }
}

fn print(out: &mut impl Write, format: PrintFormat, header: bool, records: &[FlowRecord]) -> io::Result<()> {
    if header {
        TextFlow::write_header(out)?;
    }
    for record in records {
        match format {
            PrintFormat::Text => TextFlow::from(record).write(out)?,
            PrintFormat::Json => {
                serde_json::to_writer(&mut *out, &FlowJson::from(record))?;
                out.write_all(b"\n")?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use probe_common::FlowKey;

    use super::*;
    use crate::flow::EndReason;

    #[test]
    fn a_closed_pipe_ends_printing_quietly() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let key = FlowKey::ipv4([1; 4], [2; 4], 17, 0);
        let record = FlowRecord {
            key,
            packets: 1,
            octets: 2,
            start_ns: 3,
            end_ns: 4,
            tcp_flags: 0,
            end_reason: EndReason::Idle,
            detail: probe_common::Detail::UNKNOWN,
        };
        let mut printer = Printer::new(PrintFormat::Json, Box::new(ours));
        printer.print(&[record]);
        printer.flush();
        assert!(!printer.is_closed());
        drop(theirs);
        printer.print(&[record]);
        printer.flush();
        assert!(printer.is_closed());
        printer.print(&[record]);
    }
}
