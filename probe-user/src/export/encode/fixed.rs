// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The formats without templates, versions 1, 5 and 7: their headers begin with the same 16 octets and
//! their records with the same 36, IPv4 only.
//!
//! ```text
//! header  version 2, count 2, SysUptime 4, unix_secs 4, unix_nsecs 4, then what the version adds
//! record  srcaddr 4, dstaddr 4, nexthop 4, input 2, output 2, dPkts 4, dOctets 4, First 4, Last 4,
//!         srcport 2, dstport 2, then what the version adds
//! ```

use std::marker::PhantomData;

use probe_common::IpVersion;

use super::{
    Adjusted, Encoder, EncoderSettings, ExportFlow, Now, Told, Unfit, interface_number::InterfaceNumber,
    sampling::SamplingTold, virtual_boot::VirtualBoot,
};
use crate::{export::ring::DatagramRing, flow::FlowRecord};

/// Octets of the header that all versions share.
const COMMON_HEADER: usize = 16;
/// Octets of a record that all versions share.
const COMMON_RECORD: usize = 36;
/// Most records that one flow is split into: just below 2^48 octets, an hour at 600 Gb/s.
const MAX_PIECES: u64 = 1 << 16;

const ICMP: u8 = 1;

/// What one version has beside the others.
pub trait Layout: Send + 'static {
    /// Version number.
    const VERSION: u16;
    /// Octets of the header.
    const HEADER_LEN: usize;
    /// Octets of a record.
    const RECORD_LEN: usize;
    /// Most records in a datagram.
    const MAX_RECORDS: usize;

    /// Writes the header from octet 16 on.
    fn header(out: &mut [u8], told: &HeaderFacts);

    /// Writes the record from octet 36 on.
    fn record(out: &mut [u8], record: &FlowRecord);
}

/// What headers tell beside time and count.
#[derive(Clone, Copy, Debug)]
pub struct HeaderFacts {
    /// Flows sent before the datagram, modulo 2^32.
    pub sequence: u32,
    /// Kind of the engine.
    pub engine_type: u8,
    /// Which engine.
    pub engine_id: u8,
    /// Mode (2 bits) and interval (14 bits) of sampling.
    pub sampling: u16,
}

/// The datagram has no room for the record: seal it and push again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Full;

/// The 32-bit packet and octet counts of the records that tell of one flow, almost always one pair.
/// Their sums are exact.
///
/// # Errors
/// Why these formats cannot tell of it.
#[inline]
pub fn split(record: &FlowRecord) -> Result<impl ExactSizeIterator<Item = (u32, u32)> + use<>, Unfit> {
    if record.key.ip_version() == IpVersion::V6 {
        return Err(Unfit::Ipv6);
    }
    let (packets, octets) = (record.packets, record.octets);
    let largest = u64::from(u32::MAX);
    let pieces = packets.max(octets).div_ceil(largest).max(1);
    let pieces = u32::try_from(pieces).ok().filter(|_| pieces <= MAX_PIECES).ok_or(Unfit::Counter)?;
    Ok((0..pieces).map(move |piece| (share(packets, piece, pieces), share(octets, piece, pieces))))
}

/// Piece `piece` of `total` divided as evenly as whole numbers allow.
#[inline]
fn share(total: u64, piece: u32, pieces: u32) -> u32 {
    if pieces == 1 {
        // Almost always: without the divisions.
        return u32::try_from(total).unwrap_or(u32::MAX);
    }
    let (quotient, remainder) = (total / u64::from(pieces), total % u64::from(pieces));
    u32::try_from(quotient + u64::from(u64::from(piece) < remainder)).unwrap_or(u32::MAX)
}

fn records_within<L: Layout>(octets: usize) -> usize {
    (octets.saturating_sub(L::HEADER_LEN) / L::RECORD_LEN).clamp(1, L::MAX_RECORDS)
}

/// Octets of the largest datagram within a limit (or with one record).
pub(super) fn largest_message<L: Layout>(octets: usize) -> usize {
    L::HEADER_LEN + records_within::<L>(octets) * L::RECORD_LEN
}

/// One engine: its sequence, its virtual boot and the datagram it is filling.
#[derive(Debug)]
pub struct FixedEncoder<L> {
    facts: HeaderFacts,
    interfaces: InterfaceNumber,
    records_per_datagram: usize,
    boot: VirtualBoot<1>,
    count: usize,
    /// Records whose times had to be changed to fit.
    pub adjusted_times: u64,
    /// Records whose ifIndex has more bits than the field and was sent as 0 or cut.
    pub wide_interfaces: u64,
    buffer: Box<[u8]>,
    layout: PhantomData<L>,
}

impl<L: Layout> FixedEncoder<L> {
    /// An engine whose sequence begins at 0.
    #[must_use]
    pub fn new(engine_type: u8, engine_id: u8, records_per_datagram: usize) -> Self {
        Self {
            facts: HeaderFacts { sequence: 0, engine_type, engine_id, sampling: 0 },
            interfaces: InterfaceNumber::IF_INDEX,
            records_per_datagram: records_per_datagram.clamp(1, L::MAX_RECORDS),
            boot: VirtualBoot::new(),
            count: 0,
            adjusted_times: 0,
            wide_interfaces: 0,
            buffer: vec![0; L::HEADER_LEN + L::MAX_RECORDS * L::RECORD_LEN].into(),
            layout: PhantomData,
        }
    }

    /// Records in the datagram.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count
    }

    /// Flows sent before the datagram, modulo 2^32.
    #[must_use]
    pub fn sequence(&self) -> u32 {
        self.facts.sequence
    }

    /// Adds one of the records that [`split`] made of `record`. An empty datagram always has room.
    ///
    /// # Errors
    /// The datagram has to be sealed first.
    #[inline]
    pub fn push(
        &mut self,
        record: &FlowRecord,
        packets: u32,
        octets: u32,
        now_unix_ns: u64,
    ) -> Result<(), Full> {
        if self.count == self.records_per_datagram {
            return Err(Full);
        }
        let span = VirtualBoot::<1>::span(record);
        if self.count == 0 {
            self.boot.begin(span, now_unix_ns);
        } else if !self.boot.holds(span) {
            return Err(Full);
        }
        let at = L::HEADER_LEN + self.count * L::RECORD_LEN;
        let Some(out) = self.buffer.get_mut(at..at + L::RECORD_LEN) else { return Err(Full) };
        let (interfaces, cut) = self.interfaces.narrow_sides(&record.key);
        self.wide_interfaces += u64::from(cut);
        self.adjusted_times += u64::from(span.cut);
        let uptimes = self.boot.uptimes(span);
        if let Some((common, rest)) = out.split_first_chunk_mut() {
            write_common(common, record, packets, octets, uptimes, interfaces);
            L::record(rest, record);
        }
        self.count += 1;
        Ok(())
    }

    /// Writes the header and returns the datagram; the next one begins empty. `None` without records.
    pub fn seal(&mut self, now_unix_ns: u64) -> Option<&[u8]> {
        if self.count == 0 {
            return None;
        }
        let header_ms = self.boot.header_ms(now_unix_ns);
        let seconds = u32::try_from(header_ms / 1000).unwrap_or(u32::MAX);
        let nanoseconds = u32::try_from(header_ms % 1000 * 1_000_000).unwrap_or(0);
        let records = u16::try_from(self.count).unwrap_or(0);
        let header = &mut self.buffer[..L::HEADER_LEN];
        header[0..2].copy_from_slice(&L::VERSION.to_be_bytes());
        header[2..4].copy_from_slice(&records.to_be_bytes());
        header[4..8].copy_from_slice(&self.boot.uptime(header_ms).to_be_bytes());
        header[8..12].copy_from_slice(&seconds.to_be_bytes());
        header[12..16].copy_from_slice(&nanoseconds.to_be_bytes());
        L::header(&mut header[COMMON_HEADER..], &self.facts);
        self.facts.sequence = self.facts.sequence.wrapping_add(u32::from(records));
        let len = L::HEADER_LEN + std::mem::take(&mut self.count) * L::RECORD_LEN;
        Some(&self.buffer[..len])
    }
}

#[inline]
fn write_common(
    out: &mut [u8; COMMON_RECORD],
    record: &FlowRecord,
    packets: u32,
    octets: u32,
    uptimes: (u32, u32),
    [input, output]: [u16; 2],
) {
    let key = &record.key;
    // An IPv4 address lies in the upper half of its mapped form, in network order (probe_common::FlowKey).
    let [_, source, _, destination, _, _] = key.words();
    let source_port = if key.protocol() == ICMP { 0 } else { key.source_port() };
    out[0..4].copy_from_slice(&source.to_ne_bytes()[4..]);
    out[4..8].copy_from_slice(&destination.to_ne_bytes()[4..]);
    // Next hop: a passive probe routes nothing.
    out[8..12].copy_from_slice(&[0; 4]);
    out[12..14].copy_from_slice(&input.to_be_bytes());
    out[14..16].copy_from_slice(&output.to_be_bytes());
    out[16..20].copy_from_slice(&packets.to_be_bytes());
    out[20..24].copy_from_slice(&octets.to_be_bytes());
    out[24..28].copy_from_slice(&uptimes.0.to_be_bytes());
    out[28..32].copy_from_slice(&uptimes.1.to_be_bytes());
    out[32..34].copy_from_slice(&source_port.to_be_bytes());
    // For ICMP type * 256 + code, as the key has it.
    out[34..36].copy_from_slice(&key.destination_port().to_be_bytes());
}

/// A version behind the trait.
pub(super) struct Fixed<L> {
    encoder: FixedEncoder<L>,
    record_sampling: u32,
    mode_bits: bool,
    /// Only one of the domains complains.
    first: bool,
    told: Option<SamplingTold>,
}

impl<L: Layout> Fixed<L> {
    pub(super) fn new(settings: &EncoderSettings, offset: u32) -> Self {
        let records = records_within::<L>(settings.message_octets);
        // Engine ids repeat beyond 256 interfaces.
        let [.., low] = offset.to_be_bytes();
        let engine_id = settings.engine_id.wrapping_add(low);
        let mut encoder = FixedEncoder::new(settings.engine_type, engine_id, records);
        encoder.interfaces = InterfaceNumber::new(settings, offset);
        Self {
            encoder,
            record_sampling: settings.record_sampling,
            mode_bits: settings.v5_sampling_mode_bits,
            first: offset == 0,
            told: None,
        }
    }

    #[inline]
    fn put(&mut self, record: &FlowRecord, now: Now, out: &mut DatagramRing) -> Result<u64, Unfit> {
        let pieces = split(record)?;
        let records = pieces.len() as u64;
        for (packets, octets) in pieces {
            if let Err(Full) = self.encoder.push(record, packets, octets, now.unix_ns) {
                self.seal(now, out);
                // An empty datagram has room for any record.
                let pushed = self.encoder.push(record, packets, octets, now.unix_ns);
                debug_assert_eq!(pushed, Ok(()));
            }
        }
        if self.encoder.count() == self.encoder.records_per_datagram {
            self.seal(now, out);
        }
        Ok(records)
    }
}

impl<L: Layout> Encoder for Fixed<L> {
    #[inline]
    fn encode(&mut self, flow: &ExportFlow<'_>, now: Now, out: &mut DatagramRing) -> Result<u64, Unfit> {
        let Some(reverse) = flow.reverse else { return self.put(flow.forward, now, out) };
        // Nothing of a conversation is written if one of its directions cannot be.
        split(reverse).map(drop)?;
        Ok(self.put(flow.forward, now, out)? + self.put(reverse, now, out)?)
    }

    fn seal(&mut self, now: Now, out: &mut DatagramRing) {
        let records = self.encoder.count() as u64;
        if let Some(datagram) = self.encoder.seal(now.unix_ns) {
            out.push(datagram, records);
        }
    }

    fn tick(&mut self, told: &Told, now: Now, out: &mut DatagramRing) {
        let told = SamplingTold::new(told, self.record_sampling);
        if self.told == Some(told) {
            return;
        }
        if self.told.is_some() {
            // What was metered before was sampled as before.
            self.seal(now, out);
        }
        self.told = Some(told);
        let (field, cut) = told.v5_field(self.mode_bits);
        self.encoder.facts.sampling = field;
        if cut && self.first && L::VERSION == 5 {
            tracing::warn!(
                "NetFlow v5 cannot tell the sampling interval {}: its header holds no more than {}, which is \
                 sent; use v9 or IPFIX for this collector",
                told.interval(),
                SamplingTold::MAX_V5_INTERVAL,
            );
        }
    }

    fn set_interfaces(&mut self, _: &[u32]) {
        // These versions tell no names.
    }

    fn refresh(&mut self) {}

    fn preamble(&self, _now: Now, _out: &mut Vec<u8>) {}

    fn open_records(&self) -> u64 {
        self.encoder.count() as u64
    }

    fn sequence(&self) -> u32 {
        self.encoder.sequence()
    }

    fn adjusted(&self) -> Adjusted {
        Adjusted { times: self.encoder.adjusted_times, interfaces: self.encoder.wide_interfaces }
    }
}
