// SPDX-License-Identifier: Apache-2.0 OR MIT
//! When to climb and when to come down.
//!
//! Up a rung when a level stays at its high mark for the dwell, or at once when a spill ring is nearly full; down a
//! rung when all levels stay below their low marks for the calm. Between the marks nothing moves, and between two
//! moves lies the dwell at least.
//!
//! A rung may help so well that the pressure looks gone, and is back as soon as the rung is left. So the calm doubles
//! when a move down is undone soon, and halves when one is followed by another.

use std::{fmt, time::Duration};

use super::{
    pressure::{Cause, Pressure},
    rung::Rung,
};
use crate::flow::Timestamp;

/// A move down that is undone within this many calms was too early.
const SOON: u32 = 4;

/// When the ladder moves.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct LadderOptions {
    /// Up, when one of these is reached for the dwell.
    pub high: Pressure,
    /// Down, when all stay below these for the calm.
    pub low: Pressure,
    /// Up at once, when a spill ring is as full as this: packets are about to be lost.
    pub urgent_ring: f64,
    /// Least time from one move to the next, and of pressure before a move up.
    pub dwell: Duration,
    /// Time without pressure before a move down, at first.
    pub calm: Duration,
    /// The most that becomes.
    pub longest_calm: Duration,
    /// No further up than this.
    pub top: Rung,
}

impl LadderOptions {
    /// The marks in use, with this dwell and highest rung.
    #[must_use]
    pub fn new(dwell: Duration, top: Rung) -> Self {
        Self {
            high: Pressure { ring: 0.5, table: 0.9, queue: 0.8 },
            low: Pressure { ring: 0.2, table: 0.7, queue: 0.3 },
            urgent_ring: 0.8,
            dwell,
            calm: Duration::from_secs(5),
            longest_calm: Duration::from_secs(80),
            top,
        }
    }
}

/// A move by one rung.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Change {
    /// Where it was.
    pub from: Rung,
    /// Where it is.
    pub to: Rung,
    /// What was under pressure, for a move up.
    pub cause: Option<Cause>,
    /// The levels that decided.
    pub pressure: Pressure,
}

impl Change {
    /// Whether the pressure grew.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.to > self.from
    }
}

/// What happened, why, the figures, and what to do.
impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Pressure { ring, table, queue } = self.pressure;
        let percent = |level: f64| level * 100.0;
        write!(f, "overload: rung {} after {}: {}, because ", self.to.number(), self.from.number(), self.to)?;
        match self.cause {
            Some(cause) => write!(f, "{} is {:.0} % full", cause.name(), percent(self.pressure.of(cause)))?,
            None => f.write_str("the pressure is gone")?,
        }
        write!(
            f,
            " (spill ring {:.0} %, flow table {:.0} %, queue {:.0} %)",
            percent(ring),
            percent(table),
            percent(queue)
        )?;
        match self.cause {
            Some(cause) => write!(f, "; if this lasts, {}", cause.remedy()),
            None => Ok(()),
        }
    }
}

/// See the module. Starts at the lowest rung.
#[derive(Clone, Debug)]
pub struct Ladder {
    options: LadderOptions,
    rung: Rung,
    /// The last move: when, and whether down.
    moved: Option<(Timestamp, bool)>,
    calm: Duration,
    /// Since when a high mark is reached.
    high_since: Option<Timestamp>,
    /// Since when all levels are below their low marks, or since the last move down.
    calm_since: Option<Timestamp>,
}

impl Ladder {
    /// A ladder at rest.
    #[must_use]
    pub fn new(options: LadderOptions) -> Self {
        Self {
            options,
            rung: Rung::NORMAL,
            moved: None,
            calm: options.calm,
            high_since: None,
            calm_since: None,
        }
    }

    /// Where it stands.
    #[must_use]
    pub fn rung(&self) -> Rung {
        self.rung
    }

    /// When it moves.
    #[must_use]
    pub fn options(&self) -> &LadderOptions {
        &self.options
    }

    /// Judges the levels of this moment; returns the move, if there is one.
    pub fn step(&mut self, now: Timestamp, pressure: Pressure) -> Option<Change> {
        let options = self.options;
        let cause = pressure.reaches(&options.high);
        self.high_since = cause.and(self.high_since.or(Some(now)));
        self.calm_since = if pressure.is_below(&options.low) { self.calm_since.or(Some(now)) } else { None };
        if self.moved.is_some_and(|(moved, _)| now.since(moved) < options.dwell) {
            return None;
        }
        let lasts = |since: Option<Timestamp>, time| since.is_some_and(|since| now.since(since) >= time);
        let to = if cause.is_some()
            && (pressure.ring >= options.urgent_ring || lasts(self.high_since, options.dwell))
        {
            self.rung.up().min(options.top)
        } else if lasts(self.calm_since, self.calm) {
            self.calm_since = Some(now);
            self.rung.down()
        } else {
            self.rung
        };
        let from = std::mem::replace(&mut self.rung, to);
        if to == from {
            return None;
        }
        self.adapt(now, to < from);
        Some(Change { from, to, cause, pressure })
    }

    /// Makes the calm longer or shorter by how the last move down turned out, and notes this move.
    fn adapt(&mut self, now: Timestamp, down: bool) {
        let before = self.moved.replace((now, down));
        let Some((moved, true)) = before else { return };
        if down {
            self.calm = (self.calm / 2).max(self.options.calm);
        } else if now.since(moved) < self.calm * SOON {
            self.calm = (self.calm * 2).min(self.options.longest_calm);
        }
    }
}
