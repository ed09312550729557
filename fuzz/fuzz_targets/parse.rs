// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Any octets as a packet of any link type, also read deeper and with a VLAN tag beside: no panic, a cut never changes the
//! key, and what was read is not read differently by who follows more headers.
#![no_main]

use libfuzzer_sys::fuzz_target;
use probe_common::{
    Note, Outcome,
    parse::{DeepBytes, ParsedPacket, SliceBytes, parse, parse_ip, parse_untagged},
};
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
    let tag = octets.first_chunk().map(|tag| u16::from_be_bytes(*tag));
    for stripped in [None, tag] {
        let (shallow, deep) = (parse_untagged(&bytes, stripped), parse_untagged(&DeepBytes(bytes), stripped));
        match shallow {
            Err(Outcome::TooDeep) | Ok(ParsedPacket { note: Some(Note::DeepHeaders), .. }) => {}
            _ => assert_eq!(deep, shallow),
        }
        for packet in [shallow, deep].into_iter().flatten() {
            let claimed = u32::from(tag.unwrap_or_default());
            let (packets, all) = packet.segments(claimed, packet.octets & 0xffff);
            assert!(packets >= 1 && all >= packet.octets);
            assert!(packet.segments(claimed, 0).0 >= 1);
        }
    }
    // What the parser says is checked by the properties in common/tests; here it must only return.
    std::hint::black_box(parse_ip(&bytes, 0)).ok();
    for link_type in 0..300 {
        std::hint::black_box(LinkType(link_type).parse(&bytes));
    }
});
