// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The meter in user space is the program in the kernel: the same packets through both, and the slots that their
//! readers find.

use std::collections::BTreeMap;

use probe_common::{
    DetailedSlot, Direction, HashSeed, KEY_BASE_MASK, KEY_CUSTOMER_VLAN_MASK, KEY_VLAN_MASK, Outcome,
    PacketSampling,
    parse::{self, DeepBytes, SliceBytes},
};
use probe_lab::require_root;
use probe_user::{
    flow::{SamplingNow, Timestamp},
    fragment::JoinerOptions,
    meter::{Fragments, Frame, FrameSink, Meter, MeterOptions, MeterShared, OwnExports},
    net::Role,
    slots::{Bank, CacheRules, Sizing},
};
use proptest::{collection::vec, test_runner::TestRunner};

use super::{
    config, frame,
    kernel::{Account, Kernel, LOOPBACK, SHORTEST},
};

const FLOW_SAMPLING: u32 = 3;

/// What a meter makes of frames, all in one epoch.
fn metered(frames: &[Vec<u8>], details: bool, flow_interval: u32) -> Account {
    // The rules of `Kernel::load_with`, and few sets, so that slots are evicted.
    let seed = HashSeed::from_random([0x5a; 56]);
    let key_mask = KEY_BASE_MASK | KEY_VLAN_MASK | KEY_CUSTOMER_VLAN_MASK;
    let bank = Bank::in_memory(Sizing::new(1, 64, 4096).with_details(details)).unwrap();
    let shared = MeterShared {
        sampling: SamplingNow::default(),
        own_exports: OwnExports::default(),
        fragments: Fragments::new(JoinerOptions { key_mask, ..JoinerOptions::new(seed) }),
    };
    let options = MeterOptions { packets: PacketSampling::OFF, flow_interval, random: 1 };
    let mut meter = Meter::new(bank.slot_writer(0, CacheRules { key_mask, seed }), options, shared);
    for octets in frames {
        meter.take(Frame {
            octets,
            wire_length: octets.len(),
            stripped_tag: None,
            interface: LOOPBACK,
            direction: Direction::Ingress,
            segment_octets: 0,
            at: Timestamp(0),
        });
    }
    meter.finish();
    let mut slots: Vec<DetailedSlot> = Vec::new();
    for ring in &mut bank.spill_readers(0) {
        while ring.drain(1000, &mut slots) > 0 {}
    }
    let mut cache = bank.cache_reader(0);
    cache.begin(0);
    while cache.drain(1000, &mut slots) {}
    let mut account = Account::default();
    for DetailedSlot { slot, detail } in slots {
        account.add(&slot.key(), slot.packets.into(), slot.octets.into(), slot.tcp_flags(), detail);
    }
    let counters = bank.counter_reader().of_epoch(0);
    let outcomes = Outcome::ALL.map(|outcome| (outcome.name(), counters.outcomes[outcome as usize]));
    account.outcomes = outcomes.into_iter().filter(|(_, count)| *count > 0).collect();
    account.noted = counters.notes.iter().sum();
    account.received = (counters.received_packets, counters.received_octets);
    account
}

/// Whether both can read a frame equally well: user space reads deeper, and joins fragments.
fn is_for_both(frame: &[u8]) -> bool {
    let bytes = SliceBytes::new(frame);
    let parsed = parse::parse(&bytes);
    frame.len() >= SHORTEST
        && parsed == parse::parse(&DeepBytes(bytes))
        && parsed.map_or(true, |packet| !packet.fragment.is_part())
}

#[test]
#[ignore = "needs root: run `make test`"]
fn the_meter_in_user_space_counts_as_the_kernel_does() {
    require_root();
    let mut compared = BTreeMap::from([("metered", 0u64), ("sampled_out", 0)]);
    for (details, flow_sampling) in [(false, 1), (true, 1), (false, FLOW_SAMPLING)] {
        let mut kernel = Kernel::load_with(Role::Tap, |options| {
            options.sizing = options.sizing.with_details(details);
            options.flow_sampling = flow_sampling;
        });
        let (kernel, sums) = (std::cell::RefCell::new(&mut kernel), std::cell::RefCell::new(&mut compared));
        TestRunner::new(config(60))
            .run(&vec(frame(), 200), |frames| {
                // Each twice, for hits.
                let both = frames.iter().filter(|frame| is_for_both(frame));
                let frames: Vec<_> = both.clone().chain(both).cloned().collect();
                let (ours, theirs) =
                    (metered(&frames, details, flow_sampling), kernel.borrow_mut().account(&frames));
                assert_eq!(ours, theirs);
                let mut sums = sums.borrow_mut();
                *sums.entry("metered").or_default() += ours.flows.values().map(|flow| flow.0).sum::<u64>();
                *sums.entry("sampled_out").or_default() += ours.outcomes.get("sampled_out").unwrap_or(&0);
                Ok(())
            })
            .unwrap();
    }
    assert!(compared.values().all(|count| *count > 3000), "too few: {compared:?}");
}
