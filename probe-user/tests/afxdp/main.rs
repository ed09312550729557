// SPDX-License-Identifier: Apache-2.0 OR MIT
//! AF_XDP sockets on cables (veth), fed by the probe's own program: every frame that was sent is handed over as it
//! was, or is in one of the kernel's counters; whatever happens, no frame of a socket's memory is lost.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

mod life;
mod metered;
mod overflow;

use std::{net::Ipv4Addr, time::Duration};

use probe_lab::{
    Generator, Link, Traffic,
    clock::wait_until,
    difference,
    packet_socket::PacketSocket,
    packets::{Packet, Transport},
    require_root, send_in_parallel,
};
use probe_user::{
    afxdp::{AfXdpSource, BusyPoll, HEADROOM},
    kernel::XdpMode,
    meter::FrameSource,
};

use metered::{Kept, Metered, SOON, Tally, moment, receive_all, receive_exactly};

/// Frames of these lengths, no two alike.
fn frames(lengths: impl Iterator<Item = usize>) -> Vec<Vec<u8>> {
    let frame = |(number, length): (usize, usize)| {
        let transport = Transport::Udp { source: 1000, destination: 2000 };
        let (from, to) = (Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(192, 0, 2, 2));
        let mut packet = Packet::new(from.into(), to.into(), transport);
        let octet = |place: usize| u8::try_from((number * 31 + place * 7) % 256).unwrap();
        packet.payload = (0..length - 42).map(octet).collect();
        packet.frame()
    };
    lengths.enumerate().map(frame).collect()
}

fn send(link: &Link, frames: &[Vec<u8>]) {
    let socket = PacketSocket::open(&link.sender).unwrap();
    for frame in frames {
        socket.send(frame).unwrap();
    }
}

#[test]
#[ignore = "needs root: run `make test`"]
fn every_frame_comes_as_it_was_sent_in_order() {
    require_root();
    for mode in [XdpMode::Native, XdpMode::Generic] {
        for socket_first in [true, false] {
            let link = Link::new("xsk", 1).unwrap();
            let sent = frames((42..=1514).step_by(3));
            let test = || {
                let mut metered = Metered::load(&link, 1);
                let mut source = socket_first.then(|| metered.open(0, |_| {}));
                metered.attach(mode);
                let source = source.get_or_insert_with(|| metered.open(0, |_| {}));
                send(&link, &sent);
                let mut kept = Kept::default();
                receive_exactly(source, sent.len(), &mut kept);
                assert_eq!(kept.frames, sent, "{mode:?}");
                assert!(kept.lengths.iter().eq(kept.frames.iter().map(Vec::len).collect::<Vec<_>>().iter()));
                assert_eq!((kept.interface, source.interface()), (metered.index, metered.index));
                assert_eq!(source.drops().packets(), 0);
                let counters = metered.counters();
                assert_eq!((counters.received_packets, counters.steered_packets), {
                    let sent = sent.len() as u64;
                    (sent, sent)
                });
            };
            link.metered.namespace.enter(test).unwrap();
        }
    }
}

#[test]
#[ignore = "needs root: run `make test`"]
fn the_flows_of_a_fast_sender_come_whole() {
    require_root();
    let link = Link::new("xsk", 1).unwrap();
    let test = || {
        let (metered, mut source) = Metered::with_socket(&link, |_| {});
        let mut generators = [Generator::load(&link, &Traffic::udp(0, 1000)).unwrap()];
        let mut tally = Tally::default();
        // Each round fits into the socket's memory, so that nothing may be lost.
        for round in 1..=50 {
            send_in_parallel(&link, &mut generators, 4000).unwrap();
            receive_exactly(&mut source, 4000, &mut tally);
            assert_eq!(tally.packets, round * 4000);
        }
        assert_eq!(difference(&generators[0].expected().unwrap(), &tally.flows), None);
        assert_eq!(source.drops().packets(), 0);
        assert_eq!(metered.counters().steered_packets, 200_000);
    };
    link.metered.namespace.enter(test).unwrap();
}

#[test]
#[ignore = "needs root: run `make test`"]
fn each_queue_has_its_socket_and_a_queue_without_one_is_metered_in_the_kernel() {
    require_root();
    const EACH: u32 = 3000;
    const PACKETS: u64 = EACH as u64;
    let link = Link::for_many_senders("xsk").unwrap();
    let queues = link.metered.namespace.run("ls", &["/sys/class/net/tap0/queues"]).unwrap();
    let queues =
        u32::try_from(queues.split_whitespace().filter(|name| name.starts_with("rx-")).count()).unwrap();
    let test = || {
        let mut metered = Metered::load(&link, queues);
        metered.attach(XdpMode::Native);
        let mut sources: Vec<AfXdpSource> = (0..queues).map(|queue| metered.open(queue, |_| {})).collect();
        // Each on a CPU of its own, and a cable takes the queue by the sender's CPU.
        let traffics = (0..queues).map(|number| Traffic::udp(number * 500, 500));
        let mut generators: Vec<_> =
            traffics.map(|traffic| Generator::load(&link, &traffic).unwrap()).collect();
        send_in_parallel(&link, &mut generators, PACKETS).unwrap();
        for (source, generator) in sources.iter_mut().zip(&generators) {
            let mut tally = Tally::default();
            receive_exactly(source, EACH as usize, &mut tally);
            assert_eq!(difference(&generator.expected().unwrap(), &tally.flows), None);
        }
        let all = PACKETS * u64::from(queues);
        assert_eq!(metered.counters().steered_packets, all);

        metered.program.unset_socket(0).unwrap();
        send_in_parallel(&link, &mut generators, PACKETS).unwrap();
        let counters = metered.counters();
        assert_eq!(counters.received_packets, 2 * all);
        assert_eq!(counters.steered_packets, 2 * all - PACKETS);
        assert_eq!(receive_all(&mut sources[0], &mut Tally::default()).unwrap(), 0);
        for source in &mut sources[1..] {
            receive_exactly(source, EACH as usize, &mut Tally::default());
        }
    };
    link.metered.namespace.enter(test).unwrap();
}

#[test]
#[ignore = "needs root: run `make test`"]
fn frames_of_several_buffers_have_their_headers_and_their_whole_length() {
    require_root();
    let link = Link::new("xsk", 1).unwrap();
    for end in [&link.sender, &link.metered] {
        end.namespace.ip(&["link", "set", &end.name, "mtu", "9000"]).unwrap();
    }
    // Around every boundary between buffers; more packets and buffers than one batch has.
    let buffer = 2048 - HEADROOM as usize;
    let around = (1..=5).flat_map(|count| count * buffer - 2..=count * buffer + 2);
    let lengths: Vec<usize> = around.chain((60..9014).step_by(111)).chain([9014]).collect();
    let sent = frames(lengths.iter().copied());
    let test = || {
        for multi_buffer in [true, false] {
            let (metered, mut source) =
                Metered::with_socket(&link, |options| options.multi_buffer = multi_buffer);
            assert!(metered.attachment.as_ref().unwrap().multi_buffer());
            assert_eq!(source.status().multi_buffer, multi_buffer, "{:?}", source.binding());
            assert_eq!(source.binding().longest_in_one_frame as usize, buffer);
            send(&link, &sent);
            let fits = |frame: &&Vec<u8>| multi_buffer || frame.len() <= buffer;
            let expected: Vec<&Vec<u8>> = sent.iter().filter(fits).collect();
            let mut kept = Kept::default();
            receive_exactly(&mut source, expected.len(), &mut kept);
            for ((frame, octets), length) in expected.iter().zip(&kept.frames).zip(&kept.lengths) {
                assert_eq!(*length, frame.len());
                assert_eq!(octets.as_slice(), &frame[..frame.len().min(buffer)]);
            }
            let dropped = sent.len() - expected.len();
            assert_eq!(source.drops().rx_dropped, dropped as u64);
            assert_eq!(source.drops().packets(), dropped as u64);
            assert_eq!(metered.counters().steered_packets, sent.len() as u64);
        }
    };
    link.metered.namespace.enter(test).unwrap();
}

#[test]
#[ignore = "needs root: run `make test`"]
fn a_worker_may_sleep_or_drive_the_driver() {
    require_root();
    let link = Link::new("xsk", 1).unwrap();
    let sent = frames(100..300);
    let test = || {
        let busy_poll = BusyPoll { duration: Duration::from_micros(50), budget: 64 };
        for busy_poll in [None, Some(busy_poll)] {
            let (_metered, mut source) = Metered::with_socket(&link, |options| options.busy_poll = busy_poll);
            assert_eq!(source.waiting(), 0);
            source.rest(Duration::from_millis(1));
            send(&link, &sent);
            source.rest(SOON);
            assert!(wait_until(SOON, || source.waiting() == sent.len()));
            let mut kept = Kept::default();
            assert_eq!(source.receive(moment(), 10, &mut kept).unwrap(), 10);
            assert_eq!(source.waiting(), sent.len() - 10);
            receive_exactly(&mut source, sent.len() - 10, &mut kept);
            assert_eq!(kept.frames, sent);
            assert_eq!(source.waiting(), 0);
        }
    };
    link.metered.namespace.enter(test).unwrap();
}
