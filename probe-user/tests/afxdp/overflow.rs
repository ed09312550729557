// SPDX-License-Identifier: Apache-2.0 OR MIT
//! More comes than can be taken: what is not handed over is in the kernel's counters, packet by packet.

use std::sync::atomic::{AtomicBool, Ordering};

use probe_lab::{Generator, Link, Traffic, require_root, send_in_parallel};
use probe_user::{afxdp::HEADROOM, kernel::XdpMode, meter::FrameSource};

use crate::{
    frames,
    metered::{Kept, Metered, Tally, assert_intact, receive_all, receive_exactly},
    send,
};

const PACKETS: u64 = 20_000;

/// Nobody reads until all is sent: what lies in the ring and what was dropped make up the whole, and afterwards the
/// socket works as before. Returns what was dropped, for want of frames and for want of places.
fn overflow(mode: XdpMode, frames: u32, ring: u32) -> (u64, u64) {
    let link = Link::new("xsk", 1).unwrap();
    link.metered.receive_without_xdp().unwrap();
    let test = || {
        let mut metered = Metered::load(&link, 1);
        metered.attach(mode);
        let mut source = metered.open(0, |options| (options.frames, options.ring) = (frames, ring));
        let mut generators = [Generator::load(&link, &Traffic::udp(0, 100)).unwrap()];
        let (mut received, mut sent) = (0, 0);
        for _ in 0..5 {
            send_in_parallel(&link, &mut generators, PACKETS).unwrap();
            sent += PACKETS;
            let waiting = source.waiting();
            let drops = source.drops();
            assert_eq!(received + waiting as u64 + drops.packets(), sent, "{drops:?}");
            receive_exactly(&mut source, waiting, &mut Tally::default());
            received += waiting as u64;
            assert_eq!(source.drops().packets() + received, sent);
            // Few enough for the smallest ring: nothing of them is lost.
            send_in_parallel(&link, &mut generators, 50).unwrap();
            receive_exactly(&mut source, 50, &mut Tally::default());
            (received, sent) = (received + 50, sent + 50);
        }
        let drops = source.drops();
        assert_eq!(drops.packets() + received, sent);
        assert_eq!(drops.rx_invalid_descs, 0);
        assert_eq!(metered.counters().steered_packets, sent);
        (drops.rx_dropped, drops.rx_ring_full)
    };
    link.metered.namespace.enter(test).unwrap()
}

#[test]
#[ignore = "needs root: run `make test`"]
fn nothing_is_uncounted_when_nobody_reads() {
    overflow_in_every_way(XdpMode::Native);
}

#[test]
#[ignore = "needs root: run `make test`"]
fn nothing_is_uncounted_when_nobody_reads_what_generic_xdp_gives() {
    overflow_in_every_way(XdpMode::Generic);
}

fn overflow_in_every_way(mode: XdpMode) {
    require_root();
    // As many places as frames: only frames can be wanting.
    assert_eq!(overflow(mode, 256, 256), (5 * (PACKETS - 256), 0));
    // Fewer places than frames: only places can be wanting, since a frame that found none is used again.
    assert_eq!(overflow(mode, 256, 64), (0, 5 * (PACKETS - 64)));
    // A number of frames that no ring has.
    assert_eq!(overflow(mode, 100, 256), (5 * (PACKETS - 100), 0));
}

#[test]
#[ignore = "needs root: run `make test`"]
fn nothing_is_uncounted_when_the_reader_is_too_slow() {
    require_root();
    const PACKETS: u64 = 400_000;
    for (frames, ring) in [(4096, 4096), (128, 128), (128, 64)] {
        let link = Link::new("xsk", 1).unwrap();
        let test = || {
            let (metered, mut source) =
                Metered::with_socket(&link, |options| (options.frames, options.ring) = (frames, ring));
            let mut generators = [Generator::load(&link, &Traffic::udp(0, 1000)).unwrap()];
            let mut tally = Tally::default();
            let sent_all = AtomicBool::new(false);
            std::thread::scope(|scope| {
                let sender = scope.spawn(|| {
                    let sent = send_in_parallel(&link, &mut generators, PACKETS);
                    sent_all.store(true, Ordering::Release);
                    sent
                });
                // The order matters: what was sent before the flag was seen has come by then.
                while !sent_all.load(Ordering::Acquire) {
                    receive_all(&mut source, &mut tally).unwrap();
                }
                sender.join().unwrap().unwrap();
            });
            receive_all(&mut source, &mut tally).unwrap();
            assert_intact(&source);
            let drops = source.drops();
            assert_eq!(tally.packets + drops.packets(), PACKETS, "{drops:?}");
            assert_eq!(metered.counters().steered_packets, PACKETS);
            println!("{frames} frames, {ring} places: {} received, {drops:?}", tally.packets);
        };
        link.metered.namespace.enter(test).unwrap();
    }
}

#[test]
#[ignore = "needs root: run `make test`"]
fn a_packet_of_several_frames_is_dropped_whole_and_counted_once() {
    require_root();
    let link = Link::new("xsk", 1).unwrap();
    for end in [&link.sender, &link.metered] {
        end.namespace.ip(&["link", "set", &end.name, "mtu", "9000"]).unwrap();
    }
    let sent = frames((60..9000).step_by(37));
    let buffers = |length: usize| length.div_ceil(2048 - HEADROOM as usize);
    let test = || {
        for (frames, ring) in [(64, 64), (128, 64), (64, 128)] {
            let (metered, mut source) = Metered::with_socket(&link, |options| {
                (options.frames, options.ring, options.multi_buffer) = (frames, ring, true);
            });
            let mut dropped = 0;
            for _ in 0..5 {
                send(&link, &sent);
                let waiting = source.waiting();
                let mut kept = Kept::default();
                let received = receive_all(&mut source, &mut kept).unwrap();
                assert_eq!(kept.lengths.iter().map(|&length| buffers(length)).sum::<usize>(), waiting);
                assert_intact(&source);
                // Only whole packets, in the order in which they were sent.
                let mut later = sent.iter();
                for (octets, &length) in kept.frames.iter().zip(&kept.lengths) {
                    assert!(later.any(|frame| frame.len() == length && frame.starts_with(octets)));
                }
                assert!(received < sent.len());
                dropped += (sent.len() - received) as u64;
                assert_eq!(source.drops().packets(), dropped, "{frames} frames, {ring} places");
            }
            assert_eq!(metered.counters().steered_packets, 5 * sent.len() as u64);
        }
    };
    link.metered.namespace.enter(test).unwrap();
}
