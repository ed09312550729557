// SPDX-License-Identifier: Apache-2.0 OR MIT
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use proptest::{collection::vec, prelude::*};

use super::*;

/// Offsets as written in if_packet.h, not as computed above.
const FRAME_STATUS: usize = 20;
const MAC: usize = 24;

/// A block with these frames, as `tpacket_rcv` lays it out.
fn block(frames: &[&[u8]]) -> Vec<u8> {
    let mut block = vec![0; 48];
    block[8..12].copy_from_slice(&1u32.to_ne_bytes());
    block[12..16].copy_from_slice(&u32::try_from(frames.len()).unwrap().to_ne_bytes());
    block[16..20].copy_from_slice(&48u32.to_ne_bytes());
    for (index, octets) in frames.iter().enumerate() {
        let length = u32::try_from(octets.len()).unwrap();
        // Network header at 96 + 10, Ethernet header 14 before.
        let next = (92 + octets.len()).next_multiple_of(8);
        let last = index + 1 == frames.len();
        let words =
            [if last { 0 } else { u32::try_from(next).unwrap() }, 1_700_000_000, 5, length, length + 9, 1];
        let mut place: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        place.extend([92u16, 106].iter().flat_map(|offset| offset.to_ne_bytes()));
        place.resize(92, 0);
        place.extend(*octets);
        place.resize(next, 0);
        block.extend(place);
    }
    block
}

/// Reads a block to its end; panics if that does not come.
fn read(octets: &[u8]) -> Result<Vec<Option<BlockFrame<'_>>>, Outside> {
    let block = Block::new(octets);
    let mut frames = Vec::new();
    let mut place = block.first()?;
    while let Some(here) = place {
        let entry = block.at(here)?;
        frames.push(entry.frame);
        place = entry.next;
        block.prefetch(here);
        assert!(frames.len() <= octets.len(), "reading does not end");
    }
    Ok(frames)
}

#[test]
fn what_the_kernel_wrote_is_read() {
    let mut octets = block(&[b"first frame", b"second"]);
    let second = 48 + (92usize + 11).next_multiple_of(8);
    // The second one: a tag, time of the NIC, segments of 1448 octets, on its way out.
    let status = 1 | 1 << 4 | 1 << 6 | 1 << 31;
    octets[second + FRAME_STATUS..][..4].copy_from_slice(&u32::to_ne_bytes(status));
    octets[second + 32..][..4].copy_from_slice(&0x2007u32.to_ne_bytes());
    octets[second + 48 + 10] = 4;
    octets[second + 82 + 4..][..2].copy_from_slice(&1448u16.to_ne_bytes());
    let plain = BlockFrame {
        octets: b"first frame",
        length: 20,
        stripped_tag: None,
        segment_octets: 0,
        outgoing: false,
        unix_ns: 1_700_000_000_000_000_005,
        hardware_time: false,
    };
    let other = BlockFrame {
        octets: b"second",
        length: 15,
        stripped_tag: Some(0x2007),
        segment_octets: 1448,
        outgoing: true,
        hardware_time: true,
        ..plain
    };
    assert_eq!(read(&octets), Ok(vec![Some(plain), Some(other)]));
    assert_eq!(read(&block(&[])), Ok(Vec::new()));
}

#[test]
fn a_place_that_the_kernel_could_not_fill_is_passed_over() {
    let mut octets = block(&[b"a", b"b", b"c"]);
    let second = 48 + 96;
    octets[second + FRAME_STATUS] = 0;
    // What else stands there is of an earlier frame.
    octets[second + MAC..][..2].copy_from_slice(&u16::MAX.to_ne_bytes());
    let frames = read(&octets).unwrap();
    let seen: Vec<_> = frames.iter().map(|frame| frame.map(|frame| frame.octets)).collect();
    assert_eq!(seen, [Some(b"a".as_slice()), None, Some(b"c")]);
}

#[test]
fn offsets_outside_the_block_are_refused() {
    let whole = block(&[b"first frame", b"second"]);
    assert!(read(&whole).is_ok());
    for length in 0..whole.len() - 8 {
        assert_eq!(read(&whole[..length]), Err(Outside), "cut to {length}");
    }
    let spoilt = |at: usize, value: &[u8]| {
        let mut octets = whole.clone();
        octets[at..at + value.len()].copy_from_slice(value);
        read(&octets).err()
    };
    for large in [whole.len(), usize::try_from(u32::MAX).unwrap()] {
        let large = u32::try_from(large).unwrap().to_ne_bytes();
        // Where the first frame is, where the next one is, how much of it was copied.
        for at in [16, 48, 48 + 12] {
            assert_eq!(spoilt(at, &large), Some(Outside), "octet {at}");
        }
    }
    assert_eq!(spoilt(48, &0u32.to_ne_bytes()), Some(Outside), "a frame that is its own next one");
    for mac in [0u16, 67, 77, u16::MAX] {
        assert_eq!(spoilt(48 + MAC, &mac.to_ne_bytes()), Some(Outside), "octets at {mac}");
    }
}

proptest! {
    #[test]
    fn any_octets_are_read_to_an_end(octets in vec(any::<u8>(), 0..2000)) {
        read(&octets).ok();
    }

    #[test]
    fn a_block_with_octets_changed_is_read_to_an_end(
        frames in vec(vec(any::<u8>(), 0..100), 0..8),
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
    ) {
        let frames: Vec<_> = frames.iter().map(Vec::as_slice).collect();
        let mut octets = block(&frames);
        let read_back: Vec<_> = read(&octets).unwrap().iter().map(|frame| frame.unwrap().octets.to_vec()).collect();
        prop_assert_eq!(read_back, frames);
        for (index, value) in changes {
            let at = index.index(octets.len());
            octets[at] = value;
        }
        read(&octets).ok();
    }
}
