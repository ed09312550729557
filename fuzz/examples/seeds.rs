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
    for target in ["parse", "capture", "v5_decode"] {
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
    fs::write(corpus.join("v5_decode/one-record"), datagram)?;
    Ok(())
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
