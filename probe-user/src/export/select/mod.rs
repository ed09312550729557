// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Which records a collector gets: first what the policy gives it, then what its own filter and sampling
//! leave.

mod conversation;
mod distributor;
mod filter;

use std::num::NonZeroU32;

pub use conversation::ConversationHash;
pub(super) use conversation::SHARED_MASK;
pub use distributor::{CollectorPolicy, Distributor, Handover};
pub use filter::{Filter, FilterError};

use crate::flow::FlowRecord;

/// Why a collector does not get a record, by its own settings.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NotSelected {
    /// Its filter does not match.
    Filtered = 0,
    /// Its sampling left the flow out.
    SampledOut = 1,
    /// Another collector got it (balance, failover).
    Elsewhere = 2,
}

impl NotSelected {
    /// All reasons, in the order of their counters.
    pub const ALL: [Self; 3] = [Self::Filtered, Self::SampledOut, Self::Elsewhere];

    /// Name in the ledger and in the metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Filtered => "filtered",
            Self::SampledOut => "sampled_out",
            Self::Elsewhere => "elsewhere",
        }
    }
}

/// The settings of one stream.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Selection {
    /// Only what matches; none: all.
    pub filter: Option<Filter>,
    /// All records of one flow in so many, by a keyed hash (RFC 7014 section 5.2). Both directions of a
    /// conversation are chosen alike, and what one in M gets is part of what one in N gets, if N < M.
    pub sampling: Option<NonZeroU32>,
}

impl Selection {
    /// Whether every record is selected.
    #[must_use]
    pub fn is_all(&self) -> bool {
        self.filter.is_none() && self.sampling.is_none_or(|interval| interval.get() == 1)
    }

    /// Whether the record is selected.
    ///
    /// # Errors
    /// Why not.
    #[inline]
    pub fn select(&self, record: &FlowRecord, conversations: &ConversationHash) -> Result<(), NotSelected> {
        if self.filter.as_ref().is_some_and(|filter| !filter.matches(record)) {
            return Err(NotSelected::Filtered);
        }
        if let Some(interval) = self.sampling {
            // The hash is below one Nth of its range: then hash × N has no 65th bit.
            let hash = conversations.hash(&record.key);
            if hash.checked_mul(u64::from(interval.get())).is_none() {
                return Err(NotSelected::SampledOut);
            }
        }
        Ok(())
    }
}
