// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The timer wheel: which flows to look at when.
//!
//! ```text
//! step   cursor      cursor+1    …                cursor+4095
//! list   ids whose deadline lies in this step     … or beyond: they are looked at, and armed again
//! ```
//!
//! A step is 2^27 ns (134 ms); 4096 of them reach 549 s ahead. A list is due once its step is over, so a
//! flow that is looked at is late by a step at most, and never early. Every live flow is in exactly one
//! list. Lists are circular and doubly linked through 8 octets a flow; their heads are links behind those
//! of the flows, so unlinking needs no search.

use std::io;

use super::{
    live_flow::FlowId,
    memory::{Mapping, Residence},
    time::Timestamp,
    timer_link::Link,
};

/// Lists of the wheel.
const LISTS: u32 = 4096;
/// Steps that the wheel reaches ahead.
const REACH: u64 = LISTS as u64 - 1;
const STEP_SHIFT: u32 = 27;
const WORDS: usize = 64;

const _: () = assert!(LISTS as usize == 64 * WORDS, "one bit a list, one summary bit a word");

pub(super) struct Wheel {
    links: Mapping<Link>,
    /// Id of the first head.
    heads: u32,
    /// The first step that is not over yet, as far as was looked.
    cursor: u64,
    /// Which lists are not empty, and which words of that are not zero.
    occupied: [u64; WORDS],
    summary: u64,
}

fn step_of(time: Timestamp) -> u64 {
    time.0 >> STEP_SHIFT
}

fn list_of(step: u64) -> u32 {
    (step & 0xfff) as u32
}

impl Wheel {
    pub(super) fn octets(capacity: u32) -> usize {
        Mapping::<Link>::octets(capacity as usize + LISTS as usize)
    }

    pub(super) fn new(capacity: u32, start: Timestamp, residence: Residence) -> io::Result<Self> {
        let mut links = Mapping::<Link>::new(capacity as usize + LISTS as usize, residence)?;
        for (head, link) in (capacity..).zip(&mut links[capacity as usize..]) {
            *link = Link { next: head, previous: head };
        }
        Ok(Self { links, heads: capacity, cursor: step_of(start), occupied: [0; WORDS], summary: 0 })
    }

    /// Arms a flow that is in no list.
    pub(super) fn arm(&mut self, id: FlowId, deadline: Timestamp) {
        let step = step_of(deadline).clamp(self.cursor, self.cursor + REACH);
        self.append(step, id);
    }

    /// Takes a flow out of its list.
    pub(super) fn disarm(&mut self, id: FlowId) {
        let Link { next, previous } = self.link(id);
        self.links[previous as usize].next = next;
        self.links[next as usize].previous = previous;
        if next == previous && next >= self.heads {
            let list = (next - self.heads) as usize;
            self.occupied[list / 64] &= !(1 << (list % 64));
            if self.occupied[list / 64] == 0 {
                self.summary &= !(1 << (list / 64));
            }
        }
    }

    /// Whether the place where `deadline` belongs lies after the step `at`.
    pub(super) fn belongs_after(&self, at: u64, deadline: Timestamp) -> bool {
        step_of(deadline) > at && at < self.cursor + REACH
    }

    /// The earliest step with a flow, and the flow that was armed there first.
    pub(super) fn earliest(&self) -> Option<(u64, FlowId)> {
        let list = self.first_occupied()?;
        let ahead = u64::from(list.wrapping_sub(list_of(self.cursor)) % LISTS);
        Some((self.cursor + ahead, self.link(self.head(list)).next))
    }

    /// Up to `ids.len()` flows of the earliest list that is over at `now`; 0 when none is. They stay in
    /// their list: the caller disarms each, and arms again those that go on.
    pub(super) fn due(&mut self, now: Timestamp, ids: &mut [FlowId]) -> usize {
        let over = step_of(now);
        // A leap over the whole wheel: every list is over, each is met once.
        self.cursor = self.cursor.max(over.saturating_sub(REACH + 1));
        let Some((step, _)) = self.earliest().filter(|&(step, _)| step < over) else {
            self.cursor = self.cursor.max(over);
            return 0;
        };
        self.cursor = step;
        self.take(step, ids)
    }

    /// The first flows of the earliest list; they stay in it.
    pub(super) fn peek(&self, ids: &mut [FlowId]) -> usize {
        self.earliest().map_or(0, |(step, _)| self.take(step, ids))
    }

    fn take(&self, step: u64, ids: &mut [FlowId]) -> usize {
        let mut next = self.link(self.head(list_of(step))).next;
        let mut taken = 0;
        for place in ids {
            if next >= self.heads {
                break;
            }
            *place = next;
            taken += 1;
            next = self.link(next).next;
        }
        taken
    }

    /// Whether a list is over at `now` and not empty.
    pub(super) fn is_due(&self, now: Timestamp) -> bool {
        self.earliest().is_some_and(|(step, _)| step < step_of(now))
    }

    /// Has every flow looked at once the current step is over, because deadlines came nearer.
    pub(super) fn look_at_all(&mut self) {
        if self.summary == 0 {
            return;
        }
        let here = self.head(list_of(self.cursor));
        for list in 0..LISTS {
            let head = self.head(list);
            let Link { next: first, previous: last } = self.link(head);
            if head == here || first == head {
                continue;
            }
            let end = self.link(here).previous;
            self.links[end as usize].next = first;
            self.links[first as usize].previous = end;
            self.links[last as usize].next = here;
            self.links[here as usize].previous = last;
            self.links[head as usize] = Link { next: head, previous: head };
        }
        self.occupied = [0; WORDS];
        self.summary = 0;
        self.mark(list_of(self.cursor));
    }

    fn append(&mut self, step: u64, id: FlowId) {
        let list = list_of(step);
        let head = self.head(list);
        let previous = self.link(head).previous;
        self.links[previous as usize].next = id;
        self.links[id as usize] = Link { next: head, previous };
        self.links[head as usize].previous = id;
        self.mark(list);
    }

    fn mark(&mut self, list: u32) {
        self.occupied[(list / 64) as usize] |= 1 << (list % 64);
        self.summary |= 1 << (list / 64);
    }

    fn link(&self, id: u32) -> Link {
        self.links[id as usize]
    }

    /// The link that heads a list.
    fn head(&self, list: u32) -> u32 {
        self.heads + list
    }

    /// The first list with a flow, in the order of steps from the cursor on.
    fn first_occupied(&self) -> Option<u32> {
        if self.summary == 0 {
            return None;
        }
        let from = list_of(self.cursor);
        let word = from / 64;
        let here = self.occupied[word as usize] >> (from % 64);
        if here != 0 {
            return Some(from + here.trailing_zeros());
        }
        // Whole words after this one, then from the start; the low bits of this word come last of all.
        let after = if word == 63 { 0 } else { self.summary >> (word + 1) << (word + 1) };
        let found = if after != 0 { after } else { self.summary }.trailing_zeros();
        Some(found * 64 + self.occupied[found as usize].trailing_zeros())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: u64 = 1 << STEP_SHIFT;

    fn at(step: u64) -> Timestamp {
        Timestamp(step * STEP + 5)
    }

    fn due(wheel: &mut Wheel, now: Timestamp) -> Vec<FlowId> {
        let mut all = Vec::new();
        let mut ids = [0; 2];
        loop {
            let taken = wheel.due(now, &mut ids);
            if taken == 0 {
                return all;
            }
            for &id in &ids[..taken] {
                wheel.disarm(id);
                all.push(id);
            }
        }
    }

    #[test]
    fn flows_are_due_once_their_step_is_over_in_the_order_of_steps() {
        let mut wheel = Wheel::new(8, at(100), Residence::FromTheStart).unwrap();
        for (id, step) in [(0, 103), (1, 101), (2, 103), (3, 99), (4, 4195)] {
            wheel.arm(id, at(step));
        }
        assert!(due(&mut wheel, at(100)).is_empty());
        assert!(!wheel.is_due(at(100)) && wheel.is_due(at(101)));
        assert_eq!(due(&mut wheel, at(103)), [3, 1]);
        assert_eq!(due(&mut wheel, at(104)), [0, 2]);
        assert!(due(&mut wheel, at(4195)).is_empty());
        assert_eq!(due(&mut wheel, at(4196)), [4]);
        assert_eq!(wheel.earliest(), None);
    }

    #[test]
    fn the_earliest_list_is_found_wherever_the_cursor_stands() {
        for start in [0, 1, 63, 64, 4031, 4032, 4095, 4096, 123_456] {
            for ahead in [0, 1, 62, 63, 64, 65, 4000, 4094, 4095] {
                let mut wheel = Wheel::new(2, at(start), Residence::FromTheStart).unwrap();
                wheel.arm(0, at(start + ahead));
                assert_eq!(wheel.earliest(), Some((start + ahead, 0)), "{start} + {ahead}");
                wheel.disarm(0);
                assert_eq!(wheel.earliest(), None);
            }
        }
    }

    #[test]
    fn a_deadline_beyond_the_reach_is_looked_at_early_and_a_leap_misses_nothing() {
        let mut wheel = Wheel::new(4, at(7), Residence::FromTheStart).unwrap();
        wheel.arm(0, at(1_000_000));
        wheel.arm(1, Timestamp(u64::MAX));
        wheel.arm(2, at(9));
        assert_eq!(wheel.earliest(), Some((9, 2)));
        let mut all = due(&mut wheel, at(5_000_000));
        all.sort_unstable();
        assert_eq!(all, [0, 1, 2]);
        wheel.arm(3, at(5_000_001));
        assert_eq!(due(&mut wheel, at(5_000_002)), [3]);
        assert!(due(&mut wheel, Timestamp(u64::MAX)).is_empty());
    }

    #[test]
    fn looking_at_all_gathers_every_list() {
        let mut wheel = Wheel::new(6, at(50), Residence::FromTheStart).unwrap();
        for (id, step) in [(0, 50), (1, 60), (2, 60), (3, 4000), (4, 49)] {
            wheel.arm(id, at(step));
        }
        wheel.look_at_all();
        assert!(due(&mut wheel, at(50)).is_empty());
        let mut all = due(&mut wheel, at(51));
        all.sort_unstable();
        assert_eq!(all, [0, 1, 2, 3, 4]);
        wheel.look_at_all();
        assert_eq!(wheel.earliest(), None);
    }
}
