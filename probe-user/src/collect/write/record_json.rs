// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Elements as JSON.

use std::fmt::Write;

use serde_json::{Map, Number, Value as Json};

use crate::collect::Received;
use crate::element::{DataType, ElementId, Value, lookup, name};

const EXPORTER_PORT: &str = "exporterTransportPort";

/// Appends a record as an object and a line feed.
pub(super) fn write_line(record: &Received, out: &mut Vec<u8>) {
    let mut object = object(record.elements.iter().map(|(id, value)| (*id, value)));
    if let Some(exporter) = record.exporter {
        let name = if exporter.is_ipv4() { "exporterIPv4Address" } else { "exporterIPv6Address" };
        object.entry(name).or_insert_with(|| exporter.ip().to_string().into());
        object.entry(EXPORTER_PORT).or_insert_with(|| exporter.port().into());
    }
    object.entry("observationDomainId").or_insert_with(|| record.domain.into());
    // Only writing to a vector, and keys are strings: nothing to fail.
    serde_json::to_writer(&mut *out, &object).ok();
    out.push(b'\n');
}

/// An object of elements; an array where an element comes more than once.
pub(super) fn object<'a>(elements: impl Iterator<Item = (ElementId, &'a Value)>) -> Map<String, Json> {
    let mut object = Map::new();
    for (id, value) in elements {
        let name = name(id);
        let value = json(id, value);
        match object.get_mut(&*name) {
            None => drop(object.insert(name.into_owned(), value)),
            Some(Json::Array(values)) => values.push(value),
            Some(first) => *first = Json::Array(vec![first.take(), value]),
        }
    }
    object
}

fn json(id: ElementId, value: &Value) -> Json {
    match value {
        Value::Unsigned(number) => (*number).into(),
        Value::Signed(number) => (*number).into(),
        Value::Float(number) => Number::from_f64(*number).map_or(Json::Null, Json::Number),
        Value::Boolean(value) => (*value).into(),
        Value::Mac(octets) => mac(octets).into(),
        Value::Ipv4(address) => address.to_string().into(),
        Value::Ipv6(address) => address.to_string().into(),
        Value::Time(ns) => time(id, *ns).into(),
        Value::String(text) => text.as_str().into(),
        Value::Octets(octets) => hex(octets).into(),
        Value::List(entries) => entries
            .iter()
            .map(|entry| Json::Object(object(entry.iter().map(|(id, value)| (*id, value)))))
            .collect(),
    }
}

/// In the unit of its type.
fn time(id: ElementId, ns: u64) -> u64 {
    match lookup(id).map(|element| element.data_type) {
        Some(DataType::DateTimeNanoseconds) => ns,
        Some(DataType::DateTimeMicroseconds) => ns / 1_000,
        Some(DataType::DateTimeSeconds) => ns / 1_000_000_000,
        _ => ns / 1_000_000,
    }
}

pub(super) fn mac(octets: &[u8; 6]) -> String {
    let octets: Vec<String> = octets.iter().map(|octet| format!("{octet:02x}")).collect();
    octets.join(":")
}

pub(super) fn hex(octets: &[u8]) -> String {
    octets.iter().fold(String::with_capacity(octets.len() * 2), |mut text, octet| {
        // A string takes everything.
        write!(text, "{octet:02x}").ok();
        text
    })
}
