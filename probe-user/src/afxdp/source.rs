// SPDX-License-Identifier: Apache-2.0 OR MIT
//! An AF_XDP socket as a source of frames.

use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd},
    time::Duration,
};

use nix::sys::socket::{MsgFlags, getsockopt, recv, sockopt::SocketError};
use probe_common::Direction;

use super::{
    AfXdpOptions, Binding, FrameCounts,
    bind::bind,
    socket::{Packet, Socket},
};
use crate::{
    flow::{Moment, Timestamp},
    meter::{Frame, FrameSink, FrameSource, SourceDrops, SourceError, SourceStatus},
};

/// How often a socket from which nothing comes is asked whether its interface is still there.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// The frames that XDP redirects from one receive queue of one interface.
pub struct AfXdpSource {
    socket: Socket,
    options: AfXdpOptions,
    binding: Binding,
    drops: SourceDrops,
    looked: Timestamp,
    gone: bool,
}

impl AfXdpSource {
    /// Opens and binds a socket. The thread must be in the interface's network namespace; later calls may come from
    /// any thread.
    ///
    /// # Errors
    /// When the interface or the queue is not there, is taken, or the kernel refuses; with what to do.
    pub fn open(options: AfXdpOptions) -> Result<Self, SourceError> {
        let (socket, binding) = bind(&options)?;
        if let Some(busy_poll) = options.busy_poll {
            socket.set_busy_poll(busy_poll).map_err(|error| SourceError {
                attempted: "setting an AF_XDP socket to busy polling",
                interface: options.interface.clone(),
                queue: Some(options.queue),
                error,
            })?;
        }
        let (drops, looked) = (SourceDrops::default(), Timestamp::default());
        Ok(Self { socket, options, binding, drops, looked, gone: false })
    }

    /// How the socket is bound.
    #[must_use]
    pub fn binding(&self) -> &Binding {
        &self.binding
    }

    /// What it was opened with.
    #[must_use]
    pub fn options(&self) -> &AfXdpOptions {
        &self.options
    }

    /// The socket, for the map from which XDP takes it.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.socket.fd()
    }

    /// Where the frames of its memory are; their total never changes.
    #[must_use]
    pub fn frames(&self) -> FrameCounts {
        self.socket.counts()
    }

    fn take(&mut self, moment: Moment, limit: usize, sink: &mut dyn FrameSink) -> usize {
        let interface = self.options.index;
        self.socket.receive(limit, |Packet { octets, length }| {
            sink.take(Frame {
                octets,
                wire_length: length,
                // XDP does not tell of a tag that the NIC took off.
                stripped_tag: None,
                interface,
                direction: Direction::Ingress,
                segment_octets: 0,
                at: moment.now,
            });
        })
    }

    /// Lets the driver work where it wants to be asked: for a wake-up, and for each round of busy polling.
    fn nudge(&self) {
        // What it answers is no news: that there was nothing to do (EAGAIN), that the link is down and may come up
        // again (ENETDOWN), that no program is attached yet. Whether the interface is gone, `look` finds out.
        let _answer = recv(self.socket.fd().as_raw_fd(), &mut [], MsgFlags::MSG_DONTWAIT);
    }

    /// Whether the interface is gone. The kernel says so once, as the socket's error (`xsk_notifier`).
    fn look(&mut self) -> bool {
        let error = getsockopt(&self.socket.fd(), SocketError).unwrap_or(0);
        self.gone |= error != 0;
        self.gone
    }
}

impl FrameSource for AfXdpSource {
    fn interface(&self) -> u32 {
        self.options.index
    }

    fn receive(
        &mut self,
        moment: Moment,
        limit: usize,
        sink: &mut dyn FrameSink,
    ) -> Result<usize, SourceError> {
        let mut handed = self.take(moment, limit, sink);
        let idle = handed == 0;
        if self.socket.needs_wakeup() || (idle && self.options.busy_poll.is_some()) {
            self.nudge();
            if idle {
                handed = self.take(moment, limit, sink);
            }
        }
        if handed == 0 && (self.gone || moment.now.since(self.looked) >= LOOK_INTERVAL) {
            self.looked = moment.now;
            // What came before the interface went lies in the ring: it is handed over first.
            if self.look() && self.socket.waiting() == 0 {
                return Err(SourceError {
                    attempted: "receiving from an AF_XDP socket",
                    interface: self.options.interface.clone(),
                    queue: Some(self.options.queue),
                    error: io::Error::new(io::ErrorKind::NetworkDown, "the interface is gone"),
                });
            }
        }
        Ok(handed)
    }

    fn waiting(&self) -> usize {
        self.socket.waiting()
    }

    fn drops(&mut self) -> SourceDrops {
        // Cannot fail for an open socket; if it did, what was read last stands.
        if let Ok(counted) = self.socket.statistics() {
            self.drops = SourceDrops {
                rx_dropped: counted.rx_dropped(),
                rx_ring_full: counted.rx_ring_full(),
                rx_invalid_descs: counted.rx_invalid_descs(),
                rx_fill_ring_empty_descs: counted.rx_fill_ring_empty_descs(),
                ..SourceDrops::default()
            };
        }
        self.drops
    }

    fn status(&self) -> SourceStatus {
        SourceStatus {
            queue: self.options.queue,
            mode: if self.binding.zero_copy { "zero_copy" } else { "copy" },
            multi_buffer: self.binding.multi_buffer,
        }
    }

    /// With busy polling there is no rest: `receive` has the driver look for packets, for as long as the options say.
    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.options.busy_poll.is_none().then(|| self.socket.fd())
    }
}
