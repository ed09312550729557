// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The rungs of the ladder and what each does, on top of what those below it do.
//!
//! ```text
//! 0  nothing                         3   one flow in 2 is metered
//! 1  a shorter idle timeout          4   one flow in 4
//! 2  oldest flows exported early     …   12  one flow in 1024
//! ```

use std::{fmt, time::Duration};

/// The idle timeout becomes this part of itself.
const IDLE_PART: u32 = 4;
/// It is shortened no further than to this.
const SHORTEST_IDLE: Duration = Duration::from_secs(1);

/// How far up the ladder.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Debug)]
pub struct Rung(u8);

impl Rung {
    /// Nothing is done.
    pub const NORMAL: Self = Self(0);
    /// The idle timeout is shortened: flows of one packet, which floods consist of, leave sooner.
    pub const SHORT_IDLE: Self = Self(1);
    /// The oldest flows are exported before their time, while the table is fuller than its low mark.
    pub const EARLY_EXPORT: Self = Self(2);
    /// The highest: one flow in 1024 is metered.
    pub const TOP: Self = Self(12);

    /// Its number.
    #[must_use]
    pub fn number(self) -> u8 {
        self.0
    }

    /// That of a number; the highest for larger ones.
    #[must_use]
    pub(super) fn of_number(number: u8) -> Self {
        Self(number).min(Self::TOP)
    }

    /// The next one up; the highest stays.
    #[must_use]
    pub fn up(self) -> Self {
        Self(self.0 + 1).min(Self::TOP)
    }

    /// The next one down; the lowest stays.
    #[must_use]
    pub fn down(self) -> Self {
        Self(self.0.saturating_sub(1))
    }

    /// The idle timeout in force, where `configured` is what was asked for; never longer than that.
    #[must_use]
    pub fn idle(self, configured: Duration) -> Duration {
        if self < Self::SHORT_IDLE {
            return configured;
        }
        (configured / IDLE_PART).max(SHORTEST_IDLE).min(configured)
    }

    /// Whether flows are exported before their time.
    #[must_use]
    pub fn exports_early(self) -> bool {
        self >= Self::EARLY_EXPORT
    }

    /// N of "one flow in N is metered", a power of two; 1 for all.
    #[must_use]
    pub fn sampling_interval(self) -> u32 {
        1 << self.0.saturating_sub(Self::EARLY_EXPORT.0)
    }
}

/// What the rung does, in a sentence.
impl fmt::Display for Rung {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::NORMAL => f.write_str("nothing is held back"),
            Self::SHORT_IDLE => f.write_str("the idle timeout is shortened"),
            Self::EARLY_EXPORT => f.write_str("the oldest flows are exported early"),
            _ => write!(f, "one flow in {} is metered", self.sampling_interval()),
        }
    }
}
