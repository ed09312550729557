// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Packet sockets of an interface.
//!
//! Sockets are bound, and join their fanout group, while a filter lets nothing through: a socket that is bound and not
//! yet in its group would get every packet of the interface, and packets would be counted twice.

use std::{
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
};

use nix::{
    errno::Errno,
    sys::socket::{
        AddressFamily, LinkAddr, SetSockOpt, SockFlag, SockProtocol, SockType, SockaddrStorage, bind,
        getsockname, getsockopt, setsockopt, socket, sockopt::SocketError,
    },
};
use socket2::{SockFilter, SockRef};

use super::{PacketOptions, RingSize, Spread, Ways, address, filter, link::LinkHeader, ring::Ring, sockopt};
use crate::meter::{SourceDrops, SourceError};

/// One packet socket.
#[derive(Debug)]
pub(super) struct PacketSocket {
    socket: OwnedFd,
    index: u32,
    name: String,
    place: u32,
    link: LinkHeader,
}

/// How an interface is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Presence {
    /// There, up or down.
    Here,
    /// Deleted, or moved to another namespace.
    Gone,
}

impl PacketSocket {
    /// A socket with a ring, bound to the interface. It receives nothing until [`Self::begin`].
    pub(super) fn open(options: &PacketOptions, place: u32) -> Result<(Self, Ring), SourceError> {
        let failed = |attempted| {
            let interface = options.name.clone();
            move |error: Errno| SourceError { attempted, interface, queue: Some(place), error: error.into() }
        };
        let (family, flags) = (AddressFamily::Packet, SockFlag::SOCK_CLOEXEC);
        // Protocol 0 receives nothing until the socket is bound.
        let socket = socket(family, SockType::Raw, flags, None::<SockProtocol>)
            .map_err(failed("opening a packet socket (it needs CAP_NET_RAW)"))?;
        let link = LinkHeader::Ethernet;
        let mut new = Self { socket, index: options.interface, name: options.name.clone(), place, link };
        let version = libc::tpacket_versions::TPACKET_V3 as libc::c_int;
        new.set(sockopt::Version, &version).map_err(failed("choosing TPACKET_V3"))?;
        // Before the ring: the kernel refuses it afterwards.
        new.set(sockopt::VnetHeader, &1).map_err(failed("asking for the size of segments"))?;
        if options.ways == Ways::Ingress {
            // Spares the kernel to look at them; the filter drops them where this is not to be had (before 4.20).
            new.set(sockopt::IgnoreOutgoing, &1).ok();
        }
        new.take_hardware_time(options.hardware_time).map_err(failed("asking for time stamps of the NIC"))?;
        new.attach(&filter::nothing())?;
        new.set(sockopt::ReceiveRing, &request(options.ring)).map_err(failed("making a receive ring"))?;
        let ring = Ring::map(&new.socket, options.ring)
            .map_err(|error| new.error("mapping the receive ring", error))?;
        let address = address::all_of(options.interface)
            .ok_or(Errno::ENODEV)
            .map_err(failed("binding a packet socket"))?;
        bind(new.socket.as_raw_fd(), &address).map_err(failed("binding a packet socket"))?;
        new.link = new.link_header()?;
        if options.promiscuous {
            new.set(sockopt::AddMembership, &promiscuous(options.interface))
                .map_err(failed("making it promiscuous"))?;
        }
        Ok((new, ring))
    }

    /// Has these sockets share what comes. Returns when packets go to one of them each; still none is received.
    pub(super) fn share(sockets: &[&Self], spread: Spread) -> Result<(), SourceError> {
        let [first, others @ ..] = sockets else { return Ok(()) };
        if others.is_empty() {
            return Ok(());
        }
        let mode = match spread {
            Spread::Cpu => libc::PACKET_FANOUT_CPU,
            Spread::Flow => libc::PACKET_FANOUT_HASH,
        };
        // The kernel finds a number that no group of this namespace has; the others are then told it.
        let attempted = "making a fanout group";
        first
            .set(sockopt::Fanout, &((mode | libc::PACKET_FANOUT_FLAG_UNIQUEID) << 16))
            .map_err(|error| first.error(attempted, first.fanout_refusal(error)))?;
        let group = getsockopt(&first.socket, sockopt::Fanout)
            .map_err(|error| first.error(attempted, error.into()))?;
        for socket in others {
            socket
                .set(sockopt::Fanout, &(mode << 16 | group & 0xffff))
                .map_err(|error| socket.error("joining a fanout group", socket.fanout_refusal(error)))?;
        }
        Ok(())
    }

    /// A socket of an interface that is down cannot join a group (before 6.13), and the kernel only says EINVAL.
    fn fanout_refusal(&self, error: Errno) -> io::Error {
        match (error, getsockopt(&self.socket, SocketError)) {
            (Errno::EINVAL, Ok(pending)) if pending == libc::ENETDOWN => Errno::ENETDOWN.into(),
            _ => error.into(),
        }
    }

    /// Receives from now on.
    pub(super) fn begin(&self, ways: Ways) -> Result<(), SourceError> {
        self.attach(&filter::headers(ways, self.link))
    }

    /// What its frames begin with.
    pub(super) fn link(&self) -> LinkHeader {
        self.link
    }

    fn link_header(&self) -> Result<LinkHeader, SourceError> {
        let attempted = "finding out what its frames begin with";
        let hardware_type = self.address().map_err(|error| self.error(attempted, error.into()))?.hatype();
        LinkHeader::of(hardware_type).ok_or_else(|| {
            let what = format!(
                "hardware type {hardware_type} is neither Ethernet nor bare IP; meter an interface above it"
            );
            self.error(attempted, io::Error::new(io::ErrorKind::Unsupported, what))
        })
    }

    /// What the kernel says the socket is bound to.
    fn address(&self) -> Result<LinkAddr, Errno> {
        // As storage: the kernel leaves out what an Ethernet address does not fill, which `LinkAddr` refuses.
        let address: SockaddrStorage = getsockname(self.socket.as_raw_fd())?;
        address.as_link_addr().copied().ok_or(Errno::EINVAL)
    }

    /// The place in its group.
    pub(super) fn place(&self) -> u32 {
        self.place
    }

    /// Whether time stamps of the NIC are wanted.
    pub(super) fn take_hardware_time(&self, wanted: bool) -> Result<(), Errno> {
        let flags = if wanted { libc::SOF_TIMESTAMPING_RAW_HARDWARE } else { 0 };
        self.set(sockopt::Timestamp, &flags.cast_signed())
    }

    /// Packets put into the ring, and what was dropped, since the last call: the kernel counts from 0 again.
    pub(super) fn new_statistics(&self) -> (u64, SourceDrops) {
        getsockopt(&self.socket, sockopt::Statistics).map_or_else(
            |_| (0, SourceDrops::default()),
            |statistics| {
                let drops = SourceDrops {
                    tp_drops: statistics.tp_drops.into(),
                    tp_freezes: statistics.tp_freeze_q_cnt.into(),
                    ..SourceDrops::default()
                };
                // Those that were dropped are among the packets (packet_getsockopt in net/packet/af_packet.c).
                (statistics.tp_packets.saturating_sub(statistics.tp_drops).into(), drops)
            },
        )
    }

    /// Looks whether the interface is still there. What poll(2) would report of it is taken back: a link that goes down
    /// leaves an error on the socket, and poll would return at once for ever.
    ///
    /// # Errors
    /// When the socket has failed.
    pub(super) fn presence(&self) -> Result<Presence, SourceError> {
        let attempted = "receiving";
        match getsockopt(&self.socket, SocketError) {
            // The kernel binds the socket again when the link comes up (`packet_notifier`).
            Ok(0 | libc::ENETDOWN) => {}
            Ok(error) => return Err(self.error(attempted, io::Error::from_raw_os_error(error))),
            Err(error) => return Err(self.error(attempted, error.into())),
        }
        let name = self.address().map_err(|error| self.error(attempted, error.into()))?;
        // Of an interface that has gone the socket forgets the index (`packet_notifier`, NETDEV_UNREGISTER).
        let here = u32::try_from(name.ifindex()).is_ok_and(|index| index == self.index);
        Ok(if here { Presence::Here } else { Presence::Gone })
    }

    /// What becomes readable when a block is there, or something is wrong with the link: that stays so until
    /// [`Self::presence`] is asked.
    pub(super) fn descriptor(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// An error of this socket.
    pub(super) fn error(&self, attempted: &'static str, error: io::Error) -> SourceError {
        SourceError { attempted, interface: self.name.clone(), queue: Some(self.place), error }
    }

    fn attach(&self, filter: &[SockFilter]) -> Result<(), SourceError> {
        SockRef::from(&self.socket)
            .attach_filter(filter)
            .map_err(|error| self.error("attaching the filter of a packet socket", error))
    }

    fn set<O: SetSockOpt>(&self, option: O, value: &O::Val) -> Result<(), Errno> {
        setsockopt(&self.socket, option, value)
    }
}

fn request(size: RingSize) -> libc::tpacket_req3 {
    // Frames of V3 are as long as they are; but the kernel checks that these numbers go together.
    const FRAME: u32 = 2048;
    libc::tpacket_req3 {
        tp_block_size: size.block_octets,
        tp_block_nr: size.blocks,
        tp_frame_size: FRAME,
        tp_frame_nr: (size.block_octets / FRAME).saturating_mul(size.blocks),
        // 0 would let the kernel choose by the speed of the link.
        tp_retire_blk_tov: u32::try_from(size.block_timeout.as_millis()).unwrap_or(u32::MAX).max(1),
        tp_sizeof_priv: 0,
        tp_feature_req_word: 0,
    }
}

fn promiscuous(interface: u32) -> libc::packet_mreq {
    libc::packet_mreq {
        mr_ifindex: interface.cast_signed(),
        mr_type: u16::try_from(libc::PACKET_MR_PROMISC).unwrap_or(0),
        mr_alen: 0,
        mr_address: [0; 8],
    }
}
