// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Where a collector is: an address as given, or a name that is resolved again and again.
//!
//! The C library's resolver waits for answers, so each look-up runs in a short-lived thread, one at a time for
//! each collector.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError, sync_channel};
use std::thread;
use std::time::Duration;

use super::{SinkError, backoff::Backoff};
use crate::export::url::CollectorUrl;
use crate::flow::Timestamp;

/// How often a name is looked up that has an address.
const AGAIN: Duration = Duration::from_secs(300);
/// How often it is looked up at most when there is trouble with its address.
const HURRY: Duration = Duration::from_secs(10);
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LAST_RETRY: Duration = Duration::from_secs(60);
/// How long the start waits for the resolver.
const PATIENCE: Duration = Duration::from_secs(1);

type Answer = io::Result<Vec<SocketAddr>>;

/// What became of a look-up.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum News {
    /// Nothing, or nothing new.
    None,
    /// There is an address, and it is another one than before.
    Changed,
    /// There was no answer, or none that can be used. The address is that of before, if there was one.
    Failed(String),
}

/// See the module.
#[derive(Debug)]
pub(super) struct Address {
    host: String,
    port: u16,
    source: Option<IpAddr>,
    is_name: bool,
    /// Those known; empty: none yet.
    peers: Vec<SocketAddr>,
    choice: usize,
    answer: Option<Receiver<Answer>>,
    /// What the look-up at the start brought, until it is told.
    failed_at_start: Option<String>,
    /// When the last look-up began; `None`: when was not known then.
    asked: Option<Timestamp>,
    due: Option<Timestamp>,
    backoff: Backoff,
}

impl Address {
    /// The collector's address. A name is looked up, for a second at most.
    pub(super) fn new(collector: &CollectorUrl) -> Result<Self, SinkError> {
        let mut address = Self {
            host: collector.host.clone(),
            port: collector.port,
            source: collector.source,
            is_name: false,
            peers: Vec::new(),
            choice: 0,
            answer: None,
            failed_at_start: None,
            asked: None,
            due: None,
            backoff: Backoff::new(FIRST_RETRY, LAST_RETRY),
        };
        if let Ok(ip) = collector.host.parse::<IpAddr>() {
            if let Some(local) = collector.source.filter(|source| source.is_ipv4() != ip.is_ipv4()) {
                return Err(SinkError::Family { url: collector.to_string(), local, peer: ip });
            }
            address.peers.push(SocketAddr::new(ip, collector.port));
            return Ok(address);
        }
        address.is_name = true;
        address.ask();
        let answer = address.answer.as_ref().map(|answer| answer.recv_timeout(PATIENCE));
        match answer {
            // The answer may still come.
            Some(Err(RecvTimeoutError::Timeout)) => {}
            Some(Ok(answer)) => {
                address.answer = None;
                if let News::Failed(why) = address.learn(answer) {
                    address.failed_at_start = Some(why);
                }
            }
            Some(Err(RecvTimeoutError::Disconnected)) | None => address.answer = None,
        }
        Ok(address)
    }

    /// Where the collector is now, as far as is known.
    pub(super) fn current(&self) -> Option<SocketAddr> {
        self.peers.get(self.choice).copied()
    }

    /// The next address of the name, if it has several: this one was of no use.
    pub(super) fn try_next(&mut self) {
        self.choice = (self.choice + 1) % self.peers.len().max(1);
    }

    /// Why the name has no address, as found at the start.
    pub(super) fn failed_at_start(&self) -> Option<&str> {
        self.failed_at_start.as_deref()
    }

    /// Any local address to send from, or that of the options; its family is the collector's, if that is
    /// known.
    pub(super) fn local(&self) -> Option<IpAddr> {
        let any = |peer: SocketAddr| match peer {
            SocketAddr::V4(_) => IpAddr::from(Ipv4Addr::UNSPECIFIED),
            SocketAddr::V6(_) => IpAddr::from(Ipv6Addr::UNSPECIFIED),
        };
        self.source.or_else(|| self.current().map(any))
    }

    /// There is trouble with this address: look the name up soon.
    pub(super) fn hurry(&mut self, now: Timestamp) {
        let soon = self.asked.map_or(now, |asked| (asked + HURRY).max(now));
        if self.due.is_some_and(|due| due > soon) {
            self.due = Some(soon);
        }
    }

    /// Asks and listens, as far as each is due.
    pub(super) fn tend(&mut self, now: Timestamp) -> News {
        if !self.is_name {
            return News::None;
        }
        let Some(answer) = &self.answer else { return self.ask_when_due(now) };
        let news = match answer.try_recv() {
            Err(TryRecvError::Empty) => return News::None,
            Ok(answer) => self.learn(answer),
            Err(TryRecvError::Disconnected) => News::Failed(format!(
                "cannot look '{}' up: no thread for the resolver; check the limit of threads",
                self.host
            )),
        };
        self.answer = None;
        self.plan(news, now)
    }

    fn ask_when_due(&mut self, now: Timestamp) -> News {
        let Some(due) = self.due else {
            // The look-up was at the start, when the time was not known.
            let news = self.failed_at_start.clone().map_or(News::None, News::Failed);
            self.asked = Some(now);
            return self.plan(news, now);
        };
        if now >= due {
            self.asked = Some(now);
            self.ask();
        }
        News::None
    }

    /// Plans the next look-up, and says when it is.
    fn plan(&mut self, news: News, now: Timestamp) -> News {
        let failed = matches!(news, News::Failed(_)) || self.peers.is_empty();
        if !failed {
            self.backoff.reset();
        }
        let wait = if failed { self.backoff.wait() } else { AGAIN };
        self.due = Some(now + wait);
        match news {
            News::Failed(why) => {
                let kept = if self.peers.is_empty() { "" } else { "the former address is kept, and " };
                News::Failed(format!(
                    "{why}; {kept}it is looked up again in {:.0} s",
                    wait.as_secs_f32().ceil()
                ))
            }
            other => other,
        }
    }

    fn ask(&mut self) {
        let (sender, receiver) = sync_channel(1);
        let (host, port) = (self.host.clone(), self.port);
        // Without a thread the sender is gone, which `tend` takes for a failure.
        thread::Builder::new()
            .name("resolver".into())
            .spawn(move || sender.send((host.as_str(), port).to_socket_addrs().map(Iterator::collect)).ok())
            .ok();
        self.answer = Some(receiver);
    }

    fn learn(&mut self, answer: Answer) -> News {
        let found = match answer {
            Ok(found) => found,
            Err(cause) => {
                return News::Failed(format!(
                    "'{}' does not resolve: {cause}; check the name and the resolver (getent hosts {}), or give an \
                     address",
                    self.host, self.host,
                ));
            }
        };
        let fits = |peer: &SocketAddr| self.source.is_none_or(|source| source.is_ipv4() == peer.is_ipv4());
        let mut usable: Vec<_> = found.into_iter().filter(fits).collect();
        usable.dedup();
        if usable.is_empty() {
            return News::Failed(format!(
                "'{}' has no address of the IP version of 'source'; give a source of the other version",
                self.host
            ));
        }
        self.failed_at_start = None;
        let before = self.current();
        if let Some(before) = before {
            // The size of messages was chosen for this family.
            usable.sort_by_key(|peer| peer.is_ipv4() != before.is_ipv4());
        }
        self.peers = usable;
        // A name with several addresses may list them in another order each time.
        let kept = self.peers.iter().position(|peer| Some(*peer) == before);
        self.choice = kept.unwrap_or(0);
        if kept.is_some() { News::None } else { News::Changed }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(url: &str) -> Result<Address, SinkError> {
        Address::new(&url.parse().unwrap())
    }

    fn peers(list: &[&str]) -> Answer {
        Ok(list.iter().map(|peer| peer.parse().unwrap()).collect())
    }

    #[test]
    fn an_address_is_taken_as_it_is() {
        let mut address = address("v5://192.0.2.1:99").unwrap();
        assert_eq!(address.current(), Some("192.0.2.1:99".parse().unwrap()));
        assert_eq!(address.tend(Timestamp(1 << 60)), News::None);
        assert!(address.answer.is_none(), "and never looked up");
    }

    #[test]
    fn localhost_is_found_at_once_and_of_the_family_of_the_source() {
        for source in ["127.0.0.1", "::1"] {
            let address = address(&format!("v5://localhost:99?source={source}")).unwrap();
            // A host may know localhost in one family only.
            match address.current() {
                Some(peer) => assert_eq!(peer.ip().to_string(), source),
                None => assert!(address.failed_at_start().is_some_and(|why| why.contains("IP version"))),
            }
        }
        assert!(address("v5://localhost").unwrap().current().is_some());
    }

    #[test]
    fn a_source_of_the_other_family_is_refused_for_an_address() {
        let error = address("v5://[::1]?source=127.0.0.1").unwrap_err();
        assert!(error.to_string().contains("not of one IP version"), "{error}");
    }

    #[test]
    fn the_same_address_in_another_order_is_no_change_and_a_failure_keeps_it() {
        let mut address = address("v5://localhost").unwrap();
        address.peers.clear();
        assert_eq!(address.learn(peers(&["192.0.2.1:1", "192.0.2.2:1"])), News::Changed);
        assert_eq!(address.learn(peers(&["192.0.2.2:1", "192.0.2.1:1"])), News::None);
        assert_eq!(address.current(), Some("192.0.2.1:1".parse().unwrap()));
        assert!(matches!(address.learn(Err(io::Error::other("no"))), News::Failed(_)));
        assert_eq!(address.current(), Some("192.0.2.1:1".parse().unwrap()));
        assert_eq!(address.learn(peers(&["[2001:db8::1]:1", "192.0.2.3:1"])), News::Changed);
        assert_eq!(address.current(), Some("192.0.2.3:1".parse().unwrap()), "the same family is preferred");
        address.try_next();
        assert_eq!(address.current(), Some("[2001:db8::1]:1".parse().unwrap()));
    }

    #[test]
    fn look_ups_come_every_five_minutes_and_sooner_in_trouble() {
        let mut address = address("v5://localhost").unwrap();
        let at = |seconds| Timestamp(0) + Duration::from_secs(seconds);
        assert_eq!(address.tend(at(1)), News::None);
        assert_eq!(address.due, Some(at(301)));
        address.hurry(at(3));
        assert_eq!(address.due, Some(at(11)), "ten seconds after the last one");
        address.tend(at(11));
        assert!(address.answer.is_some());
    }
}
