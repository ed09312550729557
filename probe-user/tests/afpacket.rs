// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Packet sockets on real interfaces: every packet once, to the octet, whatever the kernel does with it on its way.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

use std::{
    collections::BTreeMap,
    io::{Read, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use probe_common::{
    Direction, Outcome,
    parse::{self, DeepBytes, SliceBytes},
};
use probe_lab::{
    FlowId, Flows, Generator, Link, LinkEnd, Namespace, Sums, Traffic,
    clock::{Stopwatch, wait_until},
    conversations::arp_request,
    difference, flows_of,
    packet_socket::PacketSocket,
    packets::{Packet, Transport},
    require_root, send_in_parallel,
};
use probe_user::{
    afpacket::{PacketOptions, PacketSource, RingSize, Spread, Ways, open},
    flow::Timestamp,
    meter::{Frame, FrameSink, FrameSource, SourceDrops},
    runtime::now,
};

/// Longer than a block stays open, also on a machine that is busy.
const SETTLED: Duration = Duration::from_millis(200);

/// Counts what the parser reads.
#[derive(Default)]
struct Counting {
    frames: u64,
    /// Of each direction.
    flows: [Flows; 2],
    unmetered: BTreeMap<&'static str, u64>,
    tags: Vec<(u16, u16)>,
    stripped: u64,
    /// Buffers that stood for several packets.
    joined: u64,
    longest: usize,
    earliest: Option<Timestamp>,
    latest: Option<Timestamp>,
}

impl FrameSink for Counting {
    fn take(&mut self, frame: Frame<'_>) {
        self.frames += 1;
        self.earliest = Some(self.earliest.map_or(frame.at, |earliest| earliest.min(frame.at)));
        self.latest = Some(self.latest.map_or(frame.at, |latest| latest.max(frame.at)));
        self.longest = self.longest.max(frame.wire_length);
        self.stripped += u64::from(frame.stripped_tag.is_some());
        assert!(frame.wire_length >= frame.octets.len());
        let octets = DeepBytes(SliceBytes::cut(frame.octets, frame.wire_length));
        let packet = match parse::parse_untagged(&octets, frame.stripped_tag) {
            Ok(packet) => packet,
            Err(outcome) => {
                *self.unmetered.entry(Outcome::name(outcome)).or_default() += 1;
                return;
            }
        };
        let (packets, octets) = packet.segments(frame.segment_octets, 0);
        self.joined += u64::from(packets > 1);
        let key = packet.key;
        self.tags.push((key.vlan(), key.customer_vlan()));
        let id = FlowId {
            source: key.source(),
            destination: key.destination(),
            source_port: key.source_port(),
            destination_port: key.destination_port(),
            protocol: key.protocol(),
            tos: key.tos(),
        };
        *self.flows[frame.direction as usize].entry(id).or_default() +=
            Sums { packets: packets.into(), octets: octets.into() };
    }
}

impl Counting {
    fn assert_exact(&self, direction: Direction, sent: &Flows) {
        if let Some(difference) = difference(sent, &self.flows[direction as usize]) {
            panic!("{difference}");
        }
    }
}

fn options(end: &LinkEnd) -> PacketOptions {
    PacketOptions::new(end.index, end.name.clone())
}

fn open_in(namespace: &Namespace, options: &PacketOptions) -> Vec<PacketSource> {
    namespace.enter(|| open(options, now().now)).unwrap().unwrap()
}

fn open_one(end: &LinkEnd, options: &PacketOptions) -> PacketSource {
    let mut sources = open_in(&end.namespace, options);
    assert_eq!(sources.len(), 1);
    sources.remove(0)
}

/// Takes what comes until nothing has come for a while.
fn drain(source: &mut PacketSource, sink: &mut Counting) {
    // A rest that ends at once because the link was down once does not count.
    let mut rests = 0;
    while rests < 2 || source.waiting() > 0 {
        rests = if source.receive(now(), 1000, sink).unwrap() > 0 { 0 } else { rests + 1 };
        source.rest(SETTLED);
    }
}

/// A link without XDP at its metered end.
fn link(label: &str) -> Link {
    require_root();
    let link = Link::for_many_senders(label).unwrap();
    link.metered.receive_without_xdp().unwrap();
    link
}

fn udp(number: u16, payload: usize) -> Packet {
    let mut packet = Packet::new(
        Ipv4Addr::new(10, 0, 0, 1).into(),
        Ipv4Addr::new(10, 0, 0, 2).into(),
        Transport::Udp { source: 1000 + number, destination: 4000 },
    );
    packet.payload = vec![0x2e; payload];
    packet
}

fn send(end: &LinkEnd, packets: &[Packet]) {
    let socket = PacketSocket::open(end).unwrap();
    for packet in packets {
        socket.send(&packet.frame()).unwrap();
    }
}

#[test]
#[ignore = "needs root: run `make test`"]
fn every_packet_of_three_hundred_thousand_is_received_once() {
    let link = link("exact");
    let mut source = open_one(&link.metered, &options(&link.metered));
    let mut generators = [Generator::load(&link, &Traffic::udp(0, 5000)).unwrap()];
    let mut sink = Counting::default();
    let before = now();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            send_in_parallel(&link, &mut generators, 300_000).unwrap();
            done.store(true, Ordering::Relaxed);
        });
        while !done.load(Ordering::Relaxed) {
            // Blocks are read in parts.
            if source.receive(now(), 100, &mut sink).unwrap() == 0 {
                source.rest(Duration::from_millis(5));
            }
        }
    });
    drain(&mut source, &mut sink);
    assert_eq!(source.drops(), SourceDrops::default());
    assert_eq!(sink.frames, 300_000);
    sink.assert_exact(Direction::Ingress, &generators[0].expected().unwrap());
    assert_eq!(sink.unmetered, BTreeMap::new());
    assert!(sink.earliest.unwrap() >= before.now && sink.latest.unwrap() <= now().now);
}

#[test]
#[ignore = "needs root: run `make test`"]
fn two_sockets_share_the_packets_and_get_each_once() {
    for spread in [Spread::Flow, Spread::Cpu] {
        let link = link("share");
        let options = PacketOptions { sockets: 2, spread, ..options(&link.metered) };
        let mut sources = open_in(&link.metered.namespace, &options);
        let mut generators = [
            Generator::load(&link, &Traffic::udp(0, 2000)).unwrap(),
            Generator::load(&link, &Traffic::udp(1000, 2000).over_ipv6()).unwrap(),
        ];
        send_in_parallel(&link, &mut generators, 40_000).unwrap();
        let mut sink = Counting::default();
        for source in &mut sources {
            let before = sink.frames;
            drain(source, &mut sink);
            assert_eq!(source.drops(), SourceDrops::default());
            let share = sink.frames - before;
            println!("{spread:?}: socket {} got {share}", source.status().queue);
            // Which CPU serves the link is not ours to say.
            assert!(spread == Spread::Cpu || (20_000..60_000).contains(&share), "{share} of 80000");
        }
        let mut sent = Flows::new();
        for generator in &generators {
            sent.extend(generator.expected().unwrap());
        }
        sink.assert_exact(Direction::Ingress, &sent);
        assert_eq!(sink.frames, 80_000);
    }
}

#[test]
#[ignore = "needs root: run `make test`"]
fn what_a_full_ring_cannot_take_is_counted() {
    const SENT: u64 = 200_000;
    let link = link("full");
    let ring = RingSize { blocks: 4, block_octets: 64 << 10, ..RingSize::default() };
    let mut source = open_one(&link.metered, &PacketOptions { ring, ..options(&link.metered) });
    let mut generators = [Generator::load(&link, &Traffic::udp(0, 100)).unwrap()];
    let mut sink = Counting::default();
    for round in 1..=2 {
        send_in_parallel(&link, &mut generators, SENT).unwrap();
        let waiting = source.waiting();
        assert!(waiting > 0 && waiting < 10_000, "{waiting} frames wait in 256 KiB");
        drain(&mut source, &mut sink);
        let drops = source.drops();
        assert_eq!(sink.frames + drops.tp_drops, round * SENT, "{drops:?}");
        assert_eq!(drops.packets(), drops.tp_drops);
        assert!(drops.tp_freezes >= round, "{drops:?}");
        assert_eq!(
            source.drops(),
            drops,
            "drops are those since the start, however often they are asked for"
        );
    }
    // And goes on as if nothing had been.
    let packets: Vec<_> = (0..100).map(|number| udp(number, 30)).collect();
    send(&link.sender, &packets);
    let mut sink = Counting::default();
    drain(&mut source, &mut sink);
    sink.assert_exact(Direction::Ingress, &flows_of(&packets));
}

#[test]
#[ignore = "needs root: run `make test`"]
fn no_more_frames_than_asked_for_are_taken_at_a_time() {
    let link = link("limit");
    let mut source = open_one(&link.metered, &options(&link.metered));
    let packets: Vec<_> = (0..50).map(|number| udp(number, 30)).collect();
    send(&link.sender, &packets);
    assert!(wait_until(Duration::from_secs(5), || source.waiting() == 50), "{} wait", source.waiting());
    let mut sink = Counting::default();
    for (limit, taken) in [(0, 0), (1, 1), (19, 19), (100, 30), (100, 0)] {
        assert_eq!(source.receive(now(), limit, &mut sink).unwrap(), taken);
        assert_eq!(sink.frames + source.waiting() as u64, 50);
    }
    sink.assert_exact(Direction::Ingress, &flows_of(&packets));
}

#[test]
#[ignore = "needs root: run `make test`"]
fn tags_that_the_kernel_takes_off_are_given_back() {
    let link = link("tags");
    let mut source = open_one(&link.metered, &options(&link.metered));
    let mut packets = Vec::new();
    for vlans in [vec![], vec![7], vec![100, 9], vec![4094]] {
        packets.push(Packet { vlans, ..udp(0, 40) });
    }
    send(&link.sender, &packets);
    let mut sink = Counting::default();
    drain(&mut source, &mut sink);
    assert_eq!(sink.tags, [(0, 0), (7, 0), (100, 9), (4094, 0)]);
    assert_eq!(sink.stripped, 3);
    sink.assert_exact(Direction::Ingress, &flows_of(&packets));
    // On its way out the tag is where the sender put it.
    let mut source = open_one(&link.sender, &PacketOptions { ways: Ways::Egress, ..options(&link.sender) });
    send(&link.sender, &packets);
    let mut sink = Counting::default();
    drain(&mut source, &mut sink);
    assert_eq!(sink.tags, [(0, 0), (7, 0), (100, 9), (4094, 0)]);
    sink.assert_exact(Direction::Egress, &flows_of(&packets));
}

#[test]
#[ignore = "needs root: run `make test`"]
fn what_comes_in_and_what_goes_out_are_told_apart() {
    let link = link("ways");
    let incoming: Vec<_> = (0..30).map(|number| udp(number, 30)).collect();
    let outgoing: Vec<_> = (100..120).map(|number| udp(number, 50)).collect();
    let options = |ways, sockets| PacketOptions { ways, sockets, ..options(&link.metered) };
    // With two sockets too: the kernel gives a group what goes out, even where its members ignore it.
    for sockets in [1, 2] {
        let mut sources = [Ways::Ingress, Ways::Egress, Ways::Both]
            .map(|ways| open_in(&link.metered.namespace, &options(ways, sockets)));
        send(&link.sender, &incoming);
        send(&link.metered, &outgoing);
        let [sent, received] = [flows_of(&incoming), flows_of(&outgoing)];
        let nothing = Flows::new();
        let expected = [[&sent, &nothing], [&nothing, &received], [&sent, &received]];
        for (sources, [incoming, outgoing]) in sources.iter_mut().zip(expected) {
            let mut sink = Counting::default();
            sources.iter_mut().for_each(|source| drain(source, &mut sink));
            sink.assert_exact(Direction::Ingress, incoming);
            sink.assert_exact(Direction::Egress, outgoing);
            assert!(sources.iter_mut().all(|source| source.drops() == SourceDrops::default()));
        }
    }
}

#[test]
#[ignore = "needs root: run `make test`"]
fn an_interface_is_promiscuous_as_long_as_asked() {
    let link = link("promisc");
    let promiscuity = || {
        let shown = link.metered.namespace.ip(&["-d", "link", "show", &link.metered.name]).unwrap();
        shown.split_whitespace().skip_while(|&word| word != "promiscuity").nth(1).unwrap().to_owned()
    };
    let source = open_one(&link.metered, &PacketOptions { promiscuous: true, ..options(&link.metered) });
    assert_eq!(promiscuity(), "1");
    drop(source);
    assert_eq!(promiscuity(), "0");
}

#[test]
#[ignore = "needs root: run `make test`"]
fn frames_of_every_length_and_kind() {
    let link = link("kinds");
    for end in [&link.sender, &link.metered] {
        end.namespace.ip(&["link", "set", &end.name, "mtu", "9000"]).unwrap();
    }
    let mut source = open_one(&link.metered, &options(&link.metered));
    let socket = PacketSocket::open(&link.sender).unwrap();
    let mut packets: Vec<_> = [0, 1, 200, 1472, 8000, 8972].map(|payload| udp(0, payload)).into();
    let v6 = |last| IpAddr::from(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last));
    packets.push(Packet { payload: vec![1; 8000], ..Packet::new(v6(1), v6(2), Transport::Other(17)) });
    send(&link.sender, &packets);
    // Not IP; a length in place of a type; nothing behind the Ethernet header.
    socket.send(&arp_request(Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2))).unwrap();
    socket.send(&[[2; 12].as_slice(), &[0, 50], &[0x42; 50]].concat()).unwrap();
    socket.send(&[[2; 12].as_slice(), &[8, 0]].concat()).unwrap();
    // 60 headers of destination options: far behind the 256 octets that are copied of most packets.
    let options = |next| [next, 0, 1, 4, 0, 0, 0, 0];
    let mut payload: Vec<u8> = [[options(60); 58].concat(), options(17).into()].concat();
    payload.extend([0, 53, 0x10, 0, 0, 16, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8]);
    let deep = Packet { payload, ..Packet::new(v6(3), v6(4), Transport::Other(60)) };
    socket.send(&deep.frame()).unwrap();

    let mut sink = Counting::default();
    drain(&mut source, &mut sink);
    let mut expected = flows_of(&packets);
    let plain = FlowId { source: v6(1), destination: v6(2), ..packets[6].id() };
    let sums = expected.remove(&plain).unwrap();
    expected.insert(FlowId { source_port: 0x0101, destination_port: 0x0101, ..plain }, sums);
    let deep_flow = FlowId { protocol: 17, source_port: 53, destination_port: 4096, ..deep.id() };
    expected.insert(deep_flow, Sums { packets: 1, octets: deep.ip_length() as u64 });
    sink.assert_exact(Direction::Ingress, &expected);
    assert_eq!(sink.unmetered, BTreeMap::from([("llc", 1), ("not_ip", 1), ("truncated", 1)]));
    assert_eq!(sink.longest, 9014);
    assert_eq!(source.drops(), SourceDrops::default());
}

#[test]
#[ignore = "needs root: run `make test`"]
fn a_link_without_ethernet_header() {
    require_root();
    let namespace = Arc::new(Namespace::new("bare").unwrap());
    let (mut tun, index) =
        namespace.enter(|| (tun::open("t0"), nix::net::if_::if_nametoindex("t0").unwrap())).unwrap();
    let end = LinkEnd { namespace: Arc::clone(&namespace), name: "t0".into(), index };
    end.set("up").unwrap();
    namespace.ip(&["address", "add", "10.0.0.2/24", "dev", "t0"]).unwrap();
    let mut source = open_one(&end, &PacketOptions { ways: Ways::Both, ..options(&end) });
    let incoming = [udp(0, 40), udp(1, 1400), Packet { tos: 8, ..udp(2, 0) }];
    for packet in &incoming {
        tun.write_all(&packet.frame()[14..]).unwrap();
    }
    let socket = namespace.enter(|| std::net::UdpSocket::bind("10.0.0.2:6000")).unwrap().unwrap();
    socket.send_to(&[7; 100], "10.0.0.1:6001").unwrap();
    let mut sink = Counting::default();
    drain(&mut source, &mut sink);
    sink.assert_exact(Direction::Ingress, &flows_of(&incoming));
    let ends =
        [("10.0.0.2", 6000), ("10.0.0.1", 6001)].map(|(address, port)| (address.parse().unwrap(), port));
    let outgoing = &sink.flows[Direction::Egress as usize];
    // The kernel also answers what came for a closed port.
    assert_eq!(outgoing.get(&FlowId::v4(17, ends[0], ends[1])), Some(&Sums { packets: 1, octets: 128 }));
    assert_eq!(sink.unmetered, BTreeMap::new());
    assert_eq!(sink.longest, 14 + 28 + 1400);
}

mod tun {
    //! JUSTIFICATION for unsafe: only an ioctl makes a tun interface that lasts as long as its file.

    use std::{
        fs::{File, OpenOptions},
        os::fd::AsRawFd,
    };

    mod ioctl {
        nix::ioctl_readwrite_bad!(attach, libc::TUNSETIFF, libc::ifreq);
    }

    /// A tun interface in the namespace of this thread.
    pub(super) fn open(name: &str) -> File {
        let file = OpenOptions::new().read(true).write(true).open("/dev/net/tun").unwrap();
        let mut ifr_name = [0; libc::IFNAMSIZ];
        for (to, from) in ifr_name.iter_mut().zip(name.bytes()) {
            *to = libc::c_char::try_from(from).unwrap();
        }
        let flags = libc::c_short::try_from(libc::IFF_TUN | libc::IFF_NO_PI).unwrap();
        let mut request =
            libc::ifreq { ifr_name, ifr_ifru: libc::__c_anonymous_ifr_ifru { ifru_flags: flags } };
        // SAFETY: the kernel reads and writes one `ifreq`, which is what the address is of, and only during the call.
        unsafe { ioctl::attach(file.as_raw_fd(), &raw mut request) }.unwrap();
        file
    }
}

/// Client and server with a router between, and observers on both sides of the router. The router cuts into segments
/// what it sends; its neighbours do not.
struct Routed {
    client: Arc<Namespace>,
    server: Arc<Namespace>,
    near: Link,
    far: Link,
}

impl Routed {
    const CLIENT: &str = "10.1.0.1";
    const SERVER: &str = "10.2.0.1";

    fn new() -> Self {
        require_root();
        let [client, router, server] =
            ["client", "router", "server"].map(|name| Arc::new(Namespace::new(name).unwrap()));
        let near = Link::between(&client, "c0", &router, "r0", 1).unwrap();
        let far = Link::between(&router, "r1", &server, "s0", 1).unwrap();
        for (end, address) in [
            (&near.sender, Self::CLIENT),
            (&near.metered, "10.1.0.254"),
            (&far.sender, "10.2.0.254"),
            (&far.metered, Self::SERVER),
        ] {
            end.add_address(&format!("{address}/24")).unwrap();
        }
        client.ip(&["route", "add", "default", "via", "10.1.0.254"]).unwrap();
        server.ip(&["route", "add", "default", "via", "10.2.0.254"]).unwrap();
        let set = |namespace: &Namespace, name: &str, value: &str| {
            let path = format!("/proc/sys/net/ipv4/{name}");
            namespace.enter(|| std::fs::write(path, value)).unwrap().unwrap();
        };
        set(&router, "ip_forward", "1");
        for end in [&client, &server] {
            // Less under way than the queue of a CPU holds: nothing is dropped between the observers.
            set(end, "tcp_rmem", "4096 65536 131072");
        }
        for name in ["r0", "r1"] {
            router.run("ethtool", &["-K", name, "tso", "off", "gso", "off"]).unwrap();
        }
        Self { client, server, near, far }
    }
}

#[test]
#[ignore = "needs root: run `make test`"]
fn buffers_of_many_segments_count_as_many_packets() {
    const SIZE: usize = 20_000_000;
    let routed = Routed::new();
    let both = |end: &LinkEnd| open_one(end, &PacketOptions { ways: Ways::Both, ..options(end) });
    // Seen by the client: whole buffers out, segments in. By the router's far side: segments out, whole buffers in.
    let (mut near, mut far) = (both(&routed.near.sender), both(&routed.far.sender));
    let (mut near_sink, mut far_sink) = (Counting::default(), Counting::default());
    let server_address: SocketAddr = format!("{}:5001", Routed::SERVER).parse().unwrap();
    let listener = routed.server.enter(|| TcpListener::bind(server_address)).unwrap().unwrap();
    thread::scope(|scope| {
        let server = scope.spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut octets = vec![0; SIZE];
            stream.read_exact(&mut octets).unwrap();
            stream.write_all(&octets).unwrap();
        });
        let client = scope.spawn(|| {
            let mut stream = routed.client.enter(|| TcpStream::connect(server_address)).unwrap().unwrap();
            let sent: Vec<u8> = (0..=250).cycle().take(SIZE).collect();
            let mut reader = stream.try_clone().unwrap();
            stream.write_all(&sent).unwrap();
            let mut received = vec![0; SIZE];
            reader.read_exact(&mut received).unwrap();
            assert!(received == sent, "the transfer came back different");
        });
        while !(server.is_finished() && client.is_finished()) {
            near.receive(now(), 1000, &mut near_sink).unwrap();
            far.receive(now(), 1000, &mut far_sink).unwrap();
            near.rest(Duration::from_millis(1));
        }
        server.join().unwrap();
        client.join().unwrap();
    });
    // The last acknowledgements.
    thread::sleep(SETTLED);
    drain(&mut near, &mut near_sink);
    drain(&mut far, &mut far_sink);
    assert_eq!((near.drops(), far.drops()), (SourceDrops::default(), SourceDrops::default()));

    let tcp = |sink: &Counting, direction: Direction| -> Flows {
        sink.flows[direction as usize].clone().into_iter().filter(|(id, _)| id.protocol == 6).collect()
    };
    for direction in [Direction::Egress, Direction::Ingress] {
        let flows = tcp(&near_sink, direction);
        assert_eq!(flows.len(), 1);
        let sums = flows.values().next().unwrap();
        assert!(sums.packets > SIZE as u64 / 1460 && sums.octets > SIZE as u64, "{sums:?}");
        assert_eq!(difference(&tcp(&far_sink, direction), &flows), None);
    }
    println!(
        "{} buffers of several segments at the client, {} at the router; {} and {} frames",
        near_sink.joined, far_sink.joined, near_sink.frames, far_sink.frames
    );
    // Segments go back to the client one by one, so all its buffers are of what it sent.
    assert!(near_sink.joined > 100 && far_sink.joined > 100);
    assert!(
        near_sink.frames < near_sink.flows.iter().flat_map(BTreeMap::values).map(|sums| sums.packets).sum()
    );
}

fn kernel_before(major: u32, minor: u32) -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split(['.', '-']).map(|number| number.parse::<u32>().unwrap());
    (numbers.next().unwrap(), numbers.next().unwrap()) < (major, minor)
}

#[test]
#[ignore = "needs root: run `make test`"]
fn a_datagram_that_the_kernel_is_to_cut_counts_as_what_it_becomes() {
    let routed = Routed::new();
    let end = &routed.near.sender;
    let mut source = open_one(end, &PacketOptions { ways: Ways::Egress, ..options(end) });
    let socket = routed.client.enter(|| std::net::UdpSocket::bind((Routed::CLIENT, 6000))).unwrap().unwrap();
    nix::sys::socket::setsockopt(&socket, nix::sys::socket::sockopt::UdpGsoSegment, &1000).unwrap();
    for _ in 0..50 {
        socket.send_to(&[7; 20_300], (Routed::SERVER, 6001)).unwrap();
    }
    let mut sink = Counting::default();
    drain(&mut source, &mut sink);
    if kernel_before(6, 2) {
        // It has no name for such buffers in the header that tells their segments, and drops them; which is counted,
        // and the places that it had taken for them are passed over.
        assert_eq!((source.drops().tp_drops, sink.joined), (50, 0));
        return;
    }
    let [client, server] = [Routed::CLIENT, Routed::SERVER].map(|address| address.parse().unwrap());
    let sums = Sums { packets: 50 * 21, octets: 50 * (21 * 28 + 20_300) };
    let mut seen = sink.flows[Direction::Egress as usize].clone();
    seen.retain(|id, _| id.protocol == 17);
    assert_eq!(
        difference(&Flows::from([(FlowId::v4(17, (client, 6000), (server, 6001)), sums)]), &seen),
        None
    );
    assert_eq!(sink.joined, 50);
}

/// Returns when both ends know it: the kernel tells the sender later, and drops until then what that sends.
fn set_up(link: &Link) {
    link.metered.set("up").unwrap();
    for end in [&link.sender, &link.metered] {
        let shown = || end.namespace.ip(&["link", "show", &end.name]).unwrap();
        assert!(wait_until(Duration::from_secs(5), || shown().contains("state UP")), "{}", shown());
    }
}

#[test]
#[ignore = "needs root: run `make test`"]
fn a_link_that_goes_down_and_comes_up_is_received_again() {
    let link = link("down");
    for sockets in [1, 2] {
        let options = PacketOptions { sockets, spread: Spread::Flow, ..options(&link.metered) };
        // Down from the start, where the kernel lets sockets of such an interface share.
        let down = sockets == 1 || !kernel_before(6, 13);
        if down {
            link.metered.set("down").unwrap();
        }
        let mut sources = open_in(&link.metered.namespace, &options);
        set_up(&link);
        let packets: Vec<_> = (0..20).map(|number| udp(number, 30)).collect();
        for _ in 0..2 {
            send(&link.sender, &packets);
            let mut sink = Counting::default();
            sources.iter_mut().for_each(|source| drain(source, &mut sink));
            sink.assert_exact(Direction::Ingress, &flows_of(&packets));
            link.metered.set("down").unwrap();
            for source in &mut sources {
                // The first look takes the error off the socket, and then a rest is a rest.
                source.rest(Duration::from_millis(1));
                assert_eq!(source.receive(now(), 100, &mut sink).unwrap(), 0);
                let watch = Stopwatch::start();
                source.rest(Duration::from_millis(200));
                assert!(watch.elapsed() >= Duration::from_millis(190), "rested {:?}", watch.elapsed());
                assert_eq!(source.receive(now(), 100, &mut sink).unwrap(), 0);
            }
            set_up(&link);
        }
    }
}

#[test]
#[ignore = "needs root: run `make test`"]
fn an_interface_that_goes_is_an_error_once_its_last_frames_are_taken() {
    let link = link("gone");
    let mut source = open_one(&link.metered, &options(&link.metered));
    let packets: Vec<_> = (0..20).map(|number| udp(number, 30)).collect();
    send(&link.sender, &packets);
    link.metered.namespace.ip(&["link", "del", &link.metered.name]).unwrap();
    let mut sink = Counting::default();
    let watch = Stopwatch::start();
    let error = loop {
        match source.receive(now(), 100, &mut sink) {
            Ok(_) => source.rest(Duration::from_millis(10)),
            Err(error) => break error,
        }
        assert!(watch.elapsed() < Duration::from_secs(5), "nobody says that it is gone");
    };
    sink.assert_exact(Direction::Ingress, &flows_of(&packets));
    let text = error.to_string();
    assert!(text.contains("receiving on interface tap0") && text.contains("No such device"), "{text}");
    // And stays one.
    thread::sleep(SETTLED);
    assert!(source.receive(now(), 100, &mut sink).is_err());
    let refusal = link
        .sender
        .namespace
        .enter(|| open(&PacketOptions::new(link.metered.index + 1000, "nosuch0"), now().now));
    let text = refusal.unwrap().unwrap_err().to_string();
    assert!(
        text.contains("binding a packet socket on interface nosuch0") && text.contains("No such device"),
        "{text}"
    );
}

/// Runs itself again with `CAP_NET_RAW` and nothing else.
#[test]
#[ignore = "needs root: run `make test`"]
fn cap_net_raw_is_all_it_needs() {
    const NAME: &str = "cap_net_raw_is_all_it_needs";
    const INDEX: &str = "PROBE_TEST_INTERFACE";
    const PACKETS: u64 = 100;
    if let Ok(index) = std::env::var(INDEX) {
        let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
        assert!(status.contains("CapEff:\t0000000000002000"), "more than CAP_NET_RAW:\n{status}");
        let options = PacketOptions {
            promiscuous: true,
            sockets: 2,
            ways: Ways::Both,
            ..PacketOptions::new(index.parse().unwrap(), "tap0")
        };
        let mut sources = open(&options, now().now).unwrap();
        println!("\nready");
        let mut sink = Counting::default();
        let all = wait_until(Duration::from_secs(10), || {
            sources.iter_mut().for_each(|source| drain(source, &mut sink));
            sink.frames >= PACKETS
        });
        assert!(all && sink.frames == PACKETS, "{} frames", sink.frames);
        assert!(sources.iter_mut().all(|source| source.drops() == SourceDrops::default()));
        return;
    }
    let link = link("caps");
    let mut command = link.metered.namespace.command("setpriv");
    command.args(["--bounding-set=-all,+net_raw", "--inh-caps=-all"]);
    command.arg(std::env::current_exe().unwrap()).args(["--exact", NAME, "--include-ignored", "--nocapture"]);
    let mut child = command
        .env(INDEX, link.metered.index.to_string())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().unwrap()));
    assert!(lines.any(|line| line.unwrap() == "ready"), "the child did not get that far");
    let packets: Vec<_> = (0..100).map(|number| udp(number, 30)).collect();
    send(&link.sender, &packets);
    let rest: Vec<_> = lines.map_while(Result::ok).collect();
    let status = child.wait().unwrap();
    assert!(status.success(), "{status}: {}", rest.join("\n"));
}
