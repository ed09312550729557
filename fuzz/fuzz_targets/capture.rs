// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Any octets as a capture file: no panic, no hang, bounded memory (run with `-rss_limit_mb=256`).
#![no_main]

use std::io::Cursor;

use libfuzzer_sys::fuzz_target;
use probe_user::capture::CaptureReader;

fuzz_target!(|octets: &[u8]| {
    let Ok(mut reader) = CaptureReader::new("fuzz", Box::new(Cursor::new(octets.to_vec()))) else { return };
    let mut offset = reader.offset();
    while let Ok(Some(packet)) = reader.next_packet() {
        std::hint::black_box(packet);
        assert!(reader.offset() > offset, "a packet that takes no octets would never end");
        offset = reader.offset();
    }
});
