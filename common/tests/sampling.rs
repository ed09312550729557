// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Flow sampling: an even share of every set of the cache, nested from interval to interval.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use probe_common::{FlowKey, HashSeed, KEY_BASE_MASK, sampling_threshold, selects_flow};

const FLOWS: u32 = 400_000;
const SET_BITS: u32 = 6;

fn seeds() -> [HashSeed; 3] {
    // Of real seeds every octet is random; the last one shows that poor ones do as well.
    [
        HashSeed::from_random(std::array::from_fn(|at| (at * 37 + 11).to_le_bytes()[0])),
        HashSeed::from_random(std::array::from_fn(|at| (at * at * 101 + 3).to_le_bytes()[0])),
        HashSeed::from_random([7; 56]),
    ]
}

/// Neighbours in address and port, of both versions.
fn key(flow: u32) -> FlowKey {
    let [a, b, c, d] = flow.to_be_bytes();
    let mut key = if flow.is_multiple_of(2) {
        FlowKey::ipv4([10, a, b, c], [192, 0, 2, d], 17, 0)
    } else {
        FlowKey::ipv6([0x2001, u64::from(flow)], [7, 9], 6, 0)
    };
    key.set_ports(u16::from_be_bytes([c, d]), 443);
    key
}

#[test]
fn each_set_gives_its_share() {
    for (number, seed) in seeds().iter().enumerate() {
        for interval in [2u32, 4, 10] {
            let threshold = sampling_threshold(interval.into());
            let mut sets = [(0u32, 0u32); 1 << SET_BITS];
            for flow in 0..FLOWS {
                let hash = seed.hash(&key(flow), KEY_BASE_MASK);
                let (all, selected) = &mut sets[usize::try_from(hash >> (64 - SET_BITS)).unwrap()];
                *all += 1;
                *selected += u32::from(selects_flow(threshold, seed.sampling(hash)));
            }
            let share = 1.0 / f64::from(interval);
            for (set, (all, selected)) in sets.into_iter().enumerate() {
                let wanted = f64::from(all) * share;
                let sigma = (wanted * (1.0 - share)).sqrt();
                let off = (f64::from(selected) - wanted).abs();
                assert!(
                    off < 6.0 * sigma.max(1.0),
                    "seed {number}, 1 in {interval}, set {set}: {selected} of {all}"
                );
            }
        }
    }
}

#[test]
fn a_larger_interval_selects_among_those_of_a_smaller_one() {
    let seed = seeds()[0];
    for flow in 0..FLOWS {
        let hash = seed.sampling(seed.hash(&key(flow), KEY_BASE_MASK));
        let selected =
            [1, 2, 4, 6, 100, 10_000].map(|interval| selects_flow(sampling_threshold(interval), hash));
        assert!(selected.is_sorted_by(|smaller, larger| smaller >= larger), "flow {flow}: {selected:?}");
    }
}
