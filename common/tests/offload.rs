// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the way to user space changes in a packet: a VLAN tag beside the frame, several packets in one buffer, and more
//! headers than the kernel program follows.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use probe_common::parse::{DeepBytes, ParsedPacket, SliceBytes, parse, parse_untagged};
use probe_common::{Note, Outcome};
use probe_lab::vectors;
use proptest::collection::vec;
use proptest::prelude::*;

fn frame(name: &str) -> Vec<u8> {
    vectors::all().unwrap().into_iter().find(|vector| vector.name == name).unwrap().frame
}

/// A frame with a tag taken out from behind the addresses, and its tag control word.
fn without_tag(frame: &[u8]) -> (Vec<u8>, u16) {
    let tag = u16::from_be_bytes([frame[14], frame[15]]);
    ([&frame[..12], &frame[16..]].concat(), tag)
}

#[test]
fn a_tag_beside_the_frame_is_the_outermost() {
    let mut tagged = 0;
    for vector in vectors::all().unwrap() {
        let frame = &vector.frame;
        assert_eq!(parse_untagged(&SliceBytes::new(frame), None), parse(&SliceBytes::new(frame)));
        if frame.len() < 18 || !matches!(frame[12..14], [0x81 | 0x91, 0] | [0x88, 0xa8]) {
            continue;
        }
        let (stripped, tag) = without_tag(frame);
        let found = parse_untagged(&SliceBytes::new(&stripped), Some(tag));
        match vector.expected {
            // One tag fewer in the frame, so these are not too many.
            Err(Outcome::TooDeep) => {
                let found = found.unwrap().key;
                assert_eq!((found.vlan(), found.customer_vlan()), (1, 2), "{}", vector.name);
            }
            // A packet of two tags loses the customer's to the tag beside it, as with both in the frame.
            expected => assert_eq!(found, expected, "{}", vector.name),
        }
        tagged += 1;
    }
    assert!(tagged >= 7, "only {tagged} vectors have a tag");
}

#[test]
fn only_the_low_twelve_bits_of_a_tag_are_its_vlan() {
    let packet = parse_untagged(&SliceBytes::new(&frame("ipv4_udp")), Some(0xf064)).unwrap();
    assert_eq!((packet.key.vlan(), packet.key.customer_vlan()), (0x64, 0));
    let packet = parse_untagged(&SliceBytes::new(&frame("vlan_one_tag")), Some(0xe000)).unwrap();
    assert_eq!((packet.key.vlan(), packet.key.customer_vlan()), (0, 100), "a priority tag names no VLAN");
}

/// `tags` VLAN tags before the IPv4 packet of a vector.
fn tagged(tags: u8) -> Vec<u8> {
    let plain = frame("ipv4_udp");
    let mut frame = plain[..12].to_vec();
    for tag in 1..=tags {
        frame.extend([0x81, 0, 0, tag]);
    }
    frame.extend(&plain[12..]);
    frame
}

#[test]
fn user_space_follows_eight_tags() {
    for tags in 0..=10 {
        let frame = tagged(tags);
        let (shallow, deep) = (parse(&SliceBytes::new(&frame)), parse(&DeepBytes(SliceBytes::new(&frame))));
        assert_eq!(shallow.is_ok(), tags <= 2, "{tags} tags");
        if tags > 8 {
            assert_eq!(deep, Err(Outcome::TooDeep), "{tags} tags");
            continue;
        }
        let key = deep.unwrap().key;
        assert_eq!((key.vlan(), key.customer_vlan()), (tags.min(1).into(), if tags > 1 { 2 } else { 0 }));
        assert_eq!((key.source_port(), key.destination_port()), (5353, 53), "{tags} tags");
    }
}

/// `extensions` destination options before a UDP header.
fn extended(extensions: usize) -> Vec<u8> {
    let mut frame = frame("ipv6_udp");
    let length = u16::try_from(16 + extensions * 8).unwrap();
    frame[18..20].copy_from_slice(&length.to_be_bytes());
    if extensions > 0 {
        frame[20] = 60;
    }
    let mut chain = [60, 0, 1, 4, 0, 0, 0, 0].repeat(extensions);
    if let Some(last) = extensions.checked_sub(1) {
        chain[last * 8] = 17;
    }
    frame.splice(54..54, chain);
    frame
}

#[test]
fn user_space_follows_64_extension_headers() {
    for extensions in 0..=66 {
        let frame = extended(extensions);
        let packet = parse(&DeepBytes(SliceBytes::new(&frame))).unwrap();
        let read = u32::try_from(extensions.min(64)).unwrap();
        if extensions > 64 {
            assert_eq!((packet.note, packet.header_octets), (Some(Note::DeepHeaders), 40 + 8 * read));
            continue;
        }
        assert_eq!(
            (packet.note, packet.header_octets),
            (None, 48 + 8 * read),
            "{extensions} extension headers"
        );
        assert_eq!((packet.key.source_port(), packet.key.protocol()), (546, 17));
        let shallow = parse(&SliceBytes::new(&frame)).unwrap();
        assert_eq!(shallow == packet, extensions <= 8, "{extensions} extension headers");
        assert_eq!(shallow.note.is_none(), extensions <= 8);
    }
}

#[test]
fn a_buffer_counts_for_its_segments() {
    // (vector, octets of headers): the buffer of a vector, made longer. 10 full segments and one of 7 octets.
    for (name, headers) in
        [("ipv4_tcp", 40), ("ipv4_tcp_options", 52), ("ipv4_udp", 28), ("ipv6_tcp", 60), ("ipv6_udp", 48)]
    {
        let mut packet = parse(&SliceBytes::new(&frame(name))).unwrap();
        assert_eq!(packet.header_octets, headers, "{name}");
        packet.octets = headers + 10 * 1400 + 7;
        let all = 11 * headers + 10 * 1400 + 7;
        assert_eq!(packet.segments(1400, 11), (11, all), "{name}: the number is known");
        assert_eq!(packet.segments(1400, 0), (11, all), "{name}: the number follows from the lengths");
        assert_eq!(packet.segments(0, 0), (1, packet.octets), "{name}: no offload");
        assert_eq!(packet.segments(0, 1), (1, packet.octets), "{name}: no offload");
        packet.octets = headers + 10 * 1400;
        assert_eq!(packet.segments(1400, 0), (10, 10 * (headers + 1400)), "{name}: nothing is left over");
        packet.octets = headers;
        assert_eq!(packet.segments(1400, 0), (1, headers), "{name}: no payload is one packet");
    }
}

proptest! {
    /// Whatever is claimed, nothing overflows, and a buffer stands for at least one packet with its octets.
    #[test]
    fn any_claim_of_segments_is_survived(octets in 0..1u32 << 20, header_octets in 0..1u32 << 18, size: u16, known: u16) {
        let mut packet: ParsedPacket = parse(&SliceBytes::new(&frame("ipv4_tcp"))).unwrap();
        (packet.octets, packet.header_octets) = (octets, header_octets);
        let (packets, all) = packet.segments(size.into(), known.into());
        prop_assert!(packets >= 1 && all >= octets);
    }

    #[test]
    fn deeper_reading_changes_nothing_that_was_read(octets in vec(any::<u8>(), 0..200), tag: Option<u16>, kind in 0..4u8) {
        let mut octets = octets;
        if octets.len() > 14 {
            match kind {
                0 => octets[12..15].copy_from_slice(&[0x08, 0x00, 0x45]),
                1 => octets[12..15].copy_from_slice(&[0x86, 0xdd, 0x60]),
                2 => octets[12..14].copy_from_slice(&[0x81, 0x00]),
                _ => {}
            }
        }
        let bytes = SliceBytes::new(&octets);
        let (shallow, deep) = (parse_untagged(&bytes, tag), parse_untagged(&DeepBytes(bytes), tag));
        match shallow {
            Err(Outcome::TooDeep) | Ok(ParsedPacket { note: Some(Note::DeepHeaders), .. }) => {}
            _ => prop_assert_eq!(deep, shallow),
        }
    }
}
