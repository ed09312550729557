// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Any octets as a NetFlow v5 datagram: no panic, and as many records as the header says.
#![no_main]

use libfuzzer_sys::fuzz_target;
use probe_user::collect::decode::netflow_v5::decode;

fuzz_target!(|octets: &[u8]| {
    if let Ok((_, records)) = decode(octets) {
        let announced = records.len();
        assert_eq!(records.count(), announced);
    }
});
