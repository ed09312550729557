// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The joiner against a model that knows nothing of maps and chains, and what must hold whatever comes.

use std::{collections::BTreeSet, time::Duration};

use probe_common::{
    Detail, FlowKey, HashSeed, KEY_BASE_MASK, KEY_VLAN_MASK, Note,
    parse::{Fragment, ParsedPacket},
};
use proptest::{collection::vec, prelude::*};

use super::{Joiner, JoinerCounts, JoinerOptions, Piece};
use crate::flow::Timestamp;

const MS: u64 = 1_000_000;

fn options() -> JoinerOptions {
    JoinerOptions::new(HashSeed::from_random([9; 56]))
}

fn at(milliseconds: u64) -> Timestamp {
    Timestamp(milliseconds * MS)
}

/// A fragment of UDP between two hosts; ports 0 unless it is the first.
fn piece(identification: u32, offset: u16, ports: (u16, u16), number: usize) -> Piece<usize> {
    let mut key = FlowKey::ipv4([10, 0, 0, 1], [10, 0, 0, 2], 17, 0);
    key.set_ports(ports.0, ports.1);
    let packet = ParsedPacket {
        key,
        octets: 1500,
        header_octets: 20,
        tcp_flags: 0,
        fragment: Fragment::new(identification, offset, true),
        note: (offset != 0).then_some(Note::LaterFragment),
        detail: Detail::UNKNOWN,
    };
    Piece { packet, with: number }
}

fn first(identification: u32, ports: (u16, u16), number: usize) -> Piece<usize> {
    piece(identification, 0, ports, number)
}

fn later(identification: u32, number: usize) -> Piece<usize> {
    piece(identification, 100, (0, 0), number)
}

/// Number, ports and note of what came out.
type Out = Vec<(usize, (u16, u16), Option<Note>)>;

fn told(out: &mut Vec<Piece<usize>>) -> Out {
    let tell = |piece: Piece<usize>| {
        let key = piece.packet.key;
        (piece.with, (key.source_port(), key.destination_port()), piece.packet.note)
    };
    out.drain(..).map(tell).collect()
}

fn take(joiner: &mut Joiner<usize>, piece: Piece<usize>, now: u64) -> Out {
    let mut out = Vec::new();
    joiner.take(piece, at(now), &mut out);
    told(&mut out)
}

#[test]
fn later_fragments_get_the_ports_of_their_first_in_either_order() {
    let mut joiner = Joiner::new(options());
    assert_eq!(take(&mut joiner, first(7, (1, 2), 0), 0), [(0, (1, 2), None)]);
    assert_eq!(take(&mut joiner, later(7, 1), 1), [(1, (1, 2), Some(Note::JoinedFragment))]);
    assert_eq!(take(&mut joiner, later(8, 2), 2), []);
    assert_eq!(take(&mut joiner, later(8, 3), 3), []);
    assert_eq!(joiner.held(), 2);
    let joined = Some(Note::JoinedFragment);
    let expected = [(2, (3, 4), joined), (3, (3, 4), joined), (4, (3, 4), None)];
    assert_eq!(take(&mut joiner, first(8, (3, 4), 4), 4), expected);
    assert_eq!(joiner.counts(), JoinerCounts { joined: 3, ..JoinerCounts::default() });
}

#[test]
fn a_fragment_without_first_leaves_after_its_time_without_ports() {
    let mut joiner = Joiner::new(options());
    assert_eq!(take(&mut joiner, later(1, 0), 0), []);
    assert_eq!(take(&mut joiner, later(1, 1), 999), []);
    // Its datagram has waited for a second, and it with it.
    let (left, mut out) = (Some(Note::LaterFragment), Vec::new());
    joiner.expire(at(1000), &mut out);
    assert_eq!(told(&mut out), [(0, (0, 0), left), (1, (0, 0), left)]);
    assert_eq!(take(&mut joiner, first(1, (1, 2), 2), 1001), [(2, (1, 2), None)]);
    assert_eq!(joiner.counts(), JoinerCounts { no_first_in_time: 2, ..JoinerCounts::default() });
}

#[test]
fn a_first_is_forgotten_after_its_time_and_replaced_by_a_new_one() {
    let mut joiner = Joiner::new(options());
    take(&mut joiner, first(1, (1, 2), 0), 0);
    take(&mut joiner, first(1, (3, 4), 1), 1);
    assert_eq!(take(&mut joiner, later(1, 2), 10_000)[0].1, (3, 4));
    assert_eq!(take(&mut joiner, later(1, 3), 10_001), []);
    // A clock that goes back is not followed.
    assert_eq!(take(&mut joiner, later(1, 4), 0), []);
    assert_eq!(joiner.held(), 2);
}

#[test]
fn what_belongs_to_another_datagram_is_not_joined() {
    let known = first(1, (1, 2), 0);
    let change = |change: fn(&mut FlowKey)| {
        let mut piece = later(1, 1);
        change(&mut piece.packet.key);
        piece
    };
    let vlan = change(|key| key.set_vlans(5, 0));
    let same_but = [
        ("tos", change(|key| *key = FlowKey::ipv4([10, 0, 0, 1], [10, 0, 0, 2], 17, 0xb8)), true),
        ("vlan, not asked for", vlan, true),
        ("protocol", change(|key| key.set_protocol(6)), false),
        ("interface", change(|key| key.set_ingress_interface(3)), false),
        ("direction", change(|key| key.set_interface(0, probe_common::Direction::Egress)), false),
        ("source", change(|key| *key = FlowKey::ipv4([10, 0, 0, 9], [10, 0, 0, 2], 17, 0)), false),
        ("way back", change(|key| *key = key.reversed()), false),
        ("identification", later(2, 1), false),
    ];
    for (what, piece, joins) in same_but {
        let mut joiner = Joiner::new(options());
        take(&mut joiner, known, 0);
        assert_eq!(take(&mut joiner, piece, 1).len(), usize::from(joins), "{what}");
    }
    let mut joiner = Joiner::new(JoinerOptions { key_mask: KEY_BASE_MASK | KEY_VLAN_MASK, ..options() });
    take(&mut joiner, known, 0);
    assert_eq!(take(&mut joiner, vlan, 1), []);
}

#[test]
fn the_protocol_of_ipv6_is_that_of_the_first() {
    let fragment = |offset, protocol, ports: (u16, u16)| {
        let mut piece = piece(0xdead_beef, offset, ports, 0);
        piece.packet.key = FlowKey::ipv6([1, 2], [3, 4], protocol, 0);
        piece.packet.key.set_ports(ports.0, ports.1);
        piece
    };
    let mut joiner = Joiner::new(options());
    let mut out = Vec::new();
    // Destination options before UDP: the fragment header of the later one names the options.
    joiner.take(fragment(0, 17, (5, 6)), at(0), &mut out);
    joiner.take(fragment(10, 60, (0, 0)), at(0), &mut out);
    assert_eq!(out[1].packet.key, out[0].packet.key);
    assert_eq!(out.len(), 2);
}

#[test]
fn a_flood_stays_in_its_room_and_is_told() {
    let options = JoinerOptions { firsts: 50, waiting: 60, held: 100, ..options() };
    let mut joiner = Joiner::new(options);
    let (mut out, mut taken) = (Vec::new(), 0u64);
    // Datagrams without first, then fragments of one datagram, then firsts.
    for number in 0..10_000u32 {
        let pieces = [later(number, 0), later(1 << 20, 0), first(number + (1 << 21), (1, 1), 0)];
        for piece in pieces {
            joiner.take(piece, at(0), &mut out);
            taken += 1;
        }
        let (firsts, waiting) = joiner.entries();
        assert!(firsts <= 50 && waiting <= 60 && joiner.held() <= 100);
        assert_eq!(out.len() as u64 + joiner.held() as u64, taken);
    }
    let counts = joiner.counts();
    assert_eq!((counts.joined, counts.no_first_in_time), (0, 0));
    assert_eq!((counts.no_room + counts.held, counts.firsts_forgotten), (20_000, 10_000 - 50));
    // It does not keep others from being joined for long.
    let before = out.len();
    joiner.take(later(3 << 20, 1), at(0), &mut out);
    joiner.take(first(3 << 20, (7, 7), 2), at(0), &mut out);
    assert!(out[before..].iter().any(|piece| piece.with == 1 && piece.packet.key.source_port() == 7));
    joiner.release(&mut out);
    assert_eq!((out.len() as u64, joiner.held()), (taken + 2, 0));
}

/// The same rules, written down without regard to cost.
#[derive(Default)]
struct Model {
    clock: u64,
    firsts: Vec<(u32, (u16, u16), u64)>,
    waiting: Vec<(u32, u64, Vec<usize>)>,
    counts: JoinerCounts,
}

/// Small, so that all limits are met.
const FIRSTS: usize = 3;
const WAITING: usize = 3;
const HELD: usize = 5;

impl Model {
    fn take(&mut self, identification: u32, ports: Option<(u16, u16)>, number: usize, now: u64) -> Out {
        let mut out = self.expire(now);
        let waits = self.waiting.iter().position(|(waiting, ..)| *waiting == identification);
        if let Some(ports) = ports {
            self.firsts.retain(|(known, ..)| *known != identification);
            if self.firsts.len() == FIRSTS {
                let (_, _, since) = self.firsts.remove(0);
                self.counts.firsts_forgotten += u64::from(self.clock - since < 10_000);
            }
            self.firsts.push((identification, ports, self.clock));
            for held in waits.map(|place| self.waiting.remove(place).2).unwrap_or_default() {
                self.counts.joined += 1;
                out.push((held, ports, Some(Note::JoinedFragment)));
            }
            out.push((number, ports, None));
            return out;
        }
        let known = self.firsts.iter().find(|(known, ..)| *known == identification);
        if let Some((_, ports, _)) = known.filter(|(_, _, since)| self.clock - since < 10_000) {
            self.counts.joined += 1;
            out.push((number, *ports, Some(Note::JoinedFragment)));
            return out;
        }
        if self.waiting.iter().map(|(.., held)| held.len()).sum::<usize>() == HELD {
            self.counts.no_room += self.give_up(&mut out);
        }
        match self.waiting.iter_mut().find(|(waiting, ..)| *waiting == identification) {
            Some((.., held)) => held.push(number),
            None => {
                if self.waiting.len() == WAITING {
                    self.counts.no_room += self.give_up(&mut out);
                }
                self.waiting.push((identification, self.clock, vec![number]));
            }
        }
        out
    }

    fn give_up(&mut self, out: &mut Out) -> u64 {
        let (.., held) = self.waiting.remove(0);
        out.extend(held.iter().map(|number| (*number, (0, 0), Some(Note::LaterFragment))));
        held.len() as u64
    }

    fn expire(&mut self, now: u64) -> Out {
        self.clock = self.clock.max(now);
        let mut out = Vec::new();
        while self.waiting.first().is_some_and(|(_, since, _)| self.clock - since >= 1000) {
            self.counts.no_first_in_time += self.give_up(&mut out);
        }
        out
    }
}

proptest! {
    #[test]
    fn it_does_what_the_model_does(
        steps in vec((0..6u32, prop::option::of((1..4u16, 1..4u16)), 0..900u64), 0..400),
    ) {
        let limits = JoinerOptions { firsts: FIRSTS, waiting: WAITING, held: HELD, ..options() };
        let (mut joiner, mut model) = (Joiner::new(limits), Model::default());
        let mut now = 0;
        for (number, (identification, ports, pause)) in steps.into_iter().enumerate() {
            // Sometimes long enough for firsts to be forgotten, sometimes back in time.
            now = match pause {
                0..20 => now + 9900 + pause * 10,
                20..40 => now.saturating_sub(pause),
                _ => now + pause / 3,
            };
            let piece = match ports {
                Some(ports) => first(identification, ports, number),
                None => later(identification, number),
            };
            prop_assert_eq!(take(&mut joiner, piece, now), model.take(identification, ports, number, now));
            let held = model.waiting.iter().map(|(.., held)| held.len() as u64).sum();
            prop_assert_eq!(joiner.known(), model.firsts.len());
            prop_assert_eq!(joiner.counts(), JoinerCounts { held, ..model.counts });
        }
    }

    /// Datagrams of several fragments, in any order within the time that fragments are held.
    #[test]
    fn order_within_the_time_does_not_matter(
        order in Just((0..200usize).collect::<Vec<_>>()).prop_shuffle(),
        pauses in vec(0..5u64, 200),
    ) {
        let mut joiner = Joiner::new(options());
        let (mut out, mut now) = (Vec::new(), 0);
        for (number, pause) in order.into_iter().zip(pauses) {
            now += pause;
            prop_assert!(Duration::from_millis(now) < options().held_for);
            let (datagram, part) = (u16::try_from(number / 4).unwrap(), u16::try_from(number % 4).unwrap());
            let ports = if part == 0 { (datagram + 1, 53) } else { (0, 0) };
            joiner.take(piece(datagram.into(), part * 185, ports, number), at(now), &mut out);
        }
        prop_assert_eq!(joiner.held(), 0);
        let mut numbers = BTreeSet::new();
        for (number, ports, note) in told(&mut out) {
            prop_assert_eq!(usize::from(ports.0), number / 4 + 1);
            prop_assert_eq!(note.is_some(), number % 4 != 0);
            prop_assert!(numbers.insert(number), "twice");
        }
        prop_assert_eq!(numbers.len(), 200);
    }
}
