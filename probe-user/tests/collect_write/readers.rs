// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What is in the files, by readers of Rust.

use std::{
    fs::{self, File},
    io::BufReader,
    path::{Path, PathBuf},
};

use netflow_parser::{
    NetflowPacket, NetflowParser,
    variable_versions::{
        field_value::{DataNumber, FieldValue},
        ipfix::FlowSetBody,
    },
};
use parquet::{
    file::reader::{FileReader, SerializedFileReader},
    record::{Field, Row},
};
use probe_user::collect::IpfixFileReader;
use serde_json::Value as Json;

use crate::flow::{Sums, add};

/// All files below a directory, sorted, as paths relative to it.
pub(crate) fn files(directory: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut directories = vec![directory.to_owned()];
    while let Some(next) = directories.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
            } else {
                found.push(path.strip_prefix(directory).unwrap().to_str().unwrap().to_owned());
            }
        }
    }
    found.sort();
    found
}

pub(crate) fn with_extension(directory: &Path, extension: &str) -> Vec<PathBuf> {
    let suffix = format!(".{extension}");
    files(directory).iter().filter(|name| name.ends_with(&suffix)).map(|name| directory.join(name)).collect()
}

pub(crate) fn json_sums(path: &Path) -> Sums {
    let mut sums = Sums::default();
    for line in fs::read_to_string(path).unwrap().lines() {
        let flow: Json = serde_json::from_str(line).unwrap();
        let number = |name: &str| flow[name].as_u64().unwrap();
        add(&mut sums, (1, number("packetDeltaCount"), number("octetDeltaCount")));
    }
    sums
}

pub(crate) fn parquet_rows(path: &Path) -> Vec<Row> {
    let reader = SerializedFileReader::new(File::open(path).unwrap()).unwrap();
    reader.get_row_iter(None).unwrap().map(Result::unwrap).collect()
}

pub(crate) fn field<'a>(row: &'a Row, name: &str) -> &'a Field {
    row.get_column_iter().find(|(column, _)| *column == name).unwrap().1
}

pub(crate) fn parquet_sums(path: &Path) -> Sums {
    let mut sums = Sums::default();
    for row in parquet_rows(path) {
        let number = |name| match field(&row, name) {
            Field::Long(number) => u64::try_from(*number).unwrap(),
            other => panic!("{name}: {other:?}"),
        };
        add(&mut sums, (1, number("packetDeltaCount"), number("octetDeltaCount")));
    }
    sums
}

/// Messages of a file.
pub(crate) fn read_messages(path: &Path) -> Vec<Vec<u8>> {
    let mut reader = IpfixFileReader::new(BufReader::new(File::open(path).unwrap()));
    let mut messages = Vec::new();
    while let Some(message) = reader.next_message() {
        messages.push(message.unwrap().to_vec());
    }
    messages
}

/// By `netflow_parser`, which knows nothing before.
pub(crate) fn ipfix_sums(path: &Path) -> Sums {
    let mut sums = Sums::default();
    let mut parser = NetflowParser::default();
    for message in read_messages(path) {
        for packet in parser.parse_bytes(&message).packets {
            let NetflowPacket::IPFix(packet) = packet else { panic!("{packet:?}") };
            for set in packet.flowsets {
                match set.body {
                    FlowSetBody::Data(data) => data.fields.iter().for_each(|record| {
                        let number = |name: &str| {
                            let found = record.iter().find(|(field, _)| format!("{field:?}").contains(name));
                            match found.unwrap().1 {
                                FieldValue::DataNumber(DataNumber::U64(number)) => number,
                                ref other => panic!("{name}: {other:?}"),
                            }
                        };
                        add(&mut sums, (1, number("PacketDeltaCount"), number("OctetDeltaCount")));
                    }),
                    FlowSetBody::NoTemplate(info) => panic!("{}: {info:?}", path.display()),
                    _ => {}
                }
            }
        }
    }
    sums
}

pub(crate) fn total(paths: &[PathBuf], read: impl Fn(&Path) -> Sums) -> Sums {
    let mut sums = Sums::default();
    for path in paths {
        add(&mut sums, read(path));
    }
    sums
}
