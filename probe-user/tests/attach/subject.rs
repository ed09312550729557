// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The kernel side alone: programs, what they are attached to, and what they counted.

use std::{collections::BTreeMap, time::Duration};

use probe_common::{
    Counters, Direction, HashSeed, InterfaceEntry, KEY_VLAN_MASK, KEY_WORDS, Outcome, Slot,
    parse::{self, SliceBytes},
};
use probe_lab::{LinkEnd, clock::wait_until, packets::Packet, require_root};
use probe_user::{
    kernel::{AttachPlan, Attachment, Barrier, KernelError, KernelOptions, LoadedProgram, possible_cpus},
    net,
    slots::{Bank, Sizing},
};

/// For what takes milliseconds on an idle machine.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// Packets and octets of each flow key.
pub(crate) type Counts = BTreeMap<[u64; KEY_WORDS], (u64, u64)>;

/// Adds frames as they must be counted on their way through an interface.
pub(crate) fn add_frames(counts: &mut Counts, frames: &[Vec<u8>], end: &LinkEnd, direction: Direction) {
    for frame in frames {
        let mut packet = parse::parse(&SliceBytes::new(frame)).unwrap();
        packet.key.set_interface(end.index, direction);
        let count = counts.entry(*packet.key.words()).or_default();
        *count = (count.0 + 1, count.1 + u64::from(packet.octets));
    }
}

/// The same for packets.
pub(crate) fn add_packets(counts: &mut Counts, packets: &[Packet], end: &LinkEnd, direction: Direction) {
    let frames: Vec<Vec<u8>> = packets.iter().map(Packet::frame).collect();
    add_frames(counts, &frames, end, direction);
}

/// Programs that are loaded.
pub(crate) struct Subject {
    pub(crate) program: LoadedProgram,
    bank: Bank,
    barrier: Barrier,
    epoch: u32,
    /// What the kernel's counters, which are never reset, were when counting began.
    before: Counters,
}

impl Subject {
    pub(crate) fn new() -> Self {
        Self::with(|_| {})
    }

    pub(crate) fn with(change: impl FnOnce(&mut KernelOptions)) -> Self {
        require_root();
        let sizing = Sizing::new(possible_cpus().unwrap(), 1024, 4096);
        let mut options = KernelOptions {
            key_mask: KEY_VLAN_MASK,
            once: false,
            ..KernelOptions::new(sizing, HashSeed::from_random([0xa5; 56]))
        };
        change(&mut options);
        let mut program = LoadedProgram::load(options).unwrap();
        let (bank, barrier) = (program.bank().unwrap(), program.barrier().unwrap());
        Self { program, bank, barrier, epoch: 0, before: Counters::default() }
    }

    /// Attaches to an interface, in its namespace, and tells the kernel of it.
    pub(crate) fn attach(&mut self, end: &LinkEnd, plan: AttachPlan) -> Result<Held, KernelError> {
        let attachment = end.namespace.enter(|| {
            let link = net::find(&end.name).unwrap().unwrap();
            self.program.prepare(&link, plan)?;
            self.program.attach(&link, plan)
        });
        let attachment = attachment.unwrap()?;
        let entry = InterfaceEntry {
            ingress: attachment.ingress().is_some().into(),
            egress: attachment.egress().is_some().into(),
            ..InterfaceEntry::default()
        };
        self.program.set_interface(end.index, entry).unwrap();
        Ok(Held { attachment: Some(attachment), end: end.clone() })
    }

    fn all_counters(&self) -> Counters {
        let counters = self.bank.counter_reader();
        counters.of_epoch(0).plus(&counters.of_epoch(1))
    }

    /// What the programs have counted since the last [`Self::begin`].
    pub(crate) fn counters(&self) -> Counters {
        let (now, before) = (self.all_counters(), &self.before);
        let mut counters = now;
        counters.received_packets -= before.received_packets;
        counters.received_octets -= before.received_octets;
        counters.metered_packets -= before.metered_packets;
        for (counter, before) in counters.outcomes.iter_mut().zip(before.outcomes) {
            *counter -= before;
        }
        counters
    }

    /// Forgets what was counted.
    pub(crate) fn begin(&mut self) {
        self.counts();
        self.before = self.all_counters();
    }

    /// Waits until this many packets were received.
    pub(crate) fn wait_for(&self, packets: u64) {
        let came = wait_until(SOON, || self.counters().received_packets >= packets);
        assert!(came, "{packets} packets are awaited: {:?}", self.counters());
    }

    /// What was counted since the last call, flow by flow.
    pub(crate) fn counts(&mut self) -> Counts {
        let quiet = self.epoch;
        self.epoch ^= 1;
        self.program.control().set_epoch(self.epoch).unwrap();
        self.barrier.wait().unwrap();
        let mut cache = self.bank.cache_reader(0);
        cache.begin(quiet);
        let mut slots: Vec<Slot> = Vec::new();
        while cache.drain(1 << 20, &mut slots) {}
        let mut counts = Counts::new();
        for slot in slots {
            let count = counts.entry(*slot.key().words()).or_default();
            *count = (count.0 + u64::from(slot.packets), count.1 + u64::from(slot.octets));
        }
        assert_eq!(self.counters().spilled_records, 0, "the caches are large enough");
        counts
    }

    /// Waits for the packets of `expected`, and for `unmetered` others; there must be no more, and no other count.
    pub(crate) fn assert_counts(&mut self, expected: &Counts, unmetered: &[(Outcome, u64)], what: &str) {
        let metered: u64 = expected.values().map(|(packets, _)| packets).sum();
        let others: u64 = unmetered.iter().map(|(_, packets)| packets).sum();
        let before = self.counters();
        self.wait_for(metered + others);
        assert_eq!(&self.counts(), expected, "{what}: {before:?}");
        let counters = self.counters();
        assert_eq!(counters.received_packets, metered + others, "{what}: {counters:?}");
        assert_eq!(counters.metered_packets, metered, "{what}: {counters:?}");
        for (outcome, packets) in unmetered {
            assert_eq!(counters.outcomes[*outcome as usize], *packets, "{what}: {}", outcome.name());
        }
    }
}

/// What is attached, with where: what is a filter of a namespace's qdisc has to be removed there.
pub(crate) struct Held {
    attachment: Option<Attachment>,
    end: LinkEnd,
}

impl std::ops::Deref for Held {
    type Target = Attachment;

    fn deref(&self) -> &Attachment {
        self.attachment.as_ref().unwrap()
    }
}

impl Held {
    /// As a crash does: what the kernel does not undo stays.
    pub(crate) fn crash(mut self) {
        std::mem::forget(self.attachment.take());
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(attachment) = self.attachment.take() {
            self.end.namespace.enter(|| drop(attachment)).unwrap();
        }
    }
}

/// Nothing of ours is on the interface, soon: a program that another test is starting holds a copy of our links until it
/// is loaded, and the kernel detaches with the last copy.
pub(crate) fn assert_bare(end: &LinkEnd) {
    let mut left = String::new();
    wait_until(SOON, || {
        left = what_is_left(end);
        left.is_empty()
    });
    assert_eq!(left, "", "left on {}", end.name);
}

fn what_is_left(end: &LinkEnd) -> String {
    let mut left = String::new();
    if end.has_xdp().unwrap() {
        left += "a program at XDP; ";
    }
    for way in ["ingress", "egress"] {
        left += &tc(end, &["filter", "show", "dev", &end.name, way]);
    }
    if tc(end, &["qdisc", "show", "dev", &end.name]).contains("clsact") {
        left += "the qdisc clsact; ";
    }
    end.namespace
        .enter(|| {
            use aya::programs::{SchedClassifier, TcAttachType};
            for way in [TcAttachType::Ingress, TcAttachType::Egress] {
                // Kernels without tcx have no such question.
                if let Ok((_, programs)) = SchedClassifier::query_tcx(&end.name, way)
                    && !programs.is_empty()
                {
                    left += &format!("{way:?}: {programs:?}; ");
                }
            }
        })
        .unwrap();
    left
}

pub(crate) fn tc(end: &LinkEnd, args: &[&str]) -> String {
    end.namespace.run("tc", args).unwrap()
}
