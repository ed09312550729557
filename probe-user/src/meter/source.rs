// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Where frames come from: sockets of one interface.

use std::{io, os::fd::BorrowedFd, time::Duration};

use super::{Frame, wait};
use crate::flow::Moment;

/// Takes frames. Nothing of a frame is kept when the call returns.
pub trait FrameSink {
    /// Takes one frame.
    fn take(&mut self, frame: Frame<'_>);
}

/// Frames of one interface. Reading never blocks; nothing is read before the first call of `receive`.
pub trait FrameSource: Send {
    /// ifIndex of the interface.
    fn interface(&self) -> u32;

    /// Hands frames that have come to `sink`, at most about `limit`; returns how many. `moment` is now.
    ///
    /// # Errors
    /// When nothing can come any more (the interface is gone, the socket failed). What had come before was handed over.
    fn receive(
        &mut self,
        moment: Moment,
        limit: usize,
        sink: &mut dyn FrameSink,
    ) -> Result<usize, SourceError>;

    /// At least as many frames as wait to be received now; 0 means none.
    fn waiting(&self) -> usize;

    /// Frames the kernel could not give to this source since it was made. Costs a system call.
    fn drops(&mut self) -> SourceDrops;

    /// What there is to tell of it.
    fn status(&self) -> SourceStatus;

    /// What becomes readable when frames come; nothing where the source is to be asked again at once (busy polling).
    fn descriptor(&self) -> Option<BorrowedFd<'_>>;

    /// The descriptor says that something is wrong: the next `receive` finds out what.
    fn trouble(&mut self) {}

    /// Returns when frames have come, or after `limit`. For owners who have nothing else to wait for.
    fn rest(&mut self, limit: Duration)
    where
        Self: Sized,
    {
        wait(&mut [self], None, limit);
    }

    /// For how long a frame that has come may be out of sight of `waiting` and `receive` (`TPACKET_V3` hands over a
    /// block when it is full or its time is over).
    fn lingers(&self) -> Duration {
        Duration::ZERO
    }

    /// Frames that the kernel has taken for this source and `receive` has not given yet, also those out of sight; as of
    /// the call. Where nothing can be out of sight: 0.
    fn hidden(&mut self) -> u64 {
        0
    }
}

/// Frames that the kernel had for a source and could not give it.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct SourceDrops {
    /// AF_XDP: dropped for want of a free frame, or because they were too long (`rx_dropped`).
    pub rx_dropped: u64,
    /// AF_XDP: the receive ring was full (`rx_ring_full`).
    pub rx_ring_full: u64,
    /// AF_XDP: descriptors of ours that the kernel refused (`rx_invalid_descs`); no packet is lost by itself.
    pub rx_invalid_descs: u64,
    /// AF_XDP: how often the kernel found no free frame (`rx_fill_ring_empty_descs`); its packets are in
    /// `rx_dropped`.
    pub rx_fill_ring_empty_descs: u64,
    /// AF_PACKET: dropped because the ring was full (`tp_drops`).
    pub tp_drops: u64,
    /// AF_PACKET: how often the ring was full (`tp_freeze_q_cnt`).
    pub tp_freezes: u64,
}

impl SourceDrops {
    /// Packets lost.
    #[must_use]
    pub fn packets(&self) -> u64 {
        self.af_xdp() + self.socket_full()
    }

    /// Those that the kernel program had steered: `af_xdp_drop` of the ledger, beside the counters of a row.
    #[must_use]
    pub fn af_xdp(&self) -> u64 {
        self.rx_dropped + self.rx_ring_full
    }

    /// Those that nobody else has counted: a worker counts them in its row, as received and unmetered.
    #[must_use]
    pub fn socket_full(&self) -> u64 {
        self.tp_drops
    }

    /// Both together.
    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        Self {
            rx_dropped: self.rx_dropped + other.rx_dropped,
            rx_ring_full: self.rx_ring_full + other.rx_ring_full,
            rx_invalid_descs: self.rx_invalid_descs + other.rx_invalid_descs,
            rx_fill_ring_empty_descs: self.rx_fill_ring_empty_descs + other.rx_fill_ring_empty_descs,
            tp_drops: self.tp_drops + other.tp_drops,
            tp_freezes: self.tp_freezes + other.tp_freezes,
        }
    }
}

/// What there is to tell of a source.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct SourceStatus {
    /// AF_XDP: the receive queue; AF_PACKET: the place in its fanout group.
    pub queue: u32,
    /// `zero_copy`, `copy` (AF_XDP) or `tpacket_v3`.
    pub mode: &'static str,
    /// Whether frames of several buffers can come.
    pub multi_buffer: bool,
}

/// Why there are no (more) frames: what was attempted, on what, and why it failed.
#[derive(thiserror::Error, Debug)]
#[error("{attempted} on interface {interface}{}: {error}", .queue.map(|queue| format!(", queue {queue}")).unwrap_or_default())]
pub struct SourceError {
    /// What was attempted, as "binding an AF_XDP socket".
    pub attempted: &'static str,
    /// Name of the interface.
    pub interface: String,
    /// Its receive queue, where that matters.
    pub queue: Option<u32>,
    /// What the kernel said.
    pub error: io::Error,
}
