// SPDX-License-Identifier: Apache-2.0 OR MIT
//! How full what can fill up is.

/// Fill levels, each from 0 (empty) to 1 (full); also the marks that they are compared with.
#[derive(Clone, Copy, PartialEq, Default, Debug)]
pub struct Pressure {
    /// The fullest spill ring of any CPU: the harvester does not keep up with the kernel.
    pub ring: f64,
    /// The flow table: there are more flows than room.
    pub table: f64,
    /// The queue to the exporter: it does not keep up with the harvester.
    pub queue: f64,
}

/// What is under pressure.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cause {
    /// A spill ring.
    Ring,
    /// The flow table.
    Table,
    /// The queue to the exporter.
    Queue,
}

impl Cause {
    /// What it is, in a sentence.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Ring => "the spill ring",
            Self::Table => "the flow table",
            Self::Queue => "the queue to the exporter",
        }
    }

    /// What an operator can do about it.
    #[must_use]
    pub fn remedy(self) -> &'static str {
        match self {
            Self::Ring => "give the harvester a core of its own (--cores) or raise --spill-records",
            Self::Table => "raise --max-flows or shorten --idle-timeout, if this is no attack",
            Self::Queue => "give the exporter a core of its own (--cores)",
        }
    }
}

impl Pressure {
    /// The first that reaches its mark, if any does: what loses packets comes before what does not.
    #[must_use]
    pub fn reaches(&self, marks: &Self) -> Option<Cause> {
        if self.ring >= marks.ring {
            Some(Cause::Ring)
        } else if self.queue >= marks.queue {
            Some(Cause::Queue)
        } else if self.table >= marks.table {
            Some(Cause::Table)
        } else {
            None
        }
    }

    /// Whether all are below their marks.
    #[must_use]
    pub fn is_below(&self, marks: &Self) -> bool {
        self.ring < marks.ring && self.table < marks.table && self.queue < marks.queue
    }

    /// Keeps the highest that was seen of each.
    pub fn raise(&mut self, seen: &Self) {
        self.ring = self.ring.max(seen.ring);
        self.table = self.table.max(seen.table);
        self.queue = self.queue.max(seen.queue);
    }

    /// The level of one of them.
    #[must_use]
    pub fn of(&self, cause: Cause) -> f64 {
        match cause {
            Cause::Ring => self.ring,
            Cause::Table => self.table,
            Cause::Queue => self.queue,
        }
    }
}
