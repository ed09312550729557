// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A packet socket as a source of frames.

use std::{os::fd::BorrowedFd, time::Duration};

use probe_common::Direction;

use super::{
    PacketOptions,
    block::{Outside, Place},
    filter,
    link::{Framed, LinkHeader},
    ring::Ring,
    socket::{PacketSocket, Presence},
    stamp::Stamps,
};
use crate::{
    flow::{Moment, Timestamp},
    meter::{Frame, FrameSink, FrameSource, SourceDrops, SourceError, SourceStatus},
};

/// How often it is looked at whether the interface is still there, when nothing comes.
const LOOK: Duration = Duration::from_millis(100);
/// How long after an interface has gone its last frames may come: the kernel's timer runs late on a busy machine.
const FAREWELL: Duration = Duration::from_millis(500);
/// As much of an IP packet as is copied, and an Ethernet header.
const FRAMED: usize = filter::DEEP as usize + 14;

/// One packet socket of an interface.
#[derive(Debug)]
pub struct PacketSource {
    ring: Ring,
    socket: PacketSocket,
    interface: u32,
    /// The block that the kernel fills next, or that is being read.
    block: usize,
    /// How far it is read; None: not at all.
    place: Option<Place>,
    stamps: Stamps,
    /// After so long a frame that has come is in a block that the kernel has handed over.
    hidden: Duration,
    drops: SourceDrops,
    /// Packets that the kernel has put into the ring, and those that were handed over.
    put: u64,
    given: u64,
    /// When the interface is looked at again.
    look: Timestamp,
    /// When the interface was found to be gone.
    gone: Option<Timestamp>,
    /// Whether time stamps of the NIC were found not to be Unix time.
    distrusted: bool,
    /// For links without a header.
    framed: Option<Box<Framed<FRAMED>>>,
}

/// Opens the sockets of an interface: `options.sockets` of them, of which each receives its share of the packets from
/// now on. What comes before the first call of `receive` waits in their rings.
///
/// # Errors
/// When there is no such interface, it carries neither Ethernet frames nor bare IP packets, or the privilege or
/// memory is missing; several sockets also when it is down (before Linux 6.13).
pub fn open(options: &PacketOptions, now: Timestamp) -> Result<Vec<PacketSource>, SourceError> {
    let opened: Vec<_> = (0..options.sockets.max(1))
        .map(|place| PacketSocket::open(options, place))
        .collect::<Result<_, _>>()?;
    let sockets: Vec<_> = opened.iter().map(|(socket, _)| socket).collect();
    PacketSocket::share(&sockets, options.spread)?;
    sockets.iter().try_for_each(|socket| socket.begin(options.ways))?;
    Ok(opened.into_iter().map(|(socket, ring)| PacketSource::new(socket, ring, options, now)).collect())
}

impl PacketSource {
    fn read_statistics(&mut self) {
        let (put, drops) = self.socket.new_statistics();
        self.put += put;
        self.drops = self.drops.plus(&drops);
    }

    fn new(socket: PacketSocket, ring: Ring, options: &PacketOptions, now: Timestamp) -> Self {
        // The timer counts in ticks of at most 10 ms, and looks at a block twice before it hands it over.
        let hidden = 2 * options.ring.block_timeout + Duration::from_millis(40);
        let framed = (socket.link() == LinkHeader::None).then(|| Box::new(Framed::new()));
        Self {
            ring,
            socket,
            interface: options.interface,
            block: 0,
            place: None,
            stamps: Stamps::new(now, hidden),
            hidden,
            drops: SourceDrops::default(),
            put: 0,
            given: 0,
            look: now + LOOK,
            gone: None,
            distrusted: false,
            framed,
        }
    }

    /// Hands over frames of the block that is read; returns how many, or None: the kernel has not handed it over.
    fn read(
        &mut self,
        moment: Moment,
        limit: usize,
        sink: &mut dyn FrameSink,
    ) -> Result<Option<usize>, Outside> {
        let Some(block) = self.ring.block(self.block) else { return Ok(None) };
        let mut place = match self.place {
            Some(place) => Some(place),
            None => block.first()?,
        };
        let mut taken = 0;
        while let Some(here) = place
            && taken < limit
        {
            let entry = block.at(here).inspect_err(|_| self.place = Some(here))?;
            place = entry.next;
            if let Some(next) = place {
                block.prefetch(next);
            }
            let Some(frame) = entry.frame else { continue };
            let at = match frame.hardware_time {
                false => self.stamps.of_kernel(frame.unix_ns, moment),
                true => self.stamps.of_hardware(frame.unix_ns, moment).unwrap_or_else(|| {
                    self.distrusted = true;
                    moment.now
                }),
            };
            let (octets, longer) = match &mut self.framed {
                Some(framed) => framed.put(frame.octets),
                None => (frame.octets, 0),
            };
            let length = usize::try_from(frame.length).unwrap_or(usize::MAX);
            sink.take(Frame {
                octets,
                // Without a tag that was taken off: the parser finds lengths in what is left.
                wire_length: length.saturating_add(longer).max(octets.len()),
                stripped_tag: frame.stripped_tag,
                interface: self.interface,
                direction: if frame.outgoing { Direction::Egress } else { Direction::Ingress },
                segment_octets: frame.segment_octets.into(),
                at,
            });
            taken += 1;
        }
        self.place = place;
        if place.is_none() {
            self.ring.give_back(self.block);
            self.block = (self.block + 1) % self.ring.blocks();
        }
        Ok(Some(taken))
    }

    /// Nothing waits: is the interface still there?
    fn look(&mut self, now: Timestamp) -> Result<(), SourceError> {
        if now < self.look {
            return Ok(());
        }
        self.look = now + LOOK;
        if self.socket.presence()? == Presence::Here {
            self.gone = None;
            return Ok(());
        }
        // The last frames may still be in a block that the kernel has not handed over.
        let since = *self.gone.get_or_insert(now);
        if now.since(since) > FAREWELL {
            return Err(self.socket.error("receiving", nix::errno::Errno::ENODEV.into()));
        }
        Ok(())
    }
}

impl FrameSource for PacketSource {
    fn interface(&self) -> u32 {
        self.interface
    }

    fn receive(
        &mut self,
        moment: Moment,
        limit: usize,
        sink: &mut dyn FrameSink,
    ) -> Result<usize, SourceError> {
        let mut taken = 0;
        while taken < limit {
            match self.read(moment, limit - taken, sink) {
                Ok(Some(frames)) => taken += frames,
                Ok(None) => {
                    self.stamps.emptied(moment.now);
                    break;
                }
                Err(outside) => {
                    let error = std::io::Error::new(std::io::ErrorKind::InvalidData, outside);
                    return Err(self.socket.error("reading the receive ring", error));
                }
            }
        }
        if self.distrusted {
            // From now on the kernel stamps; if it refuses, this is tried again with the next frame.
            self.distrusted = self.socket.take_hardware_time(false).is_err();
        }
        if taken == 0 {
            self.look(moment.now)?;
        }
        self.given += taken as u64;
        Ok(taken)
    }

    fn lingers(&self) -> Duration {
        self.hidden
    }

    fn waiting(&self) -> usize {
        let blocks = self.ring.blocks();
        let ready = (0..blocks).map_while(|ahead| self.ring.block((self.block + ahead) % blocks));
        let frames: usize =
            ready.map(|block| usize::try_from(block.frames().unwrap_or(0)).unwrap_or(0)).sum();
        match self.place {
            // Those of the first block that were taken already do not wait.
            Some(place) => {
                let whole = self.ring.block(self.block).and_then(|block| block.frames().ok()).unwrap_or(0);
                frames.saturating_sub(usize::try_from(whole.saturating_sub(place.left)).unwrap_or(0))
            }
            None => frames,
        }
    }

    fn drops(&mut self) -> SourceDrops {
        self.read_statistics();
        self.drops
    }

    fn hidden(&mut self) -> u64 {
        self.read_statistics();
        self.put.saturating_sub(self.given)
    }

    fn status(&self) -> SourceStatus {
        SourceStatus { queue: self.socket.place(), mode: "tpacket_v3", multi_buffer: false }
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        Some(self.socket.descriptor())
    }

    fn trouble(&mut self) {
        self.look = Timestamp::default();
    }
}
