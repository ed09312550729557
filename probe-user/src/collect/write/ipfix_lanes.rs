// SPDX-License-Identifier: Apache-2.0 OR MIT
//! IPFIX files (RFC 5655): the messages as they came, before them the templates that they need.
//!
//! To its reader a file is one transport session, in which an observation domain is one exporter with one
//! sequence and one set of templates. So exporters that use the same domain id get files of their own:
//! lanes. With different ids, all of them share the first lane.

use std::collections::HashMap;
use std::path::Path;

use super::Unwritten;
use super::appender::Appender;
use super::ipfix_message::{Message, NotAMessage};
use super::rotation::Interval;
use super::shelf::Shelf;
use super::templates::{Sender, TemplateKey, TemplateStore, write_withdrawals};
use crate::collect::decode::Source;

/// Files open at a time: so many exporters can have the same domain id.
const MAX_LANES: usize = 128;
/// Domains of all files of an interval.
const MAX_PLACES: usize = 16_384;

/// A domain's place in a lane that its exporter has left by ending the connection.
struct Vacant {
    lane: usize,
    /// What readers of the file still know of it.
    templates: Vec<TemplateKey>,
}

/// See the module.
pub(super) struct IpfixLanes {
    shelf: Shelf,
    templates: TemplateStore,
    /// The files of this interval; `None` until the first message, and while one is written to.
    lanes: Vec<Option<Appender>>,
    /// Which file a sender writes to.
    places: HashMap<Sender, usize>,
    /// By domain.
    vacant: HashMap<u32, Vec<Vacant>>,
    /// How many lanes have this domain already; the next sender gets the lane after.
    taken: HashMap<u32, usize>,
    /// The sum of these.
    all_taken: usize,
}

impl IpfixLanes {
    pub(super) fn new(shelf: Shelf) -> Self {
        Self {
            shelf,
            templates: TemplateStore::default(),
            lanes: Vec::new(),
            places: HashMap::new(),
            vacant: HashMap::new(),
            taken: HashMap::new(),
            all_taken: 0,
        }
    }

    pub(super) fn write(&mut self, from: Source, octets: &[u8], now_ns: u64) {
        let message = match Message::read(octets) {
            Ok(message) => message,
            Err(NotAMessage::OtherVersion) => return self.shelf.count(Unwritten::NotIpfix, 1),
            Err(NotAMessage::Malformed) => return self.shelf.count(Unwritten::Malformed, 1),
        };
        if !self.shelf.admits(now_ns, 1) {
            self.templates.learn(from, &message);
            return;
        }
        let sender = (from, message.head.domain);
        let mut before = Vec::new();
        let lane = match self.places.get(&sender) {
            Some(lane) => Some(*lane),
            None => self.take_place(sender).map(|place| {
                write_withdrawals(message.head, &place.templates, &mut before);
                // Before the message itself is learnt: what it declares, it declares itself.
                self.templates.write_all(from, message.head, &mut before);
                place.lane
            }),
        };
        let changed = self.templates.learn(from, &message);
        let Some(lane) = lane else { return self.shelf.count(Unwritten::TooManyExporters, 1) };
        write_withdrawals(message.head, &changed, &mut before);
        self.append(lane, &message, &before, now_ns);
    }

    /// A place that somebody has left, or one in the first lane without this domain.
    fn take_place(&mut self, sender: Sender) -> Option<Vacant> {
        let domain = sender.1;
        let place = match self.vacant.get_mut(&domain).and_then(Vec::pop) {
            Some(place) => place,
            None if self.all_taken == MAX_PLACES => return None,
            None => {
                let taken = self.taken.entry(domain).or_default();
                if *taken == MAX_LANES {
                    return None;
                }
                let lane = *taken;
                *taken += 1;
                self.all_taken += 1;
                if lane == self.lanes.len() {
                    self.lanes.push(None);
                }
                Vacant { lane, templates: Vec::new() }
            }
        };
        self.places.insert(sender, place.lane);
        Some(place)
    }

    /// Makes room where a connection has ended: an exporter that connects again goes on in the same file.
    pub(super) fn forget(&mut self, stream: u64) {
        for (sender, templates) in self.templates.forget(stream) {
            if let Some(lane) = self.places.remove(&sender) {
                self.vacant.entry(sender.1).or_default().push(Vacant { lane, templates });
            }
        }
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
        self.vacant.clear();
        self.taken.clear();
        self.all_taken = 0;
    }

    pub(super) fn turn(&mut self, interval: Interval, now_ns: u64) {
        self.finish(now_ns);
        self.shelf.turn(interval);
    }
}
