// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A session as the exporter sees it.

use super::super::{Endpoint, Fate, Sent, Sink, Tended, address::News, wire::Wire};
use super::{Session, State, WRITE_AT};
use crate::export::{encode::Now, ring::Run, stats::ErrorReason};

impl<W: Wire> Sink for Session<W> {
    fn send(&mut self, run: &Run<'_>, _now: Now) -> Sent {
        if !matches!(self.state, State::Up(_)) || self.broken.is_some() {
            return Sent::BUSY;
        }
        let mut taken = 0;
        for message in run.iter() {
            if !self.outbox.has_room() {
                self.broken = self.write_some().err();
                if !self.outbox.has_room() || self.broken.is_some() {
                    break;
                }
            }
            if !self.domains.knows(message) {
                if !self.asked || self.introduce {
                    (self.asked, self.introduce) = (true, true);
                    break;
                }
                // The stream has no templates for it.
                self.domains.accept(message);
            }
            self.asked = false;
            self.scratch.clear();
            self.scratch.extend_from_slice(message);
            self.domains.renumber(&mut self.scratch);
            self.wire.say(&self.scratch, &mut self.outbox);
            self.outbox.mark(true);
            taken += 1;
        }
        if self.outbox.pending() >= WRITE_AT && self.broken.is_none() {
            self.broken = self.write_some().err();
        }
        let fate = if taken == run.datagrams { Fate::Done } else { Fate::Busy };
        Sent { datagrams: taken, fate, error: None }
    }

    fn tend(&mut self, preamble: &mut dyn FnMut(&mut Vec<u8>), now: Now) -> Tended {
        let mut tended = Tended::default();
        // A connection stays where it is when the name moves; the next one goes to the new address.
        if let News::Failed(why) = self.address.tend(now.at) {
            tended.trouble(ErrorReason::Unresolved, why);
        }
        if let Err(failure) = self.advance(preamble, now.at, &mut tended) {
            self.fail(failure, now.at, &mut tended);
        }
        tended
    }

    fn confirms(&self) -> bool {
        true
    }

    fn is_connected(&self) -> bool {
        matches!(self.state, State::Up(_))
    }

    fn is_up(&self) -> bool {
        self.is_connected()
    }

    fn message_octets(&self) -> usize {
        self.message_octets
    }

    fn endpoint(&self) -> Option<Endpoint> {
        self.endpoint
    }

    fn connects(&self) -> u64 {
        self.connects
    }

    fn unresolved(&self) -> Option<String> {
        self.address.failed_at_start().map(|why| format!("cannot export to {}: {why}", self.options.url()))
    }

    fn finish(&mut self, now: Now) -> bool {
        match self.state {
            State::Up(_) => {
                self.wire.end(&mut self.outbox);
                self.broken = self.write_some().err();
                self.state = State::Closing { until: now.at + self.timing.close, by_peer: false };
            }
            State::Closing { until, by_peer: true } => {
                self.state = State::Closing { until, by_peer: false };
            }
            State::Closing { .. } => {}
            State::Over => return true,
            State::Idle(_) | State::Connecting(_) | State::Handshake(_) | State::Settling(_) => {
                self.socket = None;
                self.forget();
                self.state = State::Over;
                return true;
            }
        }
        false
    }
}
