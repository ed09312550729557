// SPDX-License-Identifier: Apache-2.0 OR MIT
//! IPFIX files (RFC 5655): the messages as they came, before them the templates that they need.
//!
//! To its reader a file is one transport session, in which an observation domain is one exporter with one
//! sequence and one set of templates. So exporters that use the same domain id get files of their own:
//! lanes. With different ids, all of them share the first lane.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;

use super::Unwritten;
use super::appender::Appender;
use super::ipfix_message::{Message, NotAMessage};
use super::rotation::Interval;
use super::shelf::Shelf;
use super::templates::{Sender, TemplateStore, write_withdrawals};

/// Files open at a time: so many exporters can have the same domain id.
const MAX_LANES: usize = 128;
/// Exporters of one interval.
const MAX_SENDERS: usize = 16_384;

/// See the module.
pub(super) struct IpfixLanes {
    shelf: Shelf,
    templates: TemplateStore,
    /// The files of this interval; `None` until the first message, and while one is written to.
    lanes: Vec<Option<Appender>>,
    /// Which file a sender writes to.
    places: HashMap<Sender, usize>,
    /// How many lanes have a sender of this domain already; the next one gets the lane after.
    taken: HashMap<u32, usize>,
}

impl IpfixLanes {
    pub(super) fn new(shelf: Shelf) -> Self {
        Self {
            shelf,
            templates: TemplateStore::default(),
            lanes: Vec::new(),
            places: HashMap::new(),
            taken: HashMap::new(),
        }
    }

    pub(super) fn write(&mut self, from: Option<SocketAddr>, octets: &[u8], now_ns: u64) {
        let message = match Message::read(octets) {
            Ok(message) => message,
            Err(NotAMessage::OtherVersion) => return self.shelf.count(Unwritten::NotIpfix, 1),
            Err(NotAMessage::Malformed) => return self.shelf.count(Unwritten::Malformed, 1),
        };
        // Before the message itself is learnt: what it changes itself, it says itself.
        let mut before = Vec::new();
        let sender = (from, message.head.domain);
        let admitted = self.shelf.admits(now_ns, 1);
        let place = self.places.get(&sender).copied();
        if admitted && place.is_none() {
            self.templates.write_all(from, message.head, &mut before);
        }
        let changed = self.templates.learn(from, &message);
        if !admitted {
            return;
        }
        let Some(place) = place.or_else(|| self.take_place(sender)) else {
            return self.shelf.count(Unwritten::TooManyExporters, 1);
        };
        write_withdrawals(message.head, &changed, &mut before);
        self.append(place, &message, &before, now_ns);
    }

    /// The first lane without an exporter of this domain.
    fn take_place(&mut self, sender: Sender) -> Option<usize> {
        if self.places.len() == MAX_SENDERS {
            return None;
        }
        let taken = self.taken.entry(sender.1).or_default();
        if *taken == MAX_LANES {
            return None;
        }
        let place = *taken;
        *taken += 1;
        self.places.insert(sender, place);
        if place == self.lanes.len() {
            self.lanes.push(None);
        }
        Some(place)
    }

    fn append(&mut self, place: usize, message: &Message<'_>, before: &[u8], now_ns: u64) {
        let file = match self.lanes[place].take() {
            Some(file) => Ok(file),
            None => self.shelf.open(Path::new("")).map(Appender::new),
        };
        let mut file = match file {
            Ok(file) => file,
            Err(error) => {
                self.shelf.failed(now_ns, 1, &error);
                return self.finish(now_ns);
            }
        };
        let written = file.append(1, |buffer| {
            buffer.extend(before);
            buffer.extend(message.octets);
        });
        match written {
            Ok(()) => self.lanes[place] = Some(file),
            Err(error) => {
                self.shelf.abandon(file, now_ns, &error);
                self.finish(now_ns);
            }
        }
    }

    /// Closes all files. Those begun later stand alone again, so everybody's templates are due.
    fn finish(&mut self, now_ns: u64) {
        for file in self.lanes.drain(..).flatten() {
            self.shelf.finish(file, now_ns);
        }
        self.places.clear();
        self.taken.clear();
    }

    pub(super) fn turn(&mut self, interval: Interval, now_ns: u64) {
        self.finish(now_ns);
        self.shelf.turn(interval);
    }
}
