// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A bounded place where a record waits for that of the opposite direction.
//!
//! Two records are a conversation if their addresses and ports are each other's, interface, protocol,
//! IP version and VLANs agree (the type of service need not), and their times overlap or nearly touch. A
//! mirror port sees both come in, an interface of the host one come in and the other go out: the direction through
//! the interface need not agree, either. Of several candidates the one that overlaps most is taken. ICMP pairs echo requests with echo replies; what
//! can have no answer does not wait: other ICMP, and packets to many.
//!
//! Forward is the direction that began first (RFC 5103 section 2, "initiator"). Where both began at once,
//! as far as the clock can tell, it is the one to the lower port; an echo request comes before its reply.

use std::{net::IpAddr, time::Duration};

use hashbrown::HashTable;
use probe_common::FlowKey;

use crate::{
    export::select::{ConversationHash, SHARED_MASK},
    flow::{FlowRecord, Timestamp},
};

/// Records whose times are no further apart than the default idle timeout may be one conversation.
const ADJACENT_NS: u64 = 15_000_000_000;
/// Records of one conversation that wait at once.
const MAX_ALIKE: usize = 8;
const NOBODY: usize = usize::MAX;

const ICMP: u8 = 1;
const ICMPV6: u8 = 58;
/// Type × 256 + code of echo request and reply: RFC 792, RFC 4443 section 4.
const ECHO: [(u8, u16, u16); 2] = [(ICMP, 8 << 8, 0), (ICMPV6, 128 << 8, 129 << 8)];

/// How many records wait, and how long.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PairingLimits {
    /// Records; when all places are taken, the one that has waited longest leaves alone.
    pub records: usize,
    /// A record leaves alone after this time.
    pub wait: Duration,
}

impl Default for PairingLimits {
    fn default() -> Self {
        Self { records: 1 << 16, wait: Duration::from_secs(2) }
    }
}

impl PairingLimits {
    /// Most memory that a pairing takes, in octets: places, and an index half full.
    #[must_use]
    pub fn memory_octets(&self) -> usize {
        self.records * (size_of::<Place>() + 2 * (size_of::<usize>() + 1))
    }
}

/// What leaves because a record came.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Leaving {
    /// Nothing: the record waits.
    Nothing,
    /// A record that stays without its reverse: the new one, or an older one that made room.
    Alone(FlowRecord),
    /// A conversation.
    Pair {
        /// Of who began.
        forward: FlowRecord,
        /// The answers.
        reverse: FlowRecord,
    },
}

/// A place in the list of those that wait, in the order in which they came.
#[derive(Clone, Copy, Debug)]
struct Place {
    record: FlowRecord,
    hash: u64,
    came: Timestamp,
    older: usize,
    /// In a free place: the next free one.
    newer: usize,
}

/// See the module.
pub struct Pairing {
    limits: PairingLimits,
    conversations: ConversationHash,
    places: Vec<Place>,
    /// Places by the hash of their conversation.
    index: HashTable<usize>,
    oldest: usize,
    newest: usize,
    free: usize,
}

impl Pairing {
    /// Nobody waits yet; memory is taken as it is needed, up to the limit.
    #[must_use]
    pub fn new(limits: PairingLimits, conversations: ConversationHash) -> Self {
        Self {
            limits,
            conversations,
            places: Vec::new(),
            index: HashTable::new(),
            oldest: NOBODY,
            newest: NOBODY,
            free: NOBODY,
        }
    }

    /// Records that wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Whether none waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// Takes a record in; at most one record or one pair leaves for it.
    pub fn push(&mut self, record: &FlowRecord, now: Timestamp) -> Leaving {
        if !can_be_answered(&record.key) || self.limits.records == 0 {
            return Leaving::Alone(*record);
        }
        let hash = self.conversations.hash(&record.key);
        let (mut best, mut alike, mut longest) = (None::<(i128, usize)>, 0, None);
        for place in self.index.iter_hash(hash).copied() {
            let waiting = &self.places[place];
            if is_reverse(&waiting.record.key, &record.key) {
                let apart = apart_ns(&waiting.record, record);
                if apart <= i128::from(ADJACENT_NS) && best.is_none_or(|(least, _)| apart < least) {
                    best = Some((apart, place));
                }
            } else if waiting.record.key.matches(&record.key, SHARED_MASK) {
                alike += 1;
                if longest.is_none_or(|(came, _)| waiting.came < came) {
                    longest = Some((waiting.came, place));
                }
            }
        }
        if let Some((_, place)) = best {
            let other = self.remove(place);
            let (forward, reverse) =
                if began_first(&other, record) { (other, *record) } else { (*record, other) };
            return Leaving::Pair { forward, reverse };
        }
        let must_leave = match longest {
            Some((_, place)) if alike >= MAX_ALIKE => place,
            _ if self.len() >= self.limits.records => self.oldest,
            _ => NOBODY,
        };
        let leaving =
            if must_leave == NOBODY { Leaving::Nothing } else { Leaving::Alone(self.remove(must_leave)) };
        self.insert(Place { record: *record, hash, came: now, older: self.newest, newer: NOBODY });
        leaving
    }

    /// The record that has waited longest, if its time is over, or in any case with `all`. To be called until
    /// it gives none.
    pub fn release(&mut self, now: Timestamp, all: bool) -> Option<FlowRecord> {
        let oldest = self.places.get(self.oldest)?;
        (all || now.since(oldest.came) >= self.limits.wait).then(|| self.remove(self.oldest))
    }

    fn insert(&mut self, new: Place) {
        let place = match self.places.get(self.free) {
            Some(free) => {
                let place = self.free;
                self.free = free.newer;
                self.places[place] = new;
                place
            }
            None => {
                self.places.push(new);
                self.places.len() - 1
            }
        };
        match self.places.get_mut(self.newest) {
            Some(before) => before.newer = place,
            None => self.oldest = place,
        }
        self.newest = place;
        let Self { index, places, .. } = self;
        index.insert_unique(new.hash, place, |place| places[*place].hash);
    }

    /// Takes a record out; its place becomes free.
    fn remove(&mut self, place: usize) -> FlowRecord {
        let Place { record, hash, older, newer, .. } = self.places[place];
        if let Ok(entry) = self.index.find_entry(hash, |other| *other == place) {
            entry.remove();
        }
        match self.places.get_mut(older) {
            Some(older) => older.newer = newer,
            None => self.oldest = newer,
        }
        match self.places.get_mut(newer) {
            Some(newer) => newer.older = older,
            None => self.newest = older,
        }
        self.places[place].newer = std::mem::replace(&mut self.free, place);
        record
    }
}

/// Whether a packet in the other direction may belong to it.
fn can_be_answered(key: &FlowKey) -> bool {
    if matches!(key.protocol(), ICMP | ICMPV6) {
        return is_echo_request(key) || is_echo_reply(key);
    }
    let to_many = match key.destination() {
        IpAddr::V4(address) => address.is_multicast() || address.is_broadcast(),
        IpAddr::V6(address) => address.is_multicast(),
    };
    // What talks to itself has but one direction.
    !to_many && !is_reverse(key, key)
}

fn is_echo_request(key: &FlowKey) -> bool {
    ECHO.iter()
        .any(|(protocol, request, _)| key.protocol() == *protocol && key.destination_port() == *request)
}

fn is_echo_reply(key: &FlowKey) -> bool {
    ECHO.iter().any(|(protocol, _, reply)| key.protocol() == *protocol && key.destination_port() == *reply)
}

/// Whether they are the two directions of one conversation.
fn is_reverse(a: &FlowKey, b: &FlowKey) -> bool {
    let ([a0, a1, a2, a3, .., a5], [b0, b1, b2, b3, .., b5]) = (*a.words(), *b.words());
    let swapped = a0 == b2 && a1 == b3 && a2 == b0 && a3 == b1;
    let shared = (a5 ^ b5) & SHARED_MASK == 0 && a.interface() == b.interface();
    swapped
        && shared
        && match a.protocol() {
            ICMP | ICMPV6 => is_echo_request(a) && is_echo_reply(b) || is_echo_reply(a) && is_echo_request(b),
            _ => a.source_port() == b.destination_port() && a.destination_port() == b.source_port(),
        }
}

/// Nanoseconds from the end of one to the start of the other; negative: how long they overlap.
fn apart_ns(a: &FlowRecord, b: &FlowRecord) -> i128 {
    i128::from(a.start_ns.max(b.start_ns)) - i128::from(a.end_ns.min(b.end_ns))
}

/// Whether `a` is the direction of who began the conversation.
fn began_first(a: &FlowRecord, b: &FlowRecord) -> bool {
    if is_echo_request(&a.key) || is_echo_request(&b.key) {
        return is_echo_request(&a.key);
    }
    // The addresses only so that the choice does not depend on who came here first.
    let rank = |record: &FlowRecord| (record.start_ns, record.key.destination_port(), *record.key.words());
    rank(a) < rank(b)
}
