// SPDX-License-Identifier: Apache-2.0 OR MIT
//! ipfixDump of libfixbuf reads IPFIX messages from a file (RFC 5655).

use std::{fs, process::Command};

use probe_lab::Datagram;

use super::{
    elements::{Decoded, Element, Fields, unix_ms_of},
    tool::{folder, require},
};

/// Lets ipfixDump print the messages. It may have nothing to complain about.
pub(crate) fn dump(datagrams: &[Datagram]) -> Decoded {
    require("ipfixDump", "libfixbuf-tools");
    let folder = folder("ipfixdump");
    let path = folder.path().join("export.ipfix");
    let octets: Vec<u8> = datagrams.iter().flat_map(|datagram| datagram.octets.clone()).collect();
    fs::write(&path, octets).unwrap();
    let output = Command::new("ipfixDump").arg("-i").arg(&path).output().unwrap();
    let (text, complaints) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && complaints.is_empty(), "ipfixDump: {complaints}{text}");
    assert_eq!(text.matches("--- Message Header ---").count(), datagrams.len(), "messages of ipfixDump");
    let mut decoded = Decoded::default();
    for record in text.split("--- data record ").skip(1) {
        let fields = fields(record.split("\n---").next().unwrap());
        if fields.0.contains_key(&4) {
            decoded.flows.push(fields.seen(None));
        } else {
            decoded.options.push(fields);
        }
    }
    decoded
}

/// Lines such as `(152)              flowStartMilliseconds : 2026-11-21 03:05:17.001`.
fn fields(record: &str) -> Fields {
    let mut fields = Fields::default();
    for line in record.lines() {
        let Some((id, rest)) = line.trim_start().strip_prefix('(').and_then(|line| line.split_once(')'))
        else {
            continue;
        };
        // Elements of other organisations have two numbers.
        let (Ok(id), Some((_, value))) = (id.parse(), rest.split_once(" : ")) else { continue };
        let element = match id {
            152 | 153 => Element::Number(unix_ms_of(value)),
            _ => match value.strip_prefix("(len: ").and_then(|value| value.split_once(") ")) {
                Some((_, text)) => Element::Text(text.to_owned()),
                None => Element::of_text(value.trim()),
            },
        };
        fields.0.insert(id, element);
    }
    fields
}
