// SPDX-License-Identifier: Apache-2.0 OR MIT
//! NetFlow version 5: a header of 24 octets, then 1 to 30 records of 48 octets, IPv4 only.
//!
//! Times on the wire are milliseconds of an uptime, and the header says what Unix time that uptime is.
//! The encoder keeps a *virtual boot time*: `First` and `Last` are record times minus boot time, and
//! `SysUptime` is the header's Unix time minus boot time, all in whole milliseconds of one clock, so
//! `unix_secs`, `unix_nsecs` and `SysUptime` never disagree and a collector gets back each record's
//! times to the millisecond. The boot time moves only between datagrams, and early enough that
//! `First <= Last <= SysUptime < 2^31` holds in every one: there is no 49.7-day wrap on our wire, and
//! collectors that compute with signed numbers are right as well.
//!
//! The header's clock is the clock that was passed in, or the latest end of the datagram's records where
//! that is later (the clock was set back) or where the clock is more than 24 days from the records (an
//! old capture file): what is kept exact is the time of the flows.

use probe_common::IpVersion;

pub use super::Unfit;
use super::{Adjusted, Encoder as EncoderTrait, EncoderSettings, ExportFlow, Now, Told};
use crate::{export::ring::DatagramRing, flow::FlowRecord};

/// Octets of the header.
pub const HEADER_LEN: usize = 24;
/// Octets of a record.
pub const RECORD_LEN: usize = 48;
/// Most records in a datagram.
pub const MAX_RECORDS: usize = 30;
/// Octets of a full datagram.
pub const MAX_LEN: usize = HEADER_LEN + MAX_RECORDS * RECORD_LEN;

/// Largest uptime: 24.8 days.
const MAX_UPTIME_MS: u64 = (1 << 31) - 1;
/// Virtual boot lies this long before the first record, so that flows which began earlier fit too.
const LEAD_MS: u64 = 24 * 3600 * 1000;
/// Last millisecond that `unix_secs` can tell: in February 2106.
const MAX_UNIX_MS: u64 = (1 << 32) * 1000 - 1;
/// Most records that one flow is split into: just below 2^48 octets, an hour at 600 Gb/s.
const MAX_PIECES: u64 = 1 << 16;

const ICMP: u8 = 1;

/// The datagram has no room for the record: seal it and push again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Full;

/// One engine: its sequence, its virtual boot time and the datagram it is filling.
#[derive(Debug)]
pub struct Encoder {
    engine_type: u8,
    engine_id: u8,
    records_per_datagram: usize,
    sequence: u32,
    boot_ms: u64,
    latest_ms: u64,
    count: usize,
    /// Records whose times had to be changed to fit.
    pub adjusted_times: u64,
    /// Records whose ifIndex has more than 16 bits and went out as 0.
    pub wide_interfaces: u64,
    buffer: Box<[u8; MAX_LEN]>,
}

/// The 32-bit packet and octet counts of the records that tell of one flow, almost always one pair.
/// Their sums are exact.
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

fn unix_ms(ns: u64) -> u64 {
    (ns / 1_000_000).min(MAX_UNIX_MS)
}

impl Encoder {
    /// An engine whose sequence begins at 0.
    #[must_use]
    pub fn new(engine_type: u8, engine_id: u8, records_per_datagram: usize) -> Self {
        Self {
            engine_type,
            engine_id,
            records_per_datagram: records_per_datagram.clamp(1, MAX_RECORDS),
            sequence: 0,
            // Later than any record: the first one sets it.
            boot_ms: u64::MAX,
            latest_ms: 0,
            count: 0,
            adjusted_times: 0,
            wide_interfaces: 0,
            buffer: Box::new([0; MAX_LEN]),
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
        self.sequence
    }

    /// Adds one of the records that [`split`] made of `record`. An empty datagram always has room.
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
        let end = unix_ms(record.start_ns.max(record.end_ns));
        let first_seen = unix_ms(record.start_ns.min(record.end_ns));
        // No flow lasts 24 days (the active timeout ends it), but a capture file may claim so.
        let start = first_seen.max(end.saturating_sub(MAX_UPTIME_MS));
        if self.count == 0 {
            self.move_boot(start, end, unix_ms(now_unix_ns));
            self.latest_ms = end;
        } else if start < self.boot_ms || end.saturating_sub(self.boot_ms) > MAX_UPTIME_MS {
            return Err(Full);
        }
        let beyond = record.start_ns.max(record.end_ns) / 1_000_000 != end;
        self.adjusted_times += u64::from(start != first_seen || beyond);
        self.latest_ms = self.latest_ms.max(end);
        let at = HEADER_LEN + self.count * RECORD_LEN;
        let Some(octets_out) = self.buffer[at..].first_chunk_mut() else { return Err(Full) };
        let narrow = u16::try_from(record.key.ingress_interface());
        self.wide_interfaces += u64::from(narrow.is_err());
        let uptime = Uptimes { first: uptime(start, self.boot_ms), last: uptime(end, self.boot_ms) };
        write_record(octets_out, record, packets, octets, uptime, narrow.unwrap_or(0));
        self.count += 1;
        Ok(())
    }

    /// Moves the virtual boot time if a datagram that begins with such a record needs it.
    fn move_boot(&mut self, start: u64, end: u64, now: u64) {
        // Where the header's clock will be. The clock of the host does not serve for old captures.
        let header = if now >= end && now - start <= MAX_UPTIME_MS { now } else { end };
        if start >= self.boot_ms && header - self.boot_ms <= MAX_UPTIME_MS {
            return;
        }
        self.boot_ms = start.saturating_sub(LEAD_MS).max(header.saturating_sub(MAX_UPTIME_MS));
    }

    /// Writes the header and returns the datagram; the next one begins empty. `None` without records.
    pub fn seal(&mut self, now_unix_ns: u64) -> Option<&[u8]> {
        if self.count == 0 {
            return None;
        }
        let now = unix_ms(now_unix_ns);
        let fits = now >= self.latest_ms && now - self.boot_ms <= MAX_UPTIME_MS;
        let header_ms = if fits { now } else { self.latest_ms };
        let seconds = u32::try_from(header_ms / 1000).unwrap_or(u32::MAX);
        let nanoseconds = u32::try_from(header_ms % 1000 * 1_000_000).unwrap_or(0);
        let records = u16::try_from(self.count).unwrap_or(0);
        let header = &mut self.buffer[..HEADER_LEN];
        header[0..2].copy_from_slice(&5u16.to_be_bytes());
        header[2..4].copy_from_slice(&records.to_be_bytes());
        header[4..8].copy_from_slice(&uptime(header_ms, self.boot_ms).to_be_bytes());
        header[8..12].copy_from_slice(&seconds.to_be_bytes());
        header[12..16].copy_from_slice(&nanoseconds.to_be_bytes());
        header[16..20].copy_from_slice(&self.sequence.to_be_bytes());
        header[20] = self.engine_type;
        header[21] = self.engine_id;
        header[22..24].copy_from_slice(&[0, 0]);
        self.sequence = self.sequence.wrapping_add(u32::from(records));
        let len = HEADER_LEN + std::mem::take(&mut self.count) * RECORD_LEN;
        Some(&self.buffer[..len])
    }
}

fn records_within(octets: usize) -> usize {
    (octets.saturating_sub(HEADER_LEN) / RECORD_LEN).clamp(1, MAX_RECORDS)
}

/// Octets of the largest datagram within a limit (or with one record).
pub(super) fn largest_message(octets: usize) -> usize {
    HEADER_LEN + records_within(octets) * RECORD_LEN
}

/// Version 5 behind the trait.
pub(super) struct V5Encoder {
    encoder: Encoder,
}

impl V5Encoder {
    pub(super) fn new(settings: &EncoderSettings, offset: u32) -> Self {
        let records = records_within(settings.message_octets);
        // Engine ids repeat beyond 256 interfaces.
        let [.., offset] = offset.to_be_bytes();
        let engine_id = settings.engine_id.wrapping_add(offset);
        Self { encoder: Encoder::new(settings.engine_type, engine_id, records) }
    }
}

impl EncoderTrait for V5Encoder {
    #[inline]
    fn encode(&mut self, flow: &ExportFlow<'_>, now: Now, out: &mut DatagramRing) -> Result<u64, Unfit> {
        let pieces = split(flow.forward)?;
        let records = pieces.len() as u64;
        for (packets, octets) in pieces {
            if let Err(Full) = self.encoder.push(flow.forward, packets, octets, now.unix_ns) {
                self.seal(now, out);
                // An empty datagram has room for any record.
                let pushed = self.encoder.push(flow.forward, packets, octets, now.unix_ns);
                debug_assert_eq!(pushed, Ok(()));
            }
        }
        if self.encoder.count() == self.encoder.records_per_datagram {
            self.seal(now, out);
        }
        Ok(records)
    }

    fn seal(&mut self, now: Now, out: &mut DatagramRing) {
        let records = self.encoder.count() as u64;
        if let Some(datagram) = self.encoder.seal(now.unix_ns) {
            out.push(datagram, records);
        }
    }

    fn tick(&mut self, _told: &Told, _now: Now, _out: &mut DatagramRing) {}

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

/// Milliseconds since `boot`; callers have checked that they are fewer than 2^31.
#[inline]
fn uptime(unix_ms: u64, boot_ms: u64) -> u32 {
    u32::try_from(unix_ms.saturating_sub(boot_ms)).unwrap_or(u32::MAX)
}

struct Uptimes {
    first: u32,
    last: u32,
}

#[inline]
fn write_record(
    out: &mut [u8; RECORD_LEN],
    record: &FlowRecord,
    packets: u32,
    octets: u32,
    uptimes: Uptimes,
    input: u16,
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
    out[14..16].copy_from_slice(&[0; 2]);
    out[16..20].copy_from_slice(&packets.to_be_bytes());
    out[20..24].copy_from_slice(&octets.to_be_bytes());
    out[24..28].copy_from_slice(&uptimes.first.to_be_bytes());
    out[28..32].copy_from_slice(&uptimes.last.to_be_bytes());
    out[32..34].copy_from_slice(&source_port.to_be_bytes());
    // For ICMP type * 256 + code, as the key has it.
    out[34..36].copy_from_slice(&key.destination_port().to_be_bytes());
    let [_, flags] = record.tcp_flags.to_be_bytes();
    out[36..40].copy_from_slice(&[0, flags, key.protocol(), key.tos()]);
    // AS numbers, prefix lengths, padding.
    out[40..48].copy_from_slice(&[0; 8]);
}
