// SPDX-License-Identifier: Apache-2.0 OR MIT
//! One record: the values of a template's fields, and the lists of RFC 6313 within them.

use super::octets::Octets;
use super::session::Templates;
use super::template::{FIRST_ID, Field};
use crate::element::{DataType, ElementId, Value, decode};

/// Lists within lists are read this deep; RFC 6313 sets no bound.
const MAX_DEPTH: u8 = 4;
/// paddingOctets: fills up a record and says nothing.
const PADDING: ElementId = ElementId::iana(210);

type Elements = Vec<(ElementId, Value)>;

/// Reads records of one session.
pub(super) struct Reader<'a> {
    pub(super) templates: &'a mut Templates,
    /// Lists that could not be read.
    pub(super) bad_lists: u64,
}

impl Reader<'_> {
    /// Reads a record; `None` when the octets end within it.
    pub(super) fn record(
        &mut self,
        fields: &[Field],
        octets: &mut Octets<'_>,
        out: &mut Elements,
    ) -> Option<()> {
        self.fields(fields, octets, out, 0)
    }

    fn fields(
        &mut self,
        fields: &[Field],
        octets: &mut Octets<'_>,
        out: &mut Elements,
        depth: u8,
    ) -> Option<()> {
        for field in fields {
            let value = take(field, octets)?;
            if field.element != PADDING {
                out.push((field.element, self.value(field.data_type, value, depth)));
            }
        }
        Some(())
    }

    fn value(&mut self, data_type: DataType, octets: &[u8], depth: u8) -> Value {
        if !data_type.is_list() {
            return decode(data_type, octets);
        }
        let list = if depth == MAX_DEPTH { None } else { self.list(data_type, octets, depth + 1) };
        list.map_or_else(
            || {
                self.bad_lists += 1;
                Value::Octets(octets.to_vec())
            },
            Value::List,
        )
    }

    fn list(&mut self, data_type: DataType, octets: &[u8], depth: u8) -> Option<Vec<Elements>> {
        let mut octets = Octets(octets);
        let mut entries = Vec::new();
        // The semantic of the list (RFC 6313 section 4.4) is not kept.
        octets.u8()?;
        match data_type {
            // RFC 6313 section 4.5.1: one field, any number of values.
            DataType::BasicList => {
                let field = Field::read(&mut octets)?;
                while octets.len() > 0 {
                    // A field without octets would be read without end.
                    field.length.is_none_or(|length| length > 0).then_some(())?;
                    let value = take(&field, &mut octets)?;
                    entries.push(vec![(field.element, self.value(field.data_type, value, depth))]);
                }
            }
            // Section 4.5.2: records of one template.
            DataType::SubTemplateList => {
                let template = octets.u16()?;
                self.records(template, octets, &mut entries, depth)?;
            }
            // Section 4.5.3: records of several templates, each with the length of its part.
            _ => {
                while octets.len() > 0 {
                    let template = octets.u16()?;
                    let length = usize::from(octets.u16()?).checked_sub(4)?;
                    self.records(template, Octets(octets.take(length)?), &mut entries, depth)?;
                }
            }
        }
        Some(entries)
    }

    fn records(
        &mut self,
        id: u16,
        mut octets: Octets<'_>,
        entries: &mut Vec<Elements>,
        depth: u8,
    ) -> Option<()> {
        if octets.len() == 0 {
            return Some(());
        }
        let template = self.templates.get(id).filter(|template| id >= FIRST_ID && template.shortest > 0)?;
        while octets.len() > 0 {
            let mut entry = Vec::with_capacity(template.fields.len());
            self.fields(&template.fields, &mut octets, &mut entry, depth)?;
            entries.push(entry);
        }
        Some(())
    }
}

fn take<'a>(field: &Field, octets: &mut Octets<'a>) -> Option<&'a [u8]> {
    match field.length {
        Some(length) => octets.take(length.into()),
        None => octets.variable(),
    }
}
