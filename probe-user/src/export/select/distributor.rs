// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Which of several collectors a record is for.

use std::{fmt, time::Duration};

use super::conversation::{ConversationHash, mix};
use crate::flow::{FlowRecord, Timestamp};

/// An earlier collector takes over again when it has been up for this long, so that one that comes and
/// goes does not tear the records apart.
const SETTLED: Duration = Duration::from_secs(30);

/// How records are shared out among collectors.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub enum CollectorPolicy {
    /// Every one gets every record.
    #[default]
    Replicate,
    /// Each record goes to one of those that are up, chosen by a hash: both directions of a conversation go
    /// to the same one, and when one goes down only its share moves (rendezvous hashing, Thaler and
    /// Ravishankar 1998). Nobody is up: as if all were.
    Balance,
    /// All go to the first that is up. Nobody is up: to the first.
    Failover,
}

impl fmt::Display for CollectorPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Replicate => "replicate",
            Self::Balance => "balance",
            Self::Failover => "failover",
        })
    }
}

/// Another collector gets the records from now on (failover).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Handover {
    /// The one that had them.
    pub from: usize,
    /// The one that gets them.
    pub to: usize,
}

struct Collector {
    /// Its part in the hash of rendezvous.
    salt: u64,
    /// Since when it has been up.
    up_since: Option<Timestamp>,
}

/// Shares out batches of records. Collectors are numbered in the order of the options.
pub struct Distributor {
    policy: CollectorPolicy,
    conversations: ConversationHash,
    collectors: Vec<Collector>,
    /// Of balance: those that get a share.
    sharing: Vec<usize>,
    /// Of failover: the one that gets all.
    active: usize,
    started: Option<Timestamp>,
    /// Of balance: the collector of each record of the batch.
    chosen: Vec<usize>,
}

impl Distributor {
    /// For so many collectors.
    #[must_use]
    pub fn new(policy: CollectorPolicy, collectors: usize, conversations: ConversationHash) -> Self {
        let collector = |salt| Collector { salt: mix(salt), up_since: None };
        Self {
            policy,
            conversations,
            collectors: (1..).take(collectors).map(collector).collect(),
            sharing: (0..collectors).collect(),
            active: 0,
            started: None,
            chosen: Vec::new(),
        }
    }

    /// Whether every collector gets every record.
    #[inline]
    #[must_use]
    pub fn replicates(&self) -> bool {
        self.policy == CollectorPolicy::Replicate
    }

    /// Learns which collectors are up.
    pub fn tend(&mut self, up: impl Iterator<Item = bool>, now: Timestamp) -> Option<Handover> {
        if self.replicates() {
            return None;
        }
        for (collector, up) in self.collectors.iter_mut().zip(up) {
            collector.up_since = up.then(|| collector.up_since.unwrap_or(now));
        }
        self.sharing.clear();
        self.sharing.extend((0..self.collectors.len()).filter(|i| self.collectors[*i].up_since.is_some()));
        let started = *self.started.get_or_insert(now);
        // Connections come up in any order at the start: then the first in order is taken at once.
        let starting = now.since(started) < SETTLED;
        let settled = |since: Timestamp| starting || now.since(since) >= SETTLED;
        let earlier = self.collectors.iter().take(self.active).position(|c| c.up_since.is_some_and(settled));
        let active_is_up = self.collectors.get(self.active).is_some_and(|c| c.up_since.is_some());
        let to = match earlier {
            Some(earlier) => earlier,
            None if active_is_up => self.active,
            None => self.sharing.first().copied().unwrap_or(0),
        };
        if self.sharing.is_empty() {
            self.sharing.extend(0..self.collectors.len());
        }
        let from = std::mem::replace(&mut self.active, to);
        (self.policy == CollectorPolicy::Failover && from != to).then_some(Handover { from, to })
    }

    /// Whether the collector gets records at present.
    #[must_use]
    pub fn serves(&self, collector: usize) -> bool {
        match self.policy {
            CollectorPolicy::Replicate => true,
            CollectorPolicy::Balance => self.sharing.contains(&collector),
            CollectorPolicy::Failover => self.active == collector,
        }
    }

    /// Chooses a collector for each record of a batch.
    pub fn assign(&mut self, batch: &[FlowRecord]) {
        if self.policy != CollectorPolicy::Balance {
            return;
        }
        let Self { conversations, collectors, sharing, chosen, .. } = self;
        chosen.clear();
        chosen.extend(batch.iter().map(|record| {
            let hash = conversations.hash(&record.key);
            let best = sharing.iter().max_by_key(|collector| mix(hash ^ collectors[**collector].salt));
            best.copied().unwrap_or(0)
        }));
    }

    /// Whether record `record` of the batch is for `collector`.
    #[inline]
    #[must_use]
    pub fn gives(&self, record: usize, collector: usize) -> bool {
        match self.policy {
            CollectorPolicy::Replicate => true,
            CollectorPolicy::Balance => self.chosen.get(record) == Some(&collector),
            CollectorPolicy::Failover => self.active == collector,
        }
    }
}

#[cfg(test)]
mod tests {
    use probe_common::{Detail, FlowKey, HashSeed};

    use super::*;
    use crate::flow::EndReason;

    fn distributor(policy: CollectorPolicy, collectors: usize) -> Distributor {
        let seed = HashSeed::from_random(std::array::from_fn(|i| [1, 77, 200, 31][i % 4]));
        Distributor::new(policy, collectors, ConversationHash::new(seed))
    }

    fn records(count: u32) -> Vec<FlowRecord> {
        let record = |n: u32| {
            let [_, b, c, d] = n.to_be_bytes();
            let mut key = FlowKey::ipv4([10, b, c, d], [192, 0, 2, 1], 6, 0);
            key.set_ports(4000, 443);
            FlowRecord {
                key,
                packets: 1,
                octets: 40,
                start_ns: 1,
                end_ns: 2,
                tcp_flags: 0,
                end_reason: EndReason::Idle,
                detail: Detail::UNKNOWN,
            }
        };
        (0..count).map(record).collect()
    }

    fn at(seconds: u64) -> Timestamp {
        Timestamp(seconds * 1_000_000_000)
    }

    fn shares(distributor: &mut Distributor, batch: &[FlowRecord]) -> Vec<usize> {
        distributor.assign(batch);
        let owner = |record| (0..8).find(|collector| distributor.gives(record, *collector)).unwrap();
        (0..batch.len()).map(owner).collect()
    }

    #[test]
    fn balance_is_even_and_moves_only_the_share_of_the_one_that_goes() {
        let batch = records(40_000);
        let mut balance = distributor(CollectorPolicy::Balance, 4);
        balance.tend([true; 4].into_iter(), at(0));
        let before = shares(&mut balance, &batch);
        for collector in 0..4 {
            let count = before.iter().filter(|owner| **owner == collector).count();
            assert!((9_400..10_600).contains(&count), "collector {collector} has {count}");
        }
        balance.tend([true, false, true, true].into_iter(), at(1));
        let after = shares(&mut balance, &batch);
        for (before, after) in before.iter().zip(&after) {
            assert!(if *before == 1 { *after != 1 } else { after == before });
        }
        assert!(!balance.serves(1) && balance.serves(2));
        balance.tend([true; 4].into_iter(), at(2));
        assert_eq!(shares(&mut balance, &batch), before);
        balance.tend([false; 4].into_iter(), at(3));
        assert_eq!(shares(&mut balance, &batch), before, "nobody is up: as if all were");
    }

    #[test]
    fn failover_goes_at_once_and_returns_when_the_earlier_one_has_settled() {
        let mut failover = distributor(CollectorPolicy::Failover, 3);
        let mut tend = |up: [bool; 3], seconds| failover.tend(up.into_iter(), at(seconds));
        let moved = |from, to| Some(Handover { from, to });
        assert_eq!(tend([true, true, true], 0), None);
        assert_eq!(tend([true, true, true], 100), None);
        assert_eq!(tend([false, true, true], 101), moved(0, 1));
        assert_eq!(tend([true, true, true], 102), None, "back, but for how long?");
        assert_eq!(tend([true, true, true], 131), None);
        assert_eq!(tend([false, true, true], 131), None);
        assert_eq!(tend([true, true, true], 132), None, "the time counts anew");
        assert_eq!(tend([true, true, true], 161), None);
        assert_eq!(tend([true, true, true], 162), moved(1, 0));
        assert_eq!(tend([false, false, true], 163), moved(0, 2));
        assert_eq!(tend([false, true, true], 164), None);
        assert_eq!(tend([false, true, true], 194), moved(2, 1));
        assert_eq!(tend([false, false, false], 195), moved(1, 0), "nobody: the first");
        assert_eq!(tend([false, false, true], 196), moved(0, 2));
        // It has not settled, but nobody else is there.
        assert_eq!(tend([false, true, false], 197), moved(2, 1));
    }

    #[test]
    fn at_the_start_the_order_counts_whoever_connects_first() {
        let mut failover = distributor(CollectorPolicy::Failover, 2);
        assert_eq!(failover.tend([false, false].into_iter(), at(50)), None);
        assert_eq!(failover.tend([false, true].into_iter(), at(51)), Some(Handover { from: 0, to: 1 }));
        assert_eq!(failover.tend([true, true].into_iter(), at(52)), Some(Handover { from: 1, to: 0 }));
    }
}
