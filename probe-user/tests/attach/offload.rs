// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Buffers that stand for several packets: counted as the packets that they are on a wire.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, TcpListener, TcpStream},
    os::fd::AsRawFd,
};

use nix::sys::socket::{self, AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType};
use probe_common::{Direction, FlowKey};
use probe_lab::{
    Link, LinkEnd, TcpCounters,
    clock::wait_until,
    packets::{Packet, Transport},
};
use probe_user::{
    kernel::{AttachPlan, Directions},
    net::Role,
};

use super::subject::{Counts, SOON, Subject, add_packets};

const OCTETS: usize = 8 << 20;
/// IPv4, and TCP with the timestamp option, as Linux sends them by default (RFC 7323 section 3.2).
const HEADERS: u64 = 20 + 32;
/// What the options of a SYN take beyond that: maximum segment size, window scale, permission of selective
/// acknowledgements.
const SYN_OPTIONS: u64 = 8;

/// TCP segments that a namespace has sent, and whether that went smoothly.
fn tcp_sent(end: &LinkEnd) -> (u64, u64) {
    let TcpCounters { sent, disturbed } = TcpCounters::read(&end.namespace).unwrap();
    (sent, disturbed)
}

fn sent_buffers(end: &LinkEnd) -> u64 {
    let path = format!("/sys/class/net/{}/statistics/tx_packets", end.name);
    end.namespace.run("cat", &[&path]).unwrap().trim().parse().unwrap()
}

/// Sends octets over TCP, and returns when both sides have closed.
fn transfer(link: &Link) {
    let listener = link.metered.namespace.enter(|| TcpListener::bind("10.9.0.2:7000").unwrap()).unwrap();
    let mut client = link.sender.namespace.enter(|| TcpStream::connect("10.9.0.2:7000").unwrap()).unwrap();
    let receiver = std::thread::spawn(move || {
        let (mut server, _) = listener.accept().unwrap();
        let mut octets = Vec::new();
        server.read_to_end(&mut octets).unwrap();
        octets
    });
    let octets: Vec<u8> = (0..OCTETS).map(|at| u8::try_from(at * 31 % 251).unwrap()).collect();
    client.write_all(&octets).unwrap();
    client.shutdown(std::net::Shutdown::Write).unwrap();
    assert!(receiver.join().unwrap() == octets, "what came is not what was sent");
    // The other side's FIN: nothing is on its way any more but the last acknowledgement.
    assert_eq!(client.read(&mut [0]).unwrap(), 0);
}

#[test]
#[ignore = "needs root: run `make test`"]
fn segmentation_buffers_count_as_their_segments() {
    let mut subject = Subject::new();
    for tcx in [true, false] {
        // A busy machine makes TCP send again what was only late. Such segments are counted too, but how many they are
        // and how many octets they have nobody tells.
        let unhurried = (0..10).any(|_| transfer_is_counted(&mut subject, tcx));
        assert!(unhurried, "no transfer without retransmissions");
    }
}

/// Returns whether packets and octets could be compared.
fn transfer_is_counted(subject: &mut Subject, tcx: bool) -> bool {
    let link = Link::new("gso", 1).unwrap();
    link.sender.add_address("10.9.0.1/24").unwrap();
    link.metered.add_address("10.9.0.2/24").unwrap();
    let plan = AttachPlan { directions: Directions::Both, tcx, ..AttachPlan::new(Role::Host) };
    let _held = subject.attach(&link.metered, plan).unwrap();
    subject.begin();
    transfer(&link);
    // The last acknowledgement may still be on its way. Of what is received, some packets are ARP.
    let all = || (tcp_sent(&link.sender), tcp_sent(&link.metered));
    let came = wait_until(SOON, || {
        let ((sent, again), (answered, answered_again)) = all();
        // What is sent again is among TcpOutSegs in some cases, and not in others (__tcp_transmit_skb in
        // net/ipv4/tcp_output.c).
        (sent + answered..=sent + again + answered + answered_again)
            .contains(&subject.counters().metered_packets)
    });
    assert!(came, "{:?} segments are awaited: {:?}", all(), subject.counters());
    let ((sent, again), (answered, again_answered)) = all();
    if again + again_answered > 0 {
        return false;
    }

    let counts = subject.counts();
    let of = |direction| {
        let counts = counts.iter().filter(|(words, _)| FlowKey::from_words(**words).direction() == direction);
        counts.fold((0, 0), |sum, (_, count)| (sum.0 + count.0, sum.1 + count.1))
    };
    let (ingress, egress) = (of(Direction::Ingress), of(Direction::Egress));
    assert_eq!((ingress.0, egress.0), (sent, answered), "packets, tcx {tcx}");
    let buffers = sent_buffers(&link.sender);
    assert!(buffers * 4 < sent, "{buffers} buffers for {sent} segments: that was no segmentation offload");
    let payload = u64::try_from(OCTETS).unwrap();
    assert_eq!(ingress.1, payload + sent * HEADERS + SYN_OPTIONS, "octets, tcx {tcx}");
    assert_eq!(egress.1, answered * HEADERS + SYN_OPTIONS, "octets of the answers, tcx {tcx}");
    true
}

/// Option of packet sockets: each frame is preceded by a `struct virtio_net_hdr`.
#[derive(Clone, Copy)]
struct VnetHeader;

nix::setsockopt_impl!(
    VnetHeader,
    libc::SOL_PACKET,
    libc::PACKET_VNET_HDR,
    libc::c_int,
    socket::sockopt::SetStruct<libc::c_int>
);

/// Sends a TCP frame as a virtual machine does: to be cut into segments by somebody else, who also counts them.
fn send_unsegmented(end: &LinkEnd, frame: &[u8], segment_size: u16) {
    let header = [
        // VIRTIO_NET_HDR_F_NEEDS_CSUM, VIRTIO_NET_HDR_GSO_TCPV4 (include/uapi/linux/virtio_net.h).
        [1, 1],
        54u16.to_ne_bytes(),
        segment_size.to_ne_bytes(),
        34u16.to_ne_bytes(),
        16u16.to_ne_bytes(),
    ];
    end.namespace
        .enter(|| {
            let address = nix::ifaddrs::getifaddrs()
                .unwrap()
                .filter(|found| found.interface_name == end.name)
                .find_map(|found| found.address?.as_link_addr().copied())
                .unwrap();
            let packets = socket::socket(
                AddressFamily::Packet,
                SockType::Raw,
                SockFlag::SOCK_CLOEXEC,
                None::<SockProtocol>,
            )
            .unwrap();
            socket::setsockopt(&packets, VnetHeader, &1).unwrap();
            let octets = [&header.concat(), frame].concat();
            let sent = socket::sendto(packets.as_raw_fd(), &octets, &address, MsgFlags::empty()).unwrap();
            assert_eq!(sent, octets.len());
        })
        .unwrap();
}

#[test]
#[ignore = "needs root: run `make test`"]
fn buffers_whose_segments_nobody_has_counted_are_counted() {
    const SEGMENT: u16 = 1000;
    let transport =
        Transport::Tcp { source: 40_000, destination: 443, flags: 0x18, sequence: 1, acknowledgement: 1 };
    let mut subject = Subject::new();
    for payload in [1001, 9000, 9001] {
        let link = Link::new("dodgy", 1).unwrap();
        let plan = AttachPlan { directions: Directions::Both, ..AttachPlan::new(Role::Host) };
        let _held = [&link.sender, &link.metered].map(|end| subject.attach(end, plan).unwrap());
        subject.begin();
        let packet = Packet {
            payload: vec![5; payload],
            ..Packet::new(Ipv4Addr::new(192, 0, 2, 1).into(), Ipv4Addr::new(192, 0, 2, 2).into(), transport)
        };
        send_unsegmented(&link.sender, &packet.frame(), SEGMENT);
        let segments = payload.div_ceil(SEGMENT.into());
        let octets = u64::try_from(payload + segments * 40).unwrap();
        let count = (u64::try_from(segments).unwrap(), octets);
        let mut expected = Counts::new();
        add_packets(&mut expected, std::slice::from_ref(&packet), &link.sender, Direction::Egress);
        add_packets(&mut expected, &[packet], &link.metered, Direction::Ingress);
        expected.values_mut().for_each(|value| *value = count);
        subject.assert_counts(&expected, &[], &format!("{payload} octets"));
    }
}
