// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the probe tells of itself in options records. Each is a set of its own, as its template is: nfcapd
//! 1.7.1 reads only the first of a set.
//!
//! | id | scope | elements |
//! |---|---|---|
//! | 260 | domain | exported messages, records, octets (41, 42, 40); flow timeouts (36, 37) |
//! | 261 | exporting process | the ledger: 163 to 168; from the first domain only, as it is one ledger |
//! | 262, 264, 265 | domain or selector | sampling |
//! | 263 | interface | its name and description (82, 83) |
//!
//! They are made of what RFC 7011 sections 4.1 to 4.3 recommend.
//!
//! Sampling in the `compat` form is samplingInterval (34) for the domain: the one form that all collectors
//! in use take for what packets and octets are to be multiplied with (alone: with samplingAlgorithm, 35,
//! beside it nfcapd 1.7.1 ignores both, in v9 as in IPFIX). In the `psamp` form it is a selector (302)
//! with its algorithm (304) and parameters (RFC 5477): 305 and 306 for every N-th packet (262), 309 and 310
//! for one flow in N (264), 311 for packets at random and for all that was put together (265). Version 9 has
//! no such scope and says samplerId, mode and interval (48 to 50) instead.

use super::{
    sampling::SamplingTold,
    template::{Dialect, Spec, options_template, set},
    told::{InterfaceName, Told},
};
use crate::{export::values::SamplingOptions, flow::Sampling};

const DOMAIN: u16 = 260;
const PROCESS: u16 = 261;
const SAMPLING: u16 = 262;
const INTERFACE: u16 = 263;
const SAMPLING_SIZE: u16 = 264;
const SAMPLING_PROBABILITY: u16 = 265;

/// There is one exporting process, and one selector.
const ONE: u8 = 1;
/// Texts have a fixed length, in IPFIX too: of a variable one pmacct 1.7.7 takes the octets for more records,
/// and misses those ever after; nfcapd 1.7.1 refuses it. Names of interfaces end before 16 octets (IFNAMSIZ).
const NAME: u16 = 16;
const DESCRIPTION: u16 = 64;

/// selectorAlgorithm (304), RFC 5477 section 8.2.
const SYSTEMATIC_COUNT: u16 = 1;
const RANDOM_N_OUT_OF_N: u16 = 3;
const UNIFORM_PROBABILISTIC: u16 = 4;

/// Sums of one domain since the start.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Totals {
    pub(super) messages: u64,
    pub(super) records: u64,
    pub(super) octets: u64,
}

/// How and for whom options are told.
#[derive(Clone, Copy, Debug)]
pub(super) struct Options {
    pub(super) dialect: Dialect,
    pub(super) sampling: SamplingOptions,
    pub(super) domain: u32,
    /// Whether this is the first domain.
    pub(super) first: bool,
}

fn spec(id: u16, len: u16) -> Spec {
    Spec::new(id, len)
}

impl Options {
    /// A scope: an element in IPFIX, in version 9 one of the types of RFC 3954 section 6.1.
    fn scope(self, element: u16, v9: u16) -> Spec {
        Spec::new(if self.dialect == Dialect::V9 { v9 } else { element }, 4)
    }

    /// The whole exporter (version 9: System).
    fn domain_scope(self) -> Spec {
        self.scope(149, 1)
    }

    /// The templates, as sets.
    pub(super) fn templates(self) -> Vec<Vec<u8>> {
        let options = |id, scope, fields: &[Spec]| options_template(self.dialect, id, scope, fields);
        let domain = [spec(41, 8), spec(42, 8), spec(40, 8), spec(36, 2), spec(37, 2)];
        let mut sets = vec![options(DOMAIN, self.domain_scope(), &domain)];
        if self.first {
            sets.push(options(
                PROCESS,
                self.scope(144, 1),
                &[163, 164, 165, 166, 167, 168].map(|id| spec(id, 8)),
            ));
        }
        let selector = spec(302, 8);
        match (self.sampling, self.dialect) {
            (SamplingOptions::Compat, _) => {
                sets.push(options(SAMPLING, self.domain_scope(), &[spec(34, 4)]));
            }
            (SamplingOptions::Psamp, Dialect::V9) => {
                let fields = [spec(48, 1), spec(49, 1), spec(50, 4)];
                sets.push(options(SAMPLING, self.domain_scope(), &fields));
            }
            (SamplingOptions::Psamp, Dialect::Ipfix) => {
                sets.push(options(SAMPLING, selector, &[spec(304, 2), spec(305, 4), spec(306, 4)]));
                sets.push(options(SAMPLING_SIZE, selector, &[spec(304, 2), spec(309, 4), spec(310, 4)]));
                sets.push(options(SAMPLING_PROBABILITY, selector, &[spec(304, 2), spec(311, 8)]));
            }
        }
        sets.push(options(INTERFACE, self.scope(10, 2), &[spec(82, NAME), spec(83, DESCRIPTION)]));
        sets
    }

    fn set(self, id: u16, contents: &[&[u8]]) -> Vec<u8> {
        set(self.dialect, id, &contents.concat())
    }

    /// What the domain sent, and the timeouts.
    pub(super) fn statistics(self, told: &Told, totals: &Totals) -> Vec<u8> {
        let seconds = |time: std::time::Duration| u16::try_from(time.as_secs()).unwrap_or(u16::MAX);
        let fields: [&[u8]; 6] = [
            &self.domain.to_be_bytes(),
            &totals.messages.to_be_bytes(),
            &totals.records.to_be_bytes(),
            &totals.octets.to_be_bytes(),
            &seconds(told.active_timeout).to_be_bytes(),
            &seconds(told.idle_timeout).to_be_bytes(),
        ];
        self.set(DOMAIN, &fields)
    }

    /// The ledger.
    pub(super) fn ledger(self, told: &Told) -> Vec<u8> {
        let metering = &told.metering;
        let scope = if self.dialect == Dialect::V9 { self.domain } else { ONE.into() };
        let counts = [
            metering.observed_flows,
            metering.ignored_packets,
            metering.ignored_octets,
            metering.not_sent_flows,
            metering.not_sent_packets,
            metering.not_sent_octets,
        ];
        self.set(PROCESS, &[&scope.to_be_bytes(), counts.map(u64::to_be_bytes).as_flattened()])
    }

    /// How much of the traffic is told; also that it is all.
    pub(super) fn sampling(self, told: SamplingTold) -> Vec<u8> {
        let interval = told.interval();
        let domain = self.domain.to_be_bytes();
        // 1 (deterministic) also where nothing is left out: every packet.
        let mode = told.mode().max(1);
        match (self.sampling, self.dialect) {
            (SamplingOptions::Compat, _) => self.set(SAMPLING, &[&domain, &interval.to_be_bytes()]),
            (SamplingOptions::Psamp, Dialect::V9) => {
                self.set(SAMPLING, &[&domain, &[ONE, mode], &interval.to_be_bytes()])
            }
            (SamplingOptions::Psamp, Dialect::Ipfix) => self.selector(told),
        }
    }

    fn selector(self, told: SamplingTold) -> Vec<u8> {
        let selector = u64::from(ONE).to_be_bytes();
        let one = u32::from(ONE).to_be_bytes();
        let (id, algorithm, parameters) = match (told.packets, told.flows) {
            (Sampling::Off | Sampling::Deterministic(_), 1) => {
                let space = told.interval().saturating_sub(1);
                (SAMPLING, SYSTEMATIC_COUNT, [one, space.to_be_bytes()])
            }
            (Sampling::Off, flows) => (SAMPLING_SIZE, RANDOM_N_OUT_OF_N, [one, flows.to_be_bytes()]),
            _ => {
                let probability = (1.0 / f64::from(told.interval())).to_be_bytes();
                let [a, b, c, d, e, f, g, h] = probability;
                (SAMPLING_PROBABILITY, UNIFORM_PROBABILISTIC, [[a, b, c, d], [e, f, g, h]])
            }
        };
        self.set(id, &[&selector, &algorithm.to_be_bytes(), parameters.as_flattened()])
    }

    /// What an interface is called; `number` is what stands for it in records.
    pub(super) fn interface(self, number: u32, interface: &InterfaceName) -> Vec<u8> {
        let text = |text: &str, len: u16| {
            let mut octets = head(text, len.into()).as_bytes().to_vec();
            octets.resize(len.into(), 0);
            octets
        };
        let name = text(&interface.name, NAME);
        let description = text(&interface.description, DESCRIPTION);
        self.set(INTERFACE, &[&number.to_be_bytes(), &name, &description])
    }
}

/// At most so many octets of the text, whole characters.
fn head(text: &str, octets: usize) -> &str {
    &text[..text.floor_char_boundary(octets)]
}
