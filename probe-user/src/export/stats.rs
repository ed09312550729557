// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the exporter counted, shared with telemetry through relaxed atomics.
//!
//! For every collector, once the exporter is idle: `offered = records + dropped + not_representable`, in
//! records as they stand on the wire (a flow split in three is three). While it works, the rest is
//! `waiting`. Of the records that the exporter took, each collector has `not_selected + offered + paired +
//! held`, less what splitting added.

use std::sync::atomic::{AtomicU64, Ordering};

use super::{select::NotSelected, stream::Tally};

/// A counter with one writer, or a gauge.
#[derive(Default, Debug)]
pub struct Count(AtomicU64);

impl Count {
    /// The value.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    pub(super) fn add(&self, amount: u64) {
        if amount != 0 {
            self.0.fetch_add(amount, Ordering::Relaxed);
        }
    }

    pub(super) fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }
}

/// Why records for a collector were dropped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DropReason {
    /// The socket would not take them as fast as they came.
    Queue = 0,
    /// The rate asked for with `pps` was too low.
    Pace = 1,
    /// The kernel refused the datagram: no route, no permission, too large, ….
    SendError = 2,
    /// Still waiting when the time to stop had come.
    Shutdown = 3,
    /// There was no session with the collector, or its name had no address, for longer than the ring lasts.
    NotConnected = 4,
    /// On the way when the connection broke, and not acknowledged.
    ConnectionLost = 5,
}

impl DropReason {
    /// All reasons, in the order of their counters.
    pub const ALL: [Self; 6] =
        [Self::Queue, Self::Pace, Self::SendError, Self::Shutdown, Self::NotConnected, Self::ConnectionLost];

    /// Name in the ledger and in the metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Queue => "queue",
            Self::Pace => "pace",
            Self::SendError => "send_error",
            Self::Shutdown => "shutdown",
            Self::NotConnected => "not_connected",
            Self::ConnectionLost => "connection_lost",
        }
    }
}

/// Why a flow could not be told in a collector's format.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NotRepresentable {
    /// An IPv6 flow in NetFlow v5.
    Ipv6 = 0,
    /// 2^48 packets or octets, or more, in one record.
    Counter = 1,
}

impl NotRepresentable {
    /// All reasons, in the order of their counters.
    pub const ALL: [Self; 2] = [Self::Ipv6, Self::Counter];

    /// Name in the ledger and in the metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Ipv6 => "ipv6",
            Self::Counter => "counter",
        }
    }
}

/// What went wrong on the way to a collector.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ErrorReason {
    /// Nobody listens there (ICMP port unreachable).
    Refused = 0,
    /// No route, or the way is down.
    Unreachable = 1,
    /// Larger than the path allows.
    TooLarge = 2,
    /// A firewall or a security policy said no.
    NotPermitted = 3,
    /// No memory for it; tried again later.
    NoBuffer = 4,
    /// Anything else.
    Other = 5,
    /// The name has no address, or none that the source can reach.
    Unresolved = 6,
    /// The collector closed or reset the connection, or did not answer any more.
    Closed = 7,
    /// The TLS handshake failed, or the collector's TLS is broken.
    Tls = 8,
    /// The file could not be written.
    File = 9,
}

impl ErrorReason {
    /// All reasons, in the order of their counters.
    pub const ALL: [Self; 10] = [
        Self::Refused,
        Self::Unreachable,
        Self::TooLarge,
        Self::NotPermitted,
        Self::NoBuffer,
        Self::Other,
        Self::Unresolved,
        Self::Closed,
        Self::Tls,
        Self::File,
    ];

    /// Name in the metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Unreachable => "unreachable",
            Self::TooLarge => "too_large",
            Self::NotPermitted => "not_permitted",
            Self::NoBuffer => "no_buffer",
            Self::Other => "other",
            Self::Unresolved => "unresolved",
            Self::Closed => "closed",
            Self::Tls => "tls",
            Self::File => "file",
        }
    }
}

/// Counters of one collector.
#[derive(Debug)]
pub struct CollectorStats {
    /// Canonical URL, the label.
    pub url: String,
    /// Flow records that are not for it, by [`NotSelected`].
    pub not_selected: [Count; NotSelected::ALL.len()],
    /// Flow records that went into the record of the opposite direction.
    pub paired: Count,
    /// Flow records that wait for the opposite direction.
    pub held: Count,
    /// Records that were to be sent.
    pub offered: Count,
    /// Records in messages that the kernel took; over TCP and TLS, that the collector's kernel acknowledged.
    pub records: Count,
    /// Messages of which the same is true.
    pub datagrams: Count,
    /// Octets of their payload.
    pub octets: Count,
    /// Records encoded and not yet sent or not yet acknowledged, or in a message that is being filled.
    pub waiting: Count,
    /// Records dropped, by [`DropReason`].
    pub dropped: [Count; DropReason::ALL.len()],
    /// Records that the format cannot tell, by [`NotRepresentable`].
    pub not_representable: [Count; NotRepresentable::ALL.len()],
    /// Attempts that failed, by [`ErrorReason`].
    pub errors: [Count; ErrorReason::ALL.len()],
    /// Flow sequence of the collector's stream, summed over its engines.
    pub sequence: Count,
}

impl CollectorStats {
    pub(super) fn new(url: String) -> Self {
        Self {
            url,
            not_selected: Default::default(),
            paired: Count::default(),
            held: Count::default(),
            offered: Count::default(),
            records: Count::default(),
            datagrams: Count::default(),
            octets: Count::default(),
            waiting: Count::default(),
            dropped: Default::default(),
            not_representable: Default::default(),
            errors: Default::default(),
            sequence: Count::default(),
        }
    }

    /// Counts what became of records on their way through the stream.
    pub(super) fn count(&self, tally: &Tally) {
        let Tally { offered, ipv6, counter, split: _, paired, not_selected } = tally;
        self.offered.add(*offered);
        self.not_representable[NotRepresentable::Ipv6 as usize].add(*ipv6);
        self.not_representable[NotRepresentable::Counter as usize].add(*counter);
        self.paired.add(*paired);
        self.not_selected.iter().zip(not_selected).for_each(|(count, amount)| count.add(*amount));
    }

    /// Records that were offered and are not accounted for; 0 while the exporter rests.
    #[must_use]
    pub fn imbalance(&self) -> i64 {
        let counted = self.records.get()
            + self.waiting.get()
            + self.dropped.iter().map(Count::get).sum::<u64>()
            + self.not_representable.iter().map(Count::get).sum::<u64>();
        self.offered.get().cast_signed().wrapping_sub(counted.cast_signed())
    }
}

/// Counters of the exporter.
#[derive(Debug)]
pub struct ExportStats {
    /// Flow records taken from the queues.
    pub records: Count,
    /// Packets that they tell of.
    pub packets: Count,
    /// Octets that they tell of.
    pub octets: Count,
    /// Records in the queues when the exporter last looked.
    pub queue_length: Count,
    /// Records added because a counter has more than 32 bits.
    pub split_records: Count,
    /// Records whose times do not fit the format and were cut (after 2106, or longer than 24 days).
    pub adjusted_times: Count,
    /// Records whose ifIndex does not fit 16 bits and was sent as 0.
    pub wide_interfaces: Count,
    /// In the order of the options.
    pub collectors: Vec<CollectorStats>,
}

impl ExportStats {
    pub(super) fn new(urls: impl Iterator<Item = String>) -> Self {
        Self {
            records: Count::default(),
            packets: Count::default(),
            octets: Count::default(),
            queue_length: Count::default(),
            split_records: Count::default(),
            adjusted_times: Count::default(),
            wide_interfaces: Count::default(),
            collectors: urls.map(CollectorStats::new).collect(),
        }
    }
}
