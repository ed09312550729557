// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Any octets as messages of an exporter, each after two octets of its length: no panic, bounded memory, and
//! no more records and values than octets. The version is what the octets say.
#![no_main]

use libfuzzer_sys::fuzz_target;
use probe_user::collect::decode::{Decoder, Limits, Source};
use probe_user::collect::write_json;

fuzz_target!(|octets: &[u8]| {
    // Small, so that forgetting is part of what is tried.
    let limits = Limits { sessions: 4, templates: 4, fields: 16, octets: 8192 };
    let mut decoder = Decoder::new(limits);
    let mut rest = octets;
    let mut text = Vec::new();
    while let Some((length, behind)) = rest.split_first_chunk() {
        let length = usize::from(u16::from_be_bytes(*length)).min(behind.len());
        let (message, behind) = behind.split_at(length);
        rest = behind;
        // Every other message comes over a stream, where templates can be withdrawn.
        let source = Source { exporter: None, stream: (behind.len() % 2) as u64 };
        let mut values = 0;
        let read = decoder.decode(source, message, |record| {
            values += record.elements.len();
            text.clear();
            write_json(&mut text, record).expect("a vector takes everything");
        });
        // A value takes an octet at least, but for the two times that are added to a record. Old versions
        // have fewer octets than elements in none of their fields.
        assert!(values <= 3 * message.len());
        if let Ok(read) = read {
            assert!(read.records as usize <= message.len());
        }
        assert!(decoder.octets() <= limits.octets);
    }
});
