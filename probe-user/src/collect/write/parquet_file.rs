// SPDX-License-Identifier: Apache-2.0 OR MIT
//! One Parquet file: rows gathered column by column, written a row group at a time.

use std::fs::File;
use std::io::Write;
use std::sync::Arc;

use parquet::basic::Compression;
use parquet::data_type::{ByteArray, ByteArrayType, Int32Type, Int64Type};
use parquet::errors::{ParquetError, Result};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedColumnWriter, SerializedFileWriter};
use parquet::schema::parser::parse_message_type;

use super::columns::{
    self, COLUMNS, Column, DOMAIN, END, EXPORTER_IPV4, EXPORTER_IPV6, EXPORTER_PORT, OTHER, PROTOCOL_VERSION,
    START,
};
use super::part_file::PartFile;
use crate::collect::Received;
use crate::collect::output::write_elements;
use crate::element::{ElementId, Value};

/// How large a file gets. Its rows are in memory until their row group is written, and what its footer says of
/// each row group until the end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Rows of a row group.
    pub(super) rows: usize,
    /// Octets of text of a row group: what `other` may take, mostly.
    pub(super) text: usize,
    /// Row groups of a file.
    pub(super) groups: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { rows: 64 << 10, text: 16 << 20, groups: 256 }
    }
}

/// flowEndSysUpTime and flowStartSysUpTime: the same times, in another form.
const UPTIMES: [ElementId; 2] = [ElementId::iana(21), ElementId::iana(22)];

/// Values of a column, those that are there, and for each row whether it is.
enum Cells {
    Int32(Vec<i32>),
    Int64(Vec<i64>),
    /// Text after text, and where each ends.
    Text(Vec<u8>, Vec<usize>),
}

struct ColumnCells {
    cells: Cells,
    /// Parquet's definition level: 1 where there is a value.
    levels: Vec<i16>,
}

/// What goes into a cell.
#[derive(Clone, Copy)]
enum Cell<'a> {
    Number(i64),
    Value(&'a Value),
    Text(&'a [u8]),
}

/// See the module.
pub(super) struct ParquetFile {
    part: PartFile,
    writer: SerializedFileWriter<File>,
    columns: Vec<ColumnCells>,
    limits: Limits,
    rows: usize,
    text: usize,
    groups: usize,
    records: u64,
}

impl ParquetFile {
    pub(super) fn new(mut part: PartFile, limits: Limits) -> Result<Self> {
        let schema = Arc::new(parse_message_type(&columns::schema())?);
        let properties = WriterProperties::builder()
            .set_compression(Compression::SNAPPY)
            .set_created_by(concat!("flowprobe version ", env!("CARGO_PKG_VERSION")).into())
            .build();
        let file = part.file().try_clone()?;
        let writer = SerializedFileWriter::new(file, schema, Arc::new(properties))?;
        let columns = COLUMNS.iter().map(ColumnCells::new).collect();
        Ok(Self { part, writer, columns, limits, rows: 0, text: 0, groups: 0, records: 0 })
    }

    /// Rows so far: what is lost if the file cannot be finished.
    pub(super) fn records(&self) -> u64 {
        self.records
    }

    /// Whether it has to be finished, and another one begun.
    pub(super) fn is_full(&self) -> bool {
        self.groups >= self.limits.groups
    }

    /// Adds a row. After an error the file is of no use.
    pub(super) fn append(&mut self, record: &Received) -> Result<()> {
        let mut cells: [Option<Cell<'_>>; COLUMNS.len()] = [None; COLUMNS.len()];
        let mut others: Vec<(ElementId, Value)> = Vec::new();
        for (id, value) in &record.elements {
            if !take(&mut cells, *id, value) {
                others.push((*id, value.clone()));
            }
        }
        if cells[START].is_some() && cells[END].is_some() {
            others.retain(|(id, _)| !UPTIMES.contains(id));
        }
        let exporter = record.exporter.map(|exporter| (exporter, exporter.ip().to_string()));
        if let Some((exporter, text)) = &exporter {
            let place = if exporter.is_ipv4() { EXPORTER_IPV4 } else { EXPORTER_IPV6 };
            cells[place] = Some(Cell::Text(text.as_bytes()));
            cells[EXPORTER_PORT] = Some(Cell::Number(exporter.port().into()));
        }
        cells[DOMAIN] = Some(Cell::Number(record.domain.into()));
        cells[PROTOCOL_VERSION] = Some(Cell::Number(record.version.into()));
        let mut other = Vec::new();
        if !others.is_empty() {
            // A vector takes everything.
            write_elements(&mut other, &others).ok();
            cells[OTHER] = Some(Cell::Text(&other));
        }
        for (column, cell) in self.columns.iter_mut().zip(cells) {
            self.text += column.push(cell);
        }
        self.rows += 1;
        self.records += 1;
        if self.rows >= self.limits.rows || self.text >= self.limits.text {
            self.write_group()
        } else {
            Ok(())
        }
    }

    fn write_group(&mut self) -> Result<()> {
        let mut group = self.writer.next_row_group()?;
        for column in &mut self.columns {
            let writer = group.next_column()?;
            column.write(
                writer.ok_or_else(|| ParquetError::General("the schema has too few columns".into()))?,
            )?;
        }
        group.close()?;
        (self.rows, self.text) = (0, 0);
        self.groups += 1;
        Ok(())
    }

    /// Writes the rows that are left and the footer.
    pub(super) fn finish(mut self) -> Result<(PartFile, u64)> {
        if self.rows > 0 {
            self.write_group()?;
        }
        self.writer.finish()?;
        Ok((self.part, self.records))
    }
}

/// Puts an element into its column's cell; false if it must be kept elsewhere.
fn take<'a>(cells: &mut [Option<Cell<'a>>], id: ElementId, value: &'a Value) -> bool {
    let Some(place) = columns::place(id) else { return false };
    let kind = COLUMNS[place].kind;
    let cell = match kind.number(value) {
        Some(number) => Cell::Number(number),
        None if kind.is_text(value) => Cell::Value(value),
        None => return false,
    };
    match (&cells[place], cell) {
        (None, _) => cells[place] = Some(cell),
        // Said twice, the same.
        (Some(Cell::Number(first)), Cell::Number(second)) => return *first == second,
        (Some(Cell::Value(first)), Cell::Value(second)) => return *first == second,
        _ => return false,
    }
    true
}

impl ColumnCells {
    fn new(column: &Column) -> Self {
        let cells = if column.kind.is_stored_as_text() {
            Cells::Text(Vec::new(), Vec::new())
        } else if column.kind.is_int32() {
            Cells::Int32(Vec::new())
        } else {
            Cells::Int64(Vec::new())
        };
        Self { cells, levels: Vec::new() }
    }

    /// Adds a row; returns the octets of text that it takes.
    fn push(&mut self, cell: Option<Cell<'_>>) -> usize {
        self.levels.push(i16::from(cell.is_some()));
        let Some(cell) = cell else { return 0 };
        match (&mut self.cells, cell) {
            // Parquet stores an unsigned number of 32 bits in the same bits.
            (Cells::Int32(values), Cell::Number(number)) => {
                values.push(u32::try_from(number).unwrap_or(u32::MAX).cast_signed());
                0
            }
            (Cells::Int64(values), Cell::Number(number)) => {
                values.push(number);
                0
            }
            (Cells::Text(octets, ends), cell) => {
                let before = octets.len();
                write_text(cell, octets);
                ends.push(octets.len());
                octets.len() - before
            }
            // `take` gives a column only what it stores.
            (Cells::Int32(_) | Cells::Int64(_), Cell::Value(_) | Cell::Text(_)) => {
                *self.levels.last_mut().unwrap_or(&mut 0) = 0;
                0
            }
        }
    }

    fn write(&mut self, mut writer: SerializedColumnWriter<'_>) -> Result<()> {
        let levels = Some(&self.levels[..]);
        match &mut self.cells {
            Cells::Int32(values) => {
                writer.typed::<Int32Type>().write_batch(values, levels, None)?;
                values.clear();
            }
            Cells::Int64(values) => {
                writer.typed::<Int64Type>().write_batch(values, levels, None)?;
                values.clear();
            }
            Cells::Text(octets, ends) => {
                let capacity = octets.capacity();
                let all = ByteArray::from(std::mem::replace(octets, Vec::with_capacity(capacity)));
                let starts = std::iter::once(0).chain(ends.iter().copied());
                let values: Vec<ByteArray> =
                    starts.zip(ends.iter()).map(|(start, end)| all.slice(start, end - start)).collect();
                writer.typed::<ByteArrayType>().write_batch(&values, levels, None)?;
                ends.clear();
            }
        }
        self.levels.clear();
        writer.close()
    }
}

/// A vector takes everything, so nothing fails here.
fn write_text(cell: Cell<'_>, out: &mut Vec<u8>) {
    match cell {
        Cell::Text(text) => out.extend(text),
        Cell::Number(number) => drop(write!(out, "{number}")),
        Cell::Value(Value::Ipv4(address)) => drop(write!(out, "{address}")),
        Cell::Value(Value::Ipv6(address)) => drop(write!(out, "{address}")),
        Cell::Value(Value::Mac([a, b, c, d, e, f])) => {
            drop(write!(out, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}"));
        }
        Cell::Value(Value::Octets(octets)) => {
            octets.iter().for_each(|octet| drop(write!(out, "{octet:02x}")));
        }
        Cell::Value(_) => {}
    }
}
