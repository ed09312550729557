// SPDX-License-Identifier: Apache-2.0 OR MIT
//! An AF_XDP socket: its memory and its rings.
//!
//! The only file of this folder with `unsafe`. JUSTIFICATION: xsk-rs shares memory with the kernel, and leaves it to
//! its caller that a frame is read only while it is the caller's. Here that follows from three things: the ledger of
//! frames ([`FrameLedger`]) says whose a frame is; descriptors never leave this file; what is lent ([`Packet`]) lives
//! no longer than the call that lends it, which holds the socket. One memory serves one socket, and is mapped as long
//! as that socket lives.

use std::{
    cell::RefCell,
    error::Error,
    io,
    num::NonZeroU32,
    os::fd::{AsRawFd, BorrowedFd},
};

use xsk_rs::{
    CompQueue, FillQueue, FrameDesc, RxQueue, Socket as XskSocket, TxQueue, Umem,
    config::{
        BindFlags, FrameSize, Interface, LibxdpFlags, QueueSize, SocketConfig, UmemConfig, UmemConfigBuilder,
    },
    socket::XdpStatistics,
};

use super::{
    AfXdpOptions, BusyPoll, FrameCounts,
    frames::FrameLedger,
    options::{HEADROOM, SENDING_PLACES},
};
use crate::prefetch;

/// Frames taken out of the receive ring at once.
const BATCH: usize = 64;

/// So many packets before it is read, a packet's first octets are asked for.
const AHEAD: usize = 4;

/// A packet in the memory of a socket.
pub(super) struct Packet<'a> {
    /// Its octets in the first frame: all of them, unless it has several.
    pub(super) octets: &'a [u8],
    /// Octets in all its frames.
    pub(super) length: usize,
}

/// A bound socket.
pub(super) struct Socket {
    frames: FrameLedger<FrameDesc>,
    batch: [FrameDesc; BATCH],
    unfinished: Option<Unfinished>,
    /// In a cell, since xsk-rs needs it exclusively to see how many wait.
    receive: RefCell<RxQueue>,
    fill: FillQueue,
    /// Never used, and part of what keeps the socket open.
    _sending: (TxQueue, CompQueue),
    umem: Umem,
}

/// The frames of a packet seen so far, where a batch ends within it.
struct Unfinished {
    first: FrameDesc,
    length: usize,
}

impl Socket {
    /// Makes the memory, makes the socket, and binds it to a queue. `huge_pages` fails where the host has none left.
    ///
    /// # Errors
    /// What the kernel said.
    pub(super) fn open(options: &AfXdpOptions, flags: BindFlags, huge_pages: bool) -> io::Result<Self> {
        let umem_config = umem_config(options)?;
        let count = NonZeroU32::new(options.frames).ok_or(io::ErrorKind::InvalidInput)?;
        let (umem, frames) = Umem::new(umem_config, count, huge_pages).map_err(|error| os_error(&error))?;
        let config = SocketConfig::builder()
            .rx_queue_size(places(options.ring)?)
            .tx_queue_size(places(SENDING_PLACES)?)
            // The program is ours; libxdp is to load none.
            .libxdp_flags(LibxdpFlags::XSK_LIBXDP_FLAGS_INHIBIT_PROG_LOAD)
            .bind_flags(flags)
            .build();
        let interface: Interface = options.interface.parse().map_err(io::Error::other)?;
        // SAFETY: the call is only unsafe for memory shared by sockets that load a program; this memory is new, and
        // loading is inhibited. (libxdp 1.6 copies 15 octets of the name however short it is, `xsk_create_ctx`, and
        // does nothing with them here; the heap's smallest piece has 16 and more.)
        let made = unsafe { XskSocket::new(config, &umem, &interface, options.queue) };
        let (sending, receive, rings) = made.map_err(|error| os_error(&error))?;
        let (fill, completion) = rings.ok_or_else(|| io::Error::other("libxdp gave no fill ring"))?;
        let mut socket = Self {
            frames: FrameLedger::new(frames, options.frame_octets as usize, FrameDesc::addr),
            batch: [FrameDesc::default(); BATCH],
            unfinished: None,
            receive: RefCell::new(receive),
            fill,
            _sending: (sending, completion),
            umem,
        };
        socket.refill();
        Ok(socket)
    }

    /// Hands at most `limit` packets to `take`, and gives their frames back to the kernel. Returns how many.
    pub(super) fn receive(&mut self, limit: usize, mut take: impl FnMut(Packet<'_>)) -> usize {
        let mut handed = 0;
        while handed < limit {
            let wanted = BATCH.min(limit - handed);
            // SAFETY: the queue overwrites the descriptors it is given; those it writes are of this memory.
            let count = unsafe { self.receive.get_mut().consume(&mut self.batch[..wanted]) };
            if count == 0 {
                break;
            }
            self.frames.taken(&self.batch[..count]);
            for index in 0..AHEAD.min(count) {
                prefetch::value(octets(&self.umem, &self.batch[index]).as_ptr());
            }
            for index in 0..count {
                if let Some(later) = self.batch[..count].get(index + AHEAD) {
                    prefetch::value(octets(&self.umem, later).as_ptr());
                }
                handed += usize::from(self.read(self.batch[index], &mut take));
            }
            self.refill();
        }
        handed
    }

    /// Reads one frame; whether a packet is complete with it, and was handed on.
    #[inline(always)]
    fn read(&mut self, frame: FrameDesc, take: &mut impl FnMut(Packet<'_>)) -> bool {
        let here = frame.lengths().data();
        let more = frame.has_more_frames();
        if !more && self.unfinished.is_none() {
            take(Packet { octets: octets(&self.umem, &frame), length: here });
            self.frames.put_back(frame);
            return true;
        }
        // The first frame is kept until the last has come; of the others only the length counts.
        match &mut self.unfinished {
            None => self.unfinished = Some(Unfinished { first: frame, length: here }),
            Some(packet) => {
                packet.length += here;
                self.frames.put_back(frame);
            }
        }
        if more {
            return false;
        }
        if let Some(Unfinished { first, length }) = self.unfinished.take() {
            take(Packet { octets: octets(&self.umem, &first), length });
            self.frames.put_back(first);
        }
        true
    }

    /// Puts free frames into the fill ring, as many as it has room for.
    fn refill(&mut self) {
        let free = self.frames.counts().free;
        if free == 0 {
            return;
        }
        let room = self.fill.nb_free(u32::try_from(free).unwrap_or(u32::MAX));
        // The queue takes all or nothing, so it is offered no more than it has room for.
        let offer = self.frames.offer(room as usize);
        // SAFETY: these frames are of this memory and free: nobody reads them, and no ring has them.
        let given = unsafe { self.fill.produce(offer) };
        self.frames.given(given);
    }

    /// How many frames wait in the receive ring; a packet of several frames counts as often.
    pub(super) fn waiting(&self) -> usize {
        self.receive.borrow_mut().nb_avail_exact() as usize
    }

    /// Whether the driver waits to be told that there are frames again.
    pub(super) fn needs_wakeup(&self) -> bool {
        self.fill.needs_wakeup()
    }

    /// Where the frames are.
    pub(super) fn counts(&self) -> FrameCounts {
        self.frames.counts()
    }

    /// What the kernel has counted since the socket was made.
    pub(super) fn statistics(&self) -> io::Result<XdpStatistics> {
        self.receive.borrow().fd().xdp_statistics()
    }

    /// The socket, for the map of sockets and for system calls.
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        let number = self.receive.borrow().fd().as_raw_fd();
        // SAFETY: the descriptor is open as long as the receive queue lives, which the borrow of `self` outlasts.
        unsafe { BorrowedFd::borrow_raw(number) }
    }

    /// Has calls to the socket drive the driver (Documentation/networking/af_xdp.rst, napi.rst).
    ///
    /// # Errors
    /// Without `CAP_NET_ADMIN`, or with a kernel that was built without busy polling.
    pub(super) fn set_busy_poll(&self, busy_poll: BusyPoll) -> io::Result<()> {
        let micros = libc::c_int::try_from(busy_poll.duration.as_micros()).unwrap_or(libc::c_int::MAX);
        self.set_option(libc::SO_PREFER_BUSY_POLL, 1)?;
        self.set_option(libc::SO_BUSY_POLL, micros)?;
        self.set_option(libc::SO_BUSY_POLL_BUDGET, busy_poll.budget.into())
    }

    fn set_option(&self, option: libc::c_int, value: libc::c_int) -> io::Result<()> {
        let length = libc::socklen_t::try_from(size_of_val(&value)).map_err(io::Error::other)?;
        // SAFETY: the kernel reads one `int`, which is what `value` is, and the descriptor is open.
        let result = unsafe {
            libc::setsockopt(
                self.fd().as_raw_fd(),
                libc::SOL_SOCKET,
                option,
                (&raw const value).cast(),
                length,
            )
        };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}

/// The octets of a frame that is in hand.
#[inline(always)]
fn octets<'a>(umem: &'a Umem, frame: &FrameDesc) -> &'a [u8] {
    // SAFETY: called for descriptors of frames that were taken out of the receive ring and not put back: the kernel
    // wrote them, they are of this memory, and until they are in the fill ring again it leaves them alone.
    unsafe { umem.data(frame) }.contents()
}

fn umem_config(options: &AfXdpOptions) -> io::Result<UmemConfig> {
    let frame_size = FrameSize::new(options.frame_octets).map_err(io::Error::other)?;
    let config = UmemConfigBuilder::new()
        .frame_size(frame_size)
        .fill_queue_size(places(options.fill_places())?)
        .comp_queue_size(places(SENDING_PLACES)?)
        .build()
        .map_err(io::Error::other)?;
    debug_assert_eq!(config.xdp_headroom(), HEADROOM);
    Ok(config)
}

fn places(count: u32) -> io::Result<QueueSize> {
    QueueSize::new(count).map_err(io::Error::other)
}

/// What the kernel said, out of an error of xsk-rs, which has it as its source.
fn os_error(error: &(dyn Error + 'static)) -> io::Error {
    match error.source().and_then(|source| source.downcast_ref::<io::Error>()?.raw_os_error()) {
        Some(number) => io::Error::from_raw_os_error(number),
        None => io::Error::other(error.to_string()),
    }
}
