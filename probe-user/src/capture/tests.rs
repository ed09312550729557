// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Files of every variant, whole and damaged.

use std::io::{Cursor, Write};

use flate2::Compression;
use flate2::write::GzEncoder;
use probe_common::parse::SliceBytes;
use probe_common::{Detail, IpVersion, Outcome};
use probe_lab::pcap_file::{PcapFormat, PcapWriter};
use proptest::prelude::*;

use super::{CaptureError, CaptureFault, CaptureReader, LinkType, MAX_PACKET};

/// A packet as a test compares it.
type Read = (u64, Vec<u8>, u32, LinkType, u32);

/// Everything up to the end or the first fault.
fn read(octets: &[u8]) -> (Vec<Read>, Option<CaptureError>) {
    let mut packets = Vec::new();
    let mut reader = match CaptureReader::new("test.pcap", Box::new(Cursor::new(octets.to_vec()))) {
        Ok(reader) => reader,
        Err(error) => return (packets, Some(error)),
    };
    loop {
        match reader.next_packet() {
            Ok(Some(packet)) => packets.push((
                packet.timestamp_ns,
                packet.data.to_vec(),
                packet.wire_length,
                packet.link_type,
                packet.interface,
            )),
            Ok(None) => return (packets, None),
            Err(error) => {
                assert!(reader.next_packet().unwrap().is_none(), "nothing comes after a fault");
                return (packets, Some(error));
            }
        }
    }
}

fn pcap(format: PcapFormat, packets: &[(u64, &[u8])]) -> Vec<u8> {
    let mut writer = PcapWriter::new(Vec::new(), format).unwrap();
    for (time, packet) in packets {
        writer.write(*time, packet).unwrap();
    }
    writer.finish().unwrap()
}

const TIME: u64 = 1_700_000_000_123_456_789;

#[test]
fn pcap_of_both_byte_orders_and_resolutions() {
    for (big_endian, nanoseconds) in [(false, false), (false, true), (true, false), (true, true)] {
        let format = PcapFormat { big_endian, nanoseconds, snap_length: 4, ..PcapFormat::default() };
        let (packets, error) = read(&pcap(format, &[(TIME, b"abc"), (TIME + 1000, b""), (TIME, b"abcdef")]));
        assert!(error.is_none(), "{error:?}");
        let time = if nanoseconds { TIME } else { TIME - 789 };
        assert_eq!(
            packets,
            [
                (time, b"abc".to_vec(), 3, LinkType::ETHERNET, 0),
                (time + 1000, b"".to_vec(), 0, LinkType::ETHERNET, 0),
                (time, b"abcd".to_vec(), 6, LinkType::ETHERNET, 0),
            ]
        );
    }
}

#[test]
fn pcap_with_the_longer_records_of_1999() {
    for big_endian in [false, true] {
        let word = |word: u32| if big_endian { word.to_be_bytes() } else { word.to_le_bytes() };
        let mut file = pcap(PcapFormat { big_endian, ..PcapFormat::default() }, &[]);
        file[..4].copy_from_slice(&word(0xa1b2_cd34));
        for value in [1_700_000_000, 5, 3, 3, 0xdead_beef, 0xdead_beef] {
            file.extend_from_slice(&word(value));
        }
        file.extend_from_slice(b"abc");
        let (packets, error) = read(&file);
        assert!(error.is_none(), "{error:?}");
        assert_eq!(packets, [(1_700_000_000_000_005_000, b"abc".to_vec(), 3, LinkType::ETHERNET, 0)]);
    }
}

/// The upper bits of the link type say how long the frame check sequence is.
#[test]
fn a_frame_check_sequence_does_not_change_the_link_type() {
    let format = PcapFormat { link_type: 0x2400_0001, ..PcapFormat::default() };
    assert_eq!(read(&pcap(format, &[(TIME, b"abc")])).0[0].3, LinkType::ETHERNET);
}

#[test]
fn gzip_in_one_member_and_in_several() {
    let file = pcap(PcapFormat::default(), &[(0, b"abc"), (1000, b"defg")]);
    let expected = read(&file).0;
    for cut in [0, 10, file.len()] {
        let mut compressed = Vec::new();
        for part in [&file[..cut], &file[cut..]] {
            let mut encoder = GzEncoder::new(&mut compressed, Compression::fast());
            encoder.write_all(part).unwrap();
            encoder.finish().unwrap();
        }
        let (packets, error) = read(&compressed);
        assert!(error.is_none(), "{error:?}");
        assert_eq!(packets, expected);
        let (_, error) = read(&compressed[..compressed.len() - 9]);
        assert!(
            matches!(error.unwrap().fault, CaptureFault::Read(_)),
            "a cut gzip file is not read in silence"
        );
    }
}

/// Writes pcapng blocks in one byte order.
struct Pcapng {
    file: Vec<u8>,
    big_endian: bool,
}

impl Pcapng {
    fn new(big_endian: bool) -> Self {
        let mut file = Self { file: Vec::new(), big_endian };
        file.section();
        file
    }

    fn word(&self, word: u32) -> [u8; 4] {
        if self.big_endian { word.to_be_bytes() } else { word.to_le_bytes() }
    }

    fn half(&self, half: u16) -> [u8; 2] {
        if self.big_endian { half.to_be_bytes() } else { half.to_le_bytes() }
    }

    fn block(&mut self, kind: u32, body: &[u8]) -> &mut Self {
        let length = u32::try_from(12 + body.len().next_multiple_of(4)).unwrap();
        let (kind, length) = (self.word(kind), self.word(length));
        self.file.extend_from_slice(&kind);
        self.file.extend_from_slice(&length);
        self.file.extend_from_slice(body);
        self.file.resize(self.file.len().next_multiple_of(4), 0);
        self.file.extend_from_slice(&length);
        self
    }

    fn section(&mut self) -> &mut Self {
        let body = [&self.word(0x1a2b_3c4d)[..], &self.half(1), &self.half(0), &[0xff; 8]].concat();
        self.block(0x0a0d_0d0a, &body)
    }

    fn interface(&mut self, link_type: u16, snap_length: u32, options: &[(u16, &[u8])]) -> &mut Self {
        let mut body = [&self.half(link_type)[..], &[0; 2], &self.word(snap_length)].concat();
        for (code, value) in options {
            body.extend_from_slice(&self.half(*code));
            body.extend_from_slice(&self.half(u16::try_from(value.len()).unwrap()));
            body.extend_from_slice(value);
            body.resize(body.len().next_multiple_of(4), 0);
        }
        self.block(1, &body)
    }

    fn enhanced(
        &mut self,
        interface: u32,
        units: u64,
        wire_length: u32,
        data: &[u8],
        more: &[u8],
    ) -> &mut Self {
        let captured = u32::try_from(data.len()).unwrap();
        let (high, low) = (u32::try_from(units >> 32).unwrap(), u32::try_from(units & 0xffff_ffff).unwrap());
        let mut body = [interface, high, low, captured, wire_length].map(|word| self.word(word)).concat();
        body.extend_from_slice(data);
        body.resize(body.len().next_multiple_of(4), 0);
        body.extend_from_slice(more);
        self.block(6, &body)
    }

    fn simple(&mut self, wire_length: u32, data: &[u8]) -> &mut Self {
        let body = [&self.word(wire_length), data].concat();
        self.block(3, &body)
    }

    fn obsolete(&mut self, interface: u16, units: u32, data: &[u8]) -> &mut Self {
        let length = u32::try_from(data.len()).unwrap();
        let mut body = [self.half(interface), self.half(0xffff)].concat();
        body.extend_from_slice(&[0, units, length, length].map(|word| self.word(word)).concat());
        body.extend_from_slice(data);
        self.block(2, &body)
    }
}

#[test]
fn pcapng_with_sections_interfaces_and_every_packet_block() {
    for big_endian in [false, true] {
        let mut file = Pcapng::new(big_endian);
        let offset = if big_endian { 100i64.to_be_bytes() } else { 100i64.to_le_bytes() };
        file.interface(1, 0, &[(2, b"eth0"), (9, &[9]), (0, &[])])
            .interface(101, 65_535, &[(14, &offset)])
            .block(5, &[0; 20])
            .enhanced(0, TIME, 60, b"abc", &[])
            .enhanced(1, 5, 2, b"de", &[0, 1, 0, 4, b'n', b'o', b't', b'e'])
            .simple(9, b"fghijklm")
            .block(0x0bad, b"any block at all")
            .obsolete(1, 7, b"nop");
        let second = Pcapng { file: Vec::new(), big_endian: !big_endian };
        let first = std::mem::replace(&mut file, second);
        file.section()
            .interface(113, 5, &[(9, &[0x80 | 10])])
            .enhanced(0, 1536, 1, b"q", &[])
            .simple(9, b"rstuv");
        let octets = [first.file, file.file].concat();
        let (packets, error) = read(&octets);
        assert!(error.is_none(), "{error:?}");
        assert_eq!(
            packets,
            [
                (TIME, b"abc".to_vec(), 60, LinkType::ETHERNET, 0),
                (100_000_005_000, b"de".to_vec(), 2, LinkType::RAW, 1),
                // No time of its own; nine octets on the wire, eight of them in the block.
                (100_000_005_000, b"fghijklm".to_vec(), 9, LinkType::ETHERNET, 0),
                (100_000_007_000, b"nop".to_vec(), 3, LinkType::RAW, 1),
                // 1536 units of 2^-10 s.
                (1_500_000_000, b"q".to_vec(), 1, LinkType::LINUX_SLL, 0),
                (1_500_000_000, b"rstuv".to_vec(), 9, LinkType::LINUX_SLL, 0),
            ]
        );
    }
}

#[test]
fn every_resolution_that_an_octet_can_say() {
    for (resolution, units, ns) in [
        (0, 3, 3_000_000_000),
        (6, 3, 3000),
        (9, u64::MAX, u64::MAX),
        (12, 7999, 7),
        (19, u64::MAX, 1_844_674_407),
        (0x7f, u64::MAX, 1),
        (0x80, 2, 2_000_000_000),
        (0x80 | 32, 1 << 31, 500_000_000),
        (0xff, u64::MAX, 0),
    ] {
        let mut file = Pcapng::new(false);
        file.interface(1, 0, &[(9, &[resolution])]).enhanced(0, units, 0, b"", &[]);
        let (packets, error) = read(&file.file);
        assert!(error.is_none(), "{error:?}");
        assert_eq!(packets[0].0, ns, "resolution {resolution:#x}");
    }
}

/// What came before the fault stands; the message names the file, the place, the reason and what to do.
#[test]
fn damaged_files_are_named_with_place_and_reason() {
    let good = pcap(PcapFormat::default(), &[(0, b"abc")]);
    let with = |more: &[u8]| [good.as_slice(), more].concat();
    let mut long = vec![0; 16];
    long[8..12].copy_from_slice(&0x7fff_ffffu32.to_le_bytes());
    let mut version = good.clone();
    version[4] = 3;
    let block = |edit: fn(&mut Pcapng)| {
        let mut file = Pcapng::new(false);
        edit(file.interface(1, 0, &[]).enhanced(0, 0, 3, b"abc", &[]));
        file.file
    };
    for (file, packets, offset, message) in [
        (Vec::new(), 0, 0, "the file is empty"),
        (b"ab".to_vec(), 0, 0, "it ends within the file header: 24 octets are announced, 2 are left"),
        (b"GIF89a".to_vec(), 0, 0, "it is neither pcap nor pcapng (it begins with [47, 49, 46, 38])"),
        (good[..20].to_vec(), 0, 0, "it ends within the file header: 24 octets are announced, 20 are left"),
        (version, 0, 0, "pcap version 3 is not known"),
        (with(&[0; 15]), 1, 43, "it ends within a record header: 16 octets are announced, 15 are left"),
        (good[..42].to_vec(), 0, 24, "it ends within a packet: 3 octets are announced, 2 are left"),
        (with(&long), 1, 43, "a packet claims 2147483647 octets, where 0 to 4194304 are possible"),
        (
            block(|f| f.file.truncate(f.file.len() - 1)),
            0,
            48,
            "it ends within a block: 36 octets are announced, 35",
        ),
        (block(|f| f.file.extend_from_slice(&[6, 0, 0, 0])), 1, 84, "it ends within a block header"),
        (block(|f| f.file.extend_from_slice(&[9, 0, 0, 0, 11, 0, 0, 0])), 1, 84, "a block claims 11 octets"),
        (
            block(|f| f.file.extend_from_slice(&[6, 0, 0, 0, 0, 0, 0, 0xff])),
            1,
            84,
            "a block claims 4278190080",
        ),
        (
            block(|f| {
                f.enhanced(1, 0, 0, b"", &[]);
            }),
            1,
            84,
            "names interface 1, the section has described 1",
        ),
        (
            block(|f| {
                f.section().simple(3, b"abc");
            }),
            1,
            112,
            "names interface 0, the section has described 0",
        ),
        (
            block(|f| {
                f.block(6, &[0; 16]);
            }),
            1,
            84,
            "a packet block claims 28 octets",
        ),
        (
            block(|f| {
                f.block(6, &[[0; 12], [9, 0, 0, 0, 9, 0, 0, 0, 1, 2, 3, 4]].concat());
            }),
            1,
            84,
            "a packet claims 9 octets, where 0 to 4 are possible",
        ),
        (
            block(|f| {
                f.enhanced(0, 0, 0, b"", &[]);
                let last = f.file.len() - 4;
                f.file[last] = 36;
            }),
            1,
            84,
            "the two lengths of a block differ",
        ),
    ] {
        let (read, error) = read(&file);
        let error = error.unwrap_or_else(|| panic!("no error, but expected: {message}"));
        assert_eq!((read.len(), error.offset), (packets, offset), "{error}");
        let text = error.to_string();
        let place = if offset > 0 { format!(" at octet {offset}") } else { String::new() };
        assert!(text.starts_with(&format!("cannot read test.pcap{place}: ")), "{text}");
        assert!(text.contains(message), "'{text}' does not say '{message}'");
    }
}

/// A block that nobody needs is stepped over in bounded memory, whatever it claims.
#[test]
fn a_long_block_that_is_no_packet_is_stepped_over() {
    let mut file = Pcapng::new(false);
    file.interface(1, 0, &[]).block(0x0bad, &vec![0; MAX_PACKET * 2]).enhanced(0, 0, 3, b"abc", &[]);
    let (packets, error) = read(&file.file);
    assert!(error.is_none(), "{error:?}");
    assert_eq!(packets.len(), 1);
}

#[test]
fn the_longest_packet_is_read() {
    let packet = vec![7; MAX_PACKET];
    let format = PcapFormat { snap_length: u32::MAX, ..PcapFormat::default() };
    let (packets, error) = read(&pcap(format, &[(0, b"abc"), (0, &packet), (0, b"def")]));
    assert!(error.is_none(), "{error:?}");
    assert_eq!(packets.len(), 3);
    assert!(packets[1].1 == packet);
}

#[test]
fn a_file_that_does_not_exist_is_named() {
    let error = CaptureReader::open("/nonexistent/a.pcap".as_ref()).map(|_| ()).unwrap_err();
    assert!(error.to_string().contains("/nonexistent/a.pcap: it cannot be opened: No such file"));
}

#[test]
fn every_link_type_finds_the_ip_packet() {
    let frame = probe_lab::vectors::all().unwrap().into_iter().find(|v| v.name == "ipv6_udp").unwrap();
    let (ip, expected) = (&frame.frame[14..], frame.expected.unwrap());
    let sll = [&[0; 14][..], &[0x86, 0xdd]].concat();
    let sll2 = [&[0x86, 0xdd][..], &[0; 18]].concat();
    for (link, header) in [
        (LinkType::ETHERNET, &frame.frame[..14]),
        (LinkType::RAW, &[]),
        (LinkType(12), &[]),
        (LinkType(14), &[]),
        (LinkType::IPV6, &[]),
        (LinkType::NULL, &[30, 0, 0, 0]),
        (LinkType::NULL, &[0, 0, 0, 24]),
        (LinkType::LOOP, &[0, 0, 0, 28]),
        (LinkType::LINUX_SLL, &sll),
        (LinkType::LINUX_SLL2, &sll2),
        (LinkType::PPP, &[0xff, 3, 0, 0x57]),
        (LinkType::PPP, &[0, 0x57]),
    ] {
        let packet = [header, ip].concat();
        let mut expected = expected;
        if link != LinkType::ETHERNET {
            // Only Ethernet has both MAC addresses.
            let of_ip = expected.detail;
            expected.detail =
                Detail { source_mac: [0; 6], destination_mac: [0; 6], known: Detail::IP, ..of_ip };
        }
        assert_eq!(link.parse(&SliceBytes::new(&packet)), Some(Ok(expected)), "{link:?}");
        for cut in 0..header.len() {
            let parsed = link.parse(&SliceBytes::cut(&packet[..cut], packet.len()));
            assert!(matches!(parsed, Some(Err(_))), "{link:?} cut at {cut}: {parsed:?}");
        }
    }
    let ip = SliceBytes::new(ip);
    assert_eq!(LinkType::IPV4.parse(&ip), Some(Err(Outcome::Malformed)));
    assert_eq!(LinkType(147).parse(&ip), None);
}

#[test]
fn a_tag_behind_a_cooked_header_is_followed() {
    let ip = [0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, 0, 1, 0, 2, 0, 8, 0, 0];
    let packet = [&[0; 14][..], &[0x81, 0x00, 0, 42, 0x08, 0x00], &ip].concat();
    let parsed = LinkType::LINUX_SLL.parse(&SliceBytes::new(&packet)).unwrap().unwrap();
    assert_eq!((parsed.key.vlan(), parsed.key.ip_version(), parsed.octets), (42, IpVersion::V4, 28));
}

proptest! {
    /// Damage anywhere: no panic, no hang, and never more packets than octets.
    #[test]
    fn a_damaged_file_never_panics(
        kind in 0..3,
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut file = match kind {
            0 => pcap(PcapFormat::default(), &[(TIME, &[1; 60]), (TIME, &[2; 90])]),
            1 => pcap(PcapFormat { big_endian: true, ..PcapFormat::default() }, &[(TIME, &[1; 60])]),
            _ => {
                let mut file = Pcapng::new(false);
                file.interface(1, 0, &[(9, &[9])])
                    .enhanced(0, TIME, 60, b"abc", &[])
                    .simple(9, b"fghijklm")
                    .obsolete(0, 7, b"nop");
                file.file
            }
        };
        for (place, octet) in damage {
            let place = place.index(file.len());
            file[place] = octet;
        }
        file.truncate(cut.index(file.len() + 1));
        let (packets, _) = read(&file);
        prop_assert!(packets.len() <= file.len());
    }
}
