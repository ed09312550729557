// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Any octets as a packet of any link type: no panic, and a cut never changes the key.
#![no_main]

use libfuzzer_sys::fuzz_target;
use probe_common::parse::{SliceBytes, parse, parse_ip};
use probe_user::capture::LinkType;

fuzz_target!(|octets: &[u8]| {
    let whole = parse(&SliceBytes::new(octets));
    for length in 0..octets.len() {
        let cut = parse(&SliceBytes::cut(&octets[..length], octets.len()));
        if let Ok(cut) = cut {
            let whole = whole.expect("what is read of a part is read of the whole");
            assert_eq!((cut.key, cut.octets), (whole.key, whole.octets));
        }
    }
    let bytes = SliceBytes::new(octets);
    // What the parser says is checked by the properties in common/tests; here it must only return.
    std::hint::black_box(parse_ip(&bytes, 0)).ok();
    for link_type in 0..300 {
        std::hint::black_box(LinkType(link_type).parse(&bytes));
    }
});
