// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The program in the kernel, run by `BPF_PROG_TEST_RUN`, and what its maps say.

use std::{collections::BTreeMap, sync::Arc};

use aya::{TestRun, TestRunOptions};
use nix::{
    sched::{CpuSet, sched_setaffinity},
    unistd::Pid,
};
use probe_common::{
    Detail, DetailedSlot, Direction, FlowKey, HashSeed, KEY_CUSTOMER_VLAN_MASK, KEY_VLAN_MASK, KEY_WORDS,
    Outcome,
    parse::{self, SliceBytes},
};
use probe_user::{
    kernel::{Barrier, ControlMap, KernelOptions, LoadedProgram, possible_cpus},
    net::Role,
    slots::{Bank, CacheReader, Sizing, SpillReader},
};

/// The kernel refuses shorter test packets: an Ethernet header must be there.
pub(super) const SHORTEST: usize = 14;
/// A program that runs as a test is told the loopback interface of its namespace.
pub(super) const LOOPBACK: u32 = 1;

/// What was counted, by either side.
#[derive(PartialEq, Eq, Default, Debug)]
pub(super) struct Account {
    /// Packets, octets, flags and details for each key; with a program without details, none are known.
    pub(super) flows: BTreeMap<[u64; KEY_WORDS], (u64, u64, u16, Detail)>,
    pub(super) outcomes: BTreeMap<&'static str, u64>,
    pub(super) noted: u64,
    pub(super) received: (u64, u64),
}

impl Account {
    /// By the parser over slices.
    pub(super) fn of_slices(frames: &[Vec<u8>], details: bool, direction: Direction) -> Self {
        let mut account = Self::default();
        for frame in frames {
            account.received.0 += 1;
            account.received.1 += frame.len() as u64;
            match parse::parse(&SliceBytes::new(frame)) {
                Ok(mut packet) => {
                    packet.key.set_interface(LOOPBACK, direction);
                    let detail = if details { packet.detail } else { Detail::UNKNOWN };
                    account.add(&packet.key, 1, packet.octets.into(), packet.tcp_flags, detail);
                    account.noted += u64::from(packet.note.is_some());
                }
                Err(outcome) => *account.outcomes.entry(outcome.name()).or_default() += 1,
            }
        }
        account
    }

    /// In the order in which the packets came.
    pub(super) fn add(&mut self, key: &FlowKey, packets: u64, octets: u64, flags: u16, detail: Detail) {
        let flow = self.flows.entry(*key.words()).or_default();
        flow.0 += packets;
        flow.1 += octets;
        flow.2 |= flags;
        flow.3.add_later(&detail);
    }
}

/// Which of the programs is run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Hook {
    Xdp(Role),
    /// The program for frames in several buffers.
    XdpFrags(Role),
    Tc(Direction),
}

impl Hook {
    /// XDP of both roles, with frames in one buffer and in several, and tc both ways.
    pub(super) const ALL: [Self; 6] = [
        Self::Xdp(Role::Tap),
        Self::Xdp(Role::Host),
        Self::XdpFrags(Role::Tap),
        Self::XdpFrags(Role::Host),
        Self::Tc(Direction::Ingress),
        Self::Tc(Direction::Egress),
    ];

    /// As in the keys that its program makes.
    pub(super) fn direction(self) -> Direction {
        if let Self::Tc(direction) = self { direction } else { Direction::Ingress }
    }

    /// Whether the kernel takes a frame as a test packet: what a page holds, or for several buffers a page and 17 more,
    /// with an Ethernet header; of a socket buffer also the IP header that its type promises (`bpf_prog_test_run_skb`).
    pub(super) fn takes(self, frame: &[u8]) -> bool {
        let shortest = match (self, frame.get(12..14)) {
            (Self::Tc(_), Some([0x08, 0x00])) => SHORTEST + 20,
            (Self::Tc(_), Some([0x86, 0xdd])) => SHORTEST + 40,
            (Self::Tc(_), _) => SHORTEST + 1,
            _ => SHORTEST,
        };
        let longest = if matches!(self, Self::XdpFrags(_)) { 72_000 } else { 3000 };
        (shortest..=longest).contains(&frame.len())
    }

    /// What its program returns: XDP_DROP, XDP_PASS (enum xdp_action in include/uapi/linux/bpf.h), TC_ACT_UNSPEC.
    fn verdict(self) -> u32 {
        match self {
            Self::Xdp(Role::Tap) | Self::XdpFrags(Role::Tap) => 1,
            Self::Xdp(Role::Host) | Self::XdpFrags(Role::Host) => 2,
            Self::Tc(_) => u32::MAX,
        }
    }
}

/// The program in the kernel, not attached.
pub(super) struct Kernel {
    pub(super) program: LoadedProgram,
    pub(super) bank: Bank,
    pub(super) rings: Vec<SpillReader>,
    cache: CacheReader,
    pub(super) control: Arc<ControlMap>,
    epoch: u32,
    barrier: Barrier,
    hook: Hook,
    details: bool,
    seen: Account,
}

impl Kernel {
    pub(super) fn load(role: Role) -> Self {
        Self::load_with(role, |_| {})
    }

    pub(super) fn load_with(role: Role, change: impl FnOnce(&mut KernelOptions)) -> Self {
        Self::load_hook(Hook::Xdp(role), change)
    }

    pub(super) fn load_hook(hook: Hook, change: impl FnOnce(&mut KernelOptions)) -> Self {
        // One CPU: a test run counts where it runs.
        let mut cpu = CpuSet::new();
        cpu.set(0).unwrap();
        sched_setaffinity(Pid::from_raw(0), &cpu).unwrap();
        let mut options = KernelOptions {
            key_mask: KEY_VLAN_MASK | KEY_CUSTOMER_VLAN_MASK,
            ..KernelOptions::new(
                Sizing::new(possible_cpus().unwrap(), 256, 4096),
                HashSeed::from_random([0x5a; 56]),
            )
        };
        change(&mut options);
        let details = options.sizing.details;
        let mut program = LoadedProgram::load(options).unwrap();
        let bank = program.bank().unwrap();
        let (rings, cache, control) = (bank.spill_readers(0), bank.cache_reader(0), program.control());
        let barrier = program.barrier().unwrap();
        Self {
            program,
            bank,
            rings,
            cache,
            control,
            epoch: 0,
            barrier,
            hook,
            details,
            seen: Account::default(),
        }
    }

    /// With details, for the role of a mirror port.
    pub(super) fn load_detailed() -> Self {
        Self::load_with(Role::Tap, |options| options.sizing = options.sizing.with_details(true))
    }

    /// Runs the program over each frame.
    pub(super) fn run(&mut self, frames: &[Vec<u8>]) {
        for frame in frames {
            self.run_in(frame, None);
        }
    }

    /// Runs the program over a frame, in a context of the kernel's layout (`struct __sk_buff`).
    pub(super) fn run_in(&mut self, frame: &[u8], context: Option<&[u8]>) {
        let options = TestRunOptions { data_in: Some(frame), ctx_in: context, ..TestRunOptions::default() };
        let result = match self.hook {
            Hook::Xdp(role) => self.program.xdp(role, false).unwrap().test_run(options),
            Hook::XdpFrags(role) => self.program.xdp(role, true).unwrap().test_run(options),
            Hook::Tc(direction) => self.program.classifier(direction).unwrap().test_run(options),
        };
        let result = result.unwrap_or_else(|error| panic!("{} octets {frame:02x?}: {error}", frame.len()));
        assert_eq!(result.return_value, self.hook.verdict(), "{:?}", self.hook);
    }

    /// What the ring holds, then what the cache does: the oldest first, for one key.
    pub(super) fn slots(&mut self) -> Vec<DetailedSlot> {
        self.epoch ^= 1;
        self.control.set_epoch(self.epoch).unwrap();
        self.barrier.wait().unwrap();
        self.cache.begin(self.epoch ^ 1);
        let mut slots: Vec<DetailedSlot> = Vec::new();
        for ring in &mut self.rings {
            while ring.drain(1 << 20, &mut slots) > 0 {}
        }
        while self.cache.drain(1 << 20, &mut slots) {}
        slots
    }

    /// Runs the program over each frame and returns what its maps say.
    pub(super) fn account(&mut self, frames: &[Vec<u8>]) -> Account {
        self.run(frames);
        self.counted()
    }

    /// What the maps say of the packets since the last call.
    pub(super) fn counted(&mut self) -> Account {
        let mut account = Account::default();
        for DetailedSlot { slot, detail } in self.slots() {
            account.add(&slot.key(), slot.packets.into(), slot.octets.into(), slot.tcp_flags(), detail);
        }
        // The counters are never reset: what is new is the difference.
        let counters = self.bank.counter_reader();
        let counters = counters.of_epoch(0).plus(&counters.of_epoch(1));
        let all = Account {
            flows: BTreeMap::new(),
            outcomes: Outcome::ALL
                .iter()
                .map(|outcome| (outcome.name(), counters.outcomes[*outcome as usize]))
                .collect(),
            noted: counters.notes.iter().sum(),
            received: (counters.received_packets, counters.received_octets),
        };
        for (name, count) in &all.outcomes {
            let new = count - self.seen.outcomes.get(name).copied().unwrap_or(0);
            if new > 0 {
                account.outcomes.insert(name, new);
            }
        }
        account.noted = all.noted - self.seen.noted;
        account.received = (all.received.0 - self.seen.received.0, all.received.1 - self.seen.received.1);
        self.seen = all;
        assert_eq!(counters.lost_records, 0, "the ring is large enough");
        assert_eq!(counters.steered_packets, 0, "there is no socket");
        account
    }

    /// Compares frame by frame once a batch differs, so that the message shows the one frame.
    pub(super) fn check(&mut self, frames: &[Vec<u8>]) {
        let frames: Vec<Vec<u8>> = frames.iter().filter(|frame| self.hook.takes(frame)).cloned().collect();
        let (details, direction) = (self.details, self.hook.direction());
        if self.account(&frames) == Account::of_slices(&frames, details, direction) {
            return;
        }
        for frame in &frames {
            let one = std::slice::from_ref(frame);
            assert_eq!(self.account(one), Account::of_slices(one, details, direction), "frame {frame:02x?}");
        }
        panic!("the whole differs although each frame agrees: {} frames", frames.len());
    }
}
