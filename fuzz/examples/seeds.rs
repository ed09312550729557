// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Writes the first inputs of the fuzz targets into `corpus/`: the vectors of `common/vectors/` as packets
//! and, in every variant of pcap, as capture files.

use std::fs;
use std::path::Path;

use anyhow::Result;
use probe_lab::pcap_file::{PcapFormat, PcapWriter};
use probe_lab::vectors;

const TIME_NS: u64 = 1_760_000_000_123_456_789;

fn main() -> Result<()> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    for target in ["parse", "capture", "v5_decode", "decode", "encode", "filter"] {
        fs::create_dir_all(corpus.join(target))?;
    }
    // libFuzzer prefers small inputs: the two jumbo packets stay out.
    let vectors: Vec<_> = vectors::all()?.into_iter().filter(|vector| vector.frame.len() < 2000).collect();
    for vector in &vectors {
        fs::write(corpus.join("parse").join(&vector.name), &vector.frame)?;
    }
    for (big_endian, nanoseconds) in [(false, false), (false, true), (true, false), (true, true)] {
        let format = PcapFormat { big_endian, nanoseconds, ..PcapFormat::default() };
        let mut writer = PcapWriter::new(Vec::new(), format)?;
        for vector in vectors.iter().take(4) {
            writer.write(TIME_NS, &vector.frame)?;
        }
        let name = format!("pcap-{big_endian}-{nanoseconds}");
        fs::write(corpus.join("capture").join(name), writer.finish()?)?;
    }
    fs::write(corpus.join("capture/pcapng"), pcapng(&vectors[0].frame)?)?;
    let mut datagram = vec![0; 24 + 48];
    datagram[..4].copy_from_slice(&[0, 5, 0, 1]);
    fs::write(corpus.join("v5_decode/one-record"), &datagram)?;
    for (name, messages) in exports(&datagram) {
        let mut file = Vec::new();
        for message in messages {
            file.extend_from_slice(&u16::try_from(message.len())?.to_be_bytes());
            file.extend_from_slice(&message);
        }
        fs::write(corpus.join("decode").join(name), file)?;
    }
    // Settings by the first octet, then flows of whatever follows.
    for which in 0..9u8 {
        let octets: Vec<u8> = (0..1500u32).map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect();
        fs::write(corpus.join("encode").join(which.to_string()), [&[which][..], &octets].concat())?;
    }
    for (number, text) in FILTERS.iter().enumerate() {
        fs::write(corpus.join("filter").join(number.to_string()), text)?;
    }
    Ok(())
}

const FILTERS: [&str; 6] = [
    "any",
    "src net 10.0.0.0/8 and not port 53",
    "(tcp and flags S/SA) or ip6 and dst host 2001:db8::1",
    "proto gre || duration >= 5m && octets > 1.5k",
    "vlan 100 and tos 0xb8 and in if 3 and packets != 1",
    "v9://h:9995?fields=full,-vlanId&filter=dst+port+443&sampling=10",
];

/// Messages of every version, templates and options before their data.
fn exports(v5: &[u8]) -> Vec<(&'static str, Vec<Vec<u8>>)> {
    let v1 = [&[0, 1, 0, 1][..], &[0; 12 + 48]].concat();
    let v7 = [&[0, 7, 0, 1][..], &[0; 20 + 52]].concat();
    let v9 = |sets: &[Vec<u8>]| [&[0, 9, 0, 2][..], &[0; 16], &sets.concat()].concat();
    let ipfix = |sets: &[Vec<u8>]| {
        let sets = sets.concat();
        [&words(&[10, u16::try_from(sets.len() + 16).unwrap_or(0)])[..], &[0; 12], &sets].concat()
    };
    // Addresses, ports, counters, uptimes; an interface name of variable length; lists.
    let flow = words(&[256, 8, 8, 4, 12, 4, 7, 2, 11, 2, 2, 4, 1, 4, 22, 4, 21, 4]);
    let name = words(&[257, 3, 10, 4, 82, 0xffff, 0x8000 | 880, 1, 0, 6876]);
    let lists = words(&[258, 3, 291, 0xffff, 292, 0xffff, 293, 0xffff]);
    let sampling = words(&[300, 2, 1, 149, 4, 34, 4]);
    let v9_options = words(&[301, 4, 8, 1, 4, 34, 4, 35, 1]);
    let basic = [&[255, 0, 9, 3][..], &words(&[10, 2, 7, 8])].concat();
    let sub = [&[31, 3][..], &words(&[256]), &[6; 28]].concat();
    let several = [&[33, 3][..], &words(&[256, 32]), &[6; 28]].concat();
    vec![
        ("fixed", vec![v1, v5.to_vec(), v7]),
        (
            "v9",
            vec![v9(&[set(0, &flow), set(1, &v9_options)]), v9(&[set(256, &[5; 56]), set(301, &[6; 12])])],
        ),
        (
            "ipfix",
            vec![
                ipfix(&[set(2, &[flow.clone(), name].concat()), set(3, &sampling)]),
                ipfix(&[set(256, &[5; 28]), set(257, b"\0\0\0\x01\x04eth0\x06"), set(300, &[7; 8])]),
                ipfix(&[set(2, &words(&[256, 0, 2, 0]))]),
            ],
        ),
        ("lists", vec![ipfix(&[set(2, &[flow, lists].concat()), set(258, &[basic, sub, several].concat())])]),
    ]
}

fn words(words: &[u16]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_be_bytes()).collect()
}

fn set(id: u16, body: &[u8]) -> Vec<u8> {
    [&words(&[id, u16::try_from(body.len() + 4).unwrap_or(0)])[..], body].concat()
}

/// A section, an interface in nanoseconds, and one packet.
fn pcapng(packet: &[u8]) -> Result<Vec<u8>> {
    let mut file = Vec::new();
    let section = [&0x1a2b_3c4du32.to_le_bytes()[..], &[1, 0, 0, 0], &[0xff; 8]].concat();
    let interface = [1, 0, 0, 0, 0, 0, 0, 0, 9, 0, 1, 0, 9, 0, 0, 0];
    let length = u32::try_from(packet.len())?.to_le_bytes();
    let (high, low) = (TIME_NS >> 32, TIME_NS & 0xffff_ffff);
    let (high, low) = (u32::try_from(high)?.to_le_bytes(), u32::try_from(low)?.to_le_bytes());
    let enhanced = [&[0; 4][..], &high, &low, &length, &length, packet].concat();
    for (kind, body) in [(0x0a0d_0d0au32, section.as_slice()), (1, &interface), (6, &enhanced)] {
        let length = u32::try_from(12 + body.len().next_multiple_of(4))?.to_le_bytes();
        file.extend_from_slice(&kind.to_le_bytes());
        file.extend_from_slice(&length);
        file.extend_from_slice(body);
        file.resize(file.len().next_multiple_of(4), 0);
        file.extend_from_slice(&length);
    }
    Ok(file)
}
