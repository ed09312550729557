// SPDX-License-Identifier: Apache-2.0 OR MIT
//! fragment → fragment with ports.
//!
//! Its clock is the latest time that it was told; it never goes back. A fragment costs a look into two maps, whatever
//! they hold. Those that are given up come out together, but each was put in once.

use std::time::Duration;

use probe_common::{HashSeed, KEY_BASE_MASK, Note, parse::ParsedPacket};

use super::{
    aged_map::AgedMap,
    datagram::{Datagram, First},
    shelf::{Chain, Shelf},
};
use crate::flow::Timestamp;

/// How much is remembered, and for how long.
#[derive(Clone, Copy, Debug)]
pub struct JoinerOptions {
    /// Datagrams whose first fragment is remembered.
    pub firsts: usize,
    /// For how long it is. IPv4 identifications repeat (RFC 6864): remembered for too long, a first would lend its
    /// ports to fragments of another datagram that come before theirs.
    pub known_for: Duration,
    /// Datagrams whose first fragment is waited for.
    pub waiting: usize,
    /// Fragments of all of them that are held back.
    pub held: usize,
    /// For how long, from the first of a datagram that is.
    pub held_for: Duration,
    /// Which bits of key word 5 make flows differ.
    pub key_mask: u64,
    /// Seed of the hash of datagrams.
    pub seed: HashSeed,
}

impl JoinerOptions {
    /// What suits a link of any speed; about 4 MiB.
    #[must_use]
    pub fn new(seed: HashSeed) -> Self {
        Self {
            firsts: 16_384,
            known_for: Duration::from_secs(10),
            waiting: 4096,
            held: 8192,
            held_for: Duration::from_secs(1),
            key_mask: KEY_BASE_MASK,
            seed,
        }
    }
}

/// A fragment, and what its owner wants back with it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Piece<T> {
    /// What the parser read, with the interface.
    pub packet: ParsedPacket,
    /// The owner's.
    pub with: T,
}

/// What became of later fragments.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct JoinerCounts {
    /// Given the ports of their first.
    pub joined: u64,
    /// Let go without ports: their first had not come in time, or not before the end.
    pub no_first_in_time: u64,
    /// Let go without ports before their time: there was no room to hold more.
    pub no_room: u64,
    /// Firsts that were forgotten before their time, for want of room.
    pub firsts_forgotten: u64,
    /// Held back now.
    pub held: u64,
}

impl JoinerCounts {
    /// Those of two joiners together.
    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        Self {
            joined: self.joined + other.joined,
            no_first_in_time: self.no_first_in_time + other.no_first_in_time,
            no_room: self.no_room + other.no_room,
            firsts_forgotten: self.firsts_forgotten + other.firsts_forgotten,
            held: self.held + other.held,
        }
    }
}

/// See the module.
pub struct Joiner<T> {
    options: JoinerOptions,
    clock: Timestamp,
    firsts: AgedMap<First>,
    waiting: AgedMap<Chain>,
    shelf: Shelf<Piece<T>>,
    counts: JoinerCounts,
}

impl<T> Joiner<T> {
    /// One that knows nothing yet.
    #[must_use]
    pub fn new(options: JoinerOptions) -> Self {
        Self {
            options,
            clock: Timestamp::default(),
            firsts: AgedMap::new(options.firsts, options.seed),
            waiting: AgedMap::new(options.waiting, options.seed),
            shelf: Shelf::new(options.held),
            counts: JoinerCounts::default(),
        }
    }

    /// Octets that one with these options takes, once it has been full.
    #[must_use]
    pub fn memory_octets(options: &JoinerOptions) -> usize {
        AgedMap::<First>::memory_octets(options.firsts)
            + AgedMap::<Chain>::memory_octets(options.waiting)
            + Shelf::<Piece<T>>::memory_octets(options.held)
    }

    /// Fragments that are held back.
    #[must_use]
    pub fn held(&self) -> usize {
        self.shelf.len()
    }

    /// What became of later fragments since the start.
    #[must_use]
    pub fn counts(&self) -> JoinerCounts {
        JoinerCounts { held: self.shelf.len() as u64, ..self.counts }
    }

    /// Datagrams whose first fragment is remembered now.
    #[must_use]
    pub fn known(&self) -> usize {
        self.firsts.len()
    }

    /// Takes a fragment that came at `now`, the first of its datagram or a later one. To `out` goes what needs to be
    /// held no longer: it, or others, or nothing. Those whose time was over are among them.
    pub fn take(&mut self, piece: Piece<T>, now: Timestamp, out: &mut Vec<Piece<T>>) {
        self.expire(now, out);
        let datagram = Datagram::of(&piece.packet, self.options.key_mask);
        if piece.packet.fragment.is_first() {
            let first = First::of(&piece.packet.key);
            self.remember(datagram, first);
            if let Some(chain) = self.waiting.remove(&datagram) {
                self.counts.joined += self.shelf.take(chain, |held| out.push(joined(held, first)));
            }
            out.push(piece);
        } else if let Some(first) = self.first_of(&datagram) {
            self.counts.joined += 1;
            out.push(joined(piece, first));
        } else {
            self.hold(datagram, piece, out);
        }
    }

    /// Lets those go whose first has not come in time.
    pub fn expire(&mut self, now: Timestamp, out: &mut Vec<Piece<T>>) {
        self.clock = self.clock.max(now);
        let (clock, held_for) = (self.clock, self.options.held_for);
        let is_over = |since| clock.since(since) >= held_for;
        while self.waiting.oldest().is_some_and(is_over) {
            self.counts.no_first_in_time += self.give_up_oldest(out);
        }
    }

    /// Lets all go that are held: no more fragments will come.
    pub fn release(&mut self, out: &mut Vec<Piece<T>>) {
        while self.held() > 0 {
            self.counts.no_first_in_time += self.give_up_oldest(out);
        }
    }

    fn first_of(&mut self, datagram: &Datagram) -> Option<First> {
        let (first, at) = self.firsts.get(datagram)?;
        (self.clock.since(at) < self.options.known_for).then_some(*first)
    }

    /// A first with the identification of one that is known is that of a new datagram.
    fn remember(&mut self, datagram: Datagram, first: First) {
        self.firsts.remove(&datagram);
        if self.firsts.is_full() {
            let age = self.firsts.oldest().map(|at| self.clock.since(at));
            self.counts.firsts_forgotten += u64::from(age < Some(self.options.known_for));
            self.firsts.pop_oldest();
        }
        self.firsts.insert(datagram, first, self.clock);
    }

    /// Who has been held longest makes room.
    fn hold(&mut self, datagram: Datagram, piece: Piece<T>, out: &mut Vec<Piece<T>>) {
        if self.shelf.is_full() {
            self.counts.no_room += self.give_up_oldest(out);
        }
        if let Some((chain, _)) = self.waiting.get(&datagram) {
            return self.shelf.append(chain, piece);
        }
        if self.waiting.is_full() {
            self.counts.no_room += self.give_up_oldest(out);
        }
        let chain = self.shelf.begin(piece);
        self.waiting.insert(datagram, chain, self.clock);
    }

    fn give_up_oldest(&mut self, out: &mut Vec<Piece<T>>) -> u64 {
        match self.waiting.pop_oldest() {
            Some(chain) => self.shelf.take(chain, |held| out.push(held)),
            None => 0,
        }
    }

    #[cfg(test)]
    pub(super) fn entries(&self) -> (usize, usize) {
        (self.firsts.len(), self.waiting.len())
    }
}

fn joined<T>(mut piece: Piece<T>, first: First) -> Piece<T> {
    first.tell(&mut piece.packet.key);
    piece.packet.note = Some(Note::JoinedFragment);
    piece
}
