// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What exporters tell about their sampling. It is shown; no count is ever multiplied by it.

use std::collections::BTreeMap;
use std::fmt;
use std::mem::size_of;

use crate::element::{ElementId, Value};

/// Samplers remembered of one session.
const MAX_SAMPLERS: usize = 64;

/// So many packets taken out of so many.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Rate {
    /// Taken, out of.
    Ratio(u64, u64),
    /// Chance of each.
    Probability(f64),
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ratio(taken, of) => write!(f, "{taken}:{of}"),
            Self::Probability(chance) => write!(f, "probability {chance}"),
        }
    }
}

/// Samplers of a session, by selector or sampler id; 0 where there is none.
#[derive(Default, Debug)]
pub(super) struct Samplers(BTreeMap<u64, Rate>);

impl Samplers {
    /// Takes note of an options record, if it tells of sampling.
    pub(super) fn note(&mut self, elements: &[(ElementId, Value)]) {
        let value =
            |id| elements.iter().find(|(found, _)| *found == ElementId::iana(id)).map(|(_, value)| value);
        let number = |id| value(id).and_then(Value::unsigned);
        let rate = if let (Some(interval), Some(space)) = (number(305), number(306)) {
            // RFC 5477 section 8.2: so many packets one after another, then so many not.
            Some(Rate::Ratio(interval, interval.saturating_add(space)))
        } else if let (Some(size), Some(population)) = (number(309), number(310)) {
            Some(Rate::Ratio(size, population))
        } else if let Some(Value::Float(chance)) = value(311) {
            Some(Rate::Probability(*chance))
        } else {
            // samplingInterval, samplerRandomInterval; some send 305 alone for the same.
            number(34).or_else(|| number(50)).or_else(|| number(305)).map(|of| Rate::Ratio(1, of))
        };
        if let Some(rate) = rate {
            self.put(number(302).or_else(|| number(48)).unwrap_or(0), rate);
        }
    }

    /// Takes note of the sampling of a NetFlow v5 header: mode (2 bits) and interval (14 bits).
    pub(super) fn note_v5(&mut self, sampling: u16) {
        let interval = sampling & 0x3fff;
        if interval > 1 {
            self.put(0, Rate::Ratio(1, interval.into()));
        }
    }

    fn put(&mut self, selector: u64, rate: Rate) {
        if self.0.len() < MAX_SAMPLERS || self.0.contains_key(&selector) {
            self.0.insert(selector, rate);
        }
    }

    pub(super) fn octets(&self) -> usize {
        self.0.len() * 2 * size_of::<(u64, Rate)>()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, Rate)> + '_ {
        self.0.iter().map(|(selector, rate)| (*selector, *rate))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noted(elements: &[(u16, u64)]) -> Vec<(u64, String)> {
        let mut samplers = Samplers::default();
        let elements: Vec<_> =
            elements.iter().map(|(id, value)| (ElementId::iana(*id), Value::Unsigned(*value))).collect();
        samplers.note(&elements);
        samplers.iter().map(|(selector, rate)| (selector, rate.to_string())).collect()
    }

    #[test]
    fn every_form_of_sampling() {
        let one = |selector, rate: &str| vec![(selector, rate.to_owned())];
        assert_eq!(noted(&[(34, 100), (35, 2)]), one(0, "1:100"));
        assert_eq!(noted(&[(48, 7), (49, 2), (50, 1000)]), one(7, "1:1000"));
        assert_eq!(noted(&[(302, 3), (304, 1), (305, 1), (306, 99)]), one(3, "1:100"));
        assert_eq!(noted(&[(302, 3), (304, 3), (309, 5), (310, 50)]), one(3, "5:50"));
        assert_eq!(noted(&[(305, u64::MAX), (306, u64::MAX)]), one(0, &format!("{0}:{0}", u64::MAX)));
        assert_eq!(noted(&[(10, 3), (82, 0)]), []);
        let mut samplers = Samplers::default();
        samplers.note(&[(ElementId::iana(311), Value::Float(0.25))]);
        assert_eq!(samplers.iter().next().unwrap().1.to_string(), "probability 0.25");
        samplers.note_v5(0x4000 | 100);
        assert_eq!(samplers.iter().next().unwrap().1, Rate::Ratio(1, 100));
    }

    #[test]
    fn samplers_are_bounded() {
        let mut samplers = Samplers::default();
        for selector in 0..1000 {
            samplers.note(&[
                (ElementId::iana(302), Value::Unsigned(selector)),
                (ElementId::iana(34), Value::Unsigned(10)),
            ]);
        }
        assert_eq!(samplers.iter().count(), MAX_SAMPLERS);
    }
}
