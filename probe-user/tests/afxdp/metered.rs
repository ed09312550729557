// SPDX-License-Identifier: Apache-2.0 OR MIT
//! One end of a cable with the probe's program, which steers everything, and what came out of sockets.

use std::time::Duration;

use probe_common::{
    Counters, Direction, HashSeed, InterfaceEntry, KernelSettings,
    parse::{self, SliceBytes},
};
use probe_lab::{FlowId, Flows, Link, Sums, clock::wait_until};
use probe_user::{
    afxdp::{AfXdpOptions, AfXdpSource, ZeroCopy},
    flow::{Moment, Timestamp},
    kernel::{AttachPlan, Attachment, KernelOptions, LoadedProgram, XdpMode, possible_cpus},
    meter::{Frame, FrameSink, FrameSource, SourceError},
    net::{self, Role},
    slots::{Bank, Sizing},
};

/// For things that take milliseconds on an idle machine.
pub(super) const SOON: Duration = Duration::from_secs(20);

/// The metered end of a cable. To be used in its namespace.
pub(super) struct Metered {
    pub(super) program: LoadedProgram,
    pub(super) attachment: Option<Attachment>,
    pub(super) name: String,
    pub(super) index: u32,
    bank: Bank,
}

impl Metered {
    /// Loads the program, with places for so many sockets, and attaches nothing.
    pub(super) fn load(link: &Link, queues: u32) -> Self {
        let sizing = Sizing::new(possible_cpus().unwrap(), 256, 4096);
        let mut options = KernelOptions::new(sizing, HashSeed::from_random([0x3c; 56]));
        options.steer = KernelSettings::STEER_ALL;
        options.sockets = queues;
        let mut program = LoadedProgram::load(options).unwrap();
        let entry = InterfaceEntry { first_socket: 0, sockets: queues, ingress: 1, egress: 0 };
        program.set_interface(link.metered.index, entry).unwrap();
        let bank = program.bank().unwrap();
        let (name, index) = (link.metered.name.clone(), link.metered.index);
        Self { program, attachment: None, name, index, bank }
    }

    pub(super) fn attach(&mut self, mode: XdpMode) {
        let link = net::find(&self.name).unwrap().unwrap();
        let plan = AttachPlan { mode, ..AttachPlan::new(Role::Tap) };
        self.attachment = Some(self.program.attach(&link, plan).unwrap());
    }

    /// Loads, attaches in the driver, and opens one socket on queue 0.
    pub(super) fn with_socket(link: &Link, change: impl FnOnce(&mut AfXdpOptions)) -> (Self, AfXdpSource) {
        let mut metered = Self::load(link, 1);
        metered.attach(XdpMode::Native);
        let source = metered.open(0, change);
        (metered, source)
    }

    /// Values for a socket of this interface.
    pub(super) fn options(&self, queue: u32) -> AfXdpOptions {
        AfXdpOptions { zero_copy: ZeroCopy::Off, ..AfXdpOptions::new(&self.name, self.index, queue) }
    }

    /// Opens a socket and steers its queue to it.
    pub(super) fn open(&mut self, queue: u32, change: impl FnOnce(&mut AfXdpOptions)) -> AfXdpSource {
        let mut options = self.options(queue);
        change(&mut options);
        let source = AfXdpSource::open(options).unwrap();
        self.program.set_socket(queue, source.fd()).unwrap();
        source
    }

    pub(super) fn counters(&self) -> Counters {
        let reader = self.bank.counter_reader();
        reader.of_epoch(0).plus(&reader.of_epoch(1))
    }
}

/// Keeps every frame.
#[derive(Default)]
pub(super) struct Kept {
    pub(super) frames: Vec<Vec<u8>>,
    pub(super) lengths: Vec<usize>,
    pub(super) interface: u32,
}

impl FrameSink for Kept {
    fn take(&mut self, frame: Frame<'_>) {
        self.frames.push(frame.octets.to_vec());
        self.lengths.push(frame.wire_length);
        self.interface = frame.interface;
        assert_eq!(frame.direction, Direction::Ingress);
        assert_eq!((frame.stripped_tag, frame.segment_octets), (None, 0));
    }
}

/// Counts packets and octets of each flow.
#[derive(Default)]
pub(super) struct Tally {
    pub(super) flows: Flows,
    pub(super) packets: u64,
}

impl FrameSink for Tally {
    fn take(&mut self, frame: Frame<'_>) {
        let packet = parse::parse(&SliceBytes::new(frame.octets)).unwrap();
        let id = FlowId {
            source: packet.key.source(),
            destination: packet.key.destination(),
            source_port: packet.key.source_port(),
            destination_port: packet.key.destination_port(),
            protocol: packet.key.protocol(),
            tos: packet.key.tos(),
        };
        *self.flows.entry(id).or_default() += Sums { packets: 1, octets: packet.octets.into() };
        self.packets += 1;
    }
}

/// A time that goes on by a second with every reading: idle sockets are looked at each time.
pub(super) fn moment() -> Moment {
    use std::sync::atomic::{AtomicU64, Ordering};
    static SECONDS: AtomicU64 = AtomicU64::new(1);
    let now = Timestamp(SECONDS.fetch_add(1, Ordering::Relaxed) * 1_000_000_000);
    Moment { now, ..Moment::default() }
}

/// Receives everything that waits; a few at a time, so that batches end anywhere.
pub(super) fn receive_all(source: &mut AfXdpSource, sink: &mut dyn FrameSink) -> Result<usize, SourceError> {
    let mut all = 0;
    for limit in [1, 2, 3, 64, 65, 1000].into_iter().cycle() {
        let handed = source.receive(moment(), limit, sink)?;
        assert!(handed <= limit);
        all += handed;
        if handed == 0 {
            break;
        }
    }
    Ok(all)
}

/// Receives until so many frames have come, and nothing more.
pub(super) fn receive_exactly(source: &mut AfXdpSource, wanted: usize, sink: &mut dyn FrameSink) {
    let mut all = 0;
    wait_until(SOON, || {
        source.rest(Duration::from_millis(1));
        all += receive_all(source, sink).unwrap();
        all >= wanted
    });
    assert_eq!(all, wanted, "drops: {:?}", source.drops());
    assert_intact(source);
}

/// Every frame of the socket's memory is somewhere, and none in hand.
pub(super) fn assert_intact(source: &AfXdpSource) {
    let frames = source.frames();
    assert_eq!(frames.total(), source.options().frames as usize, "{frames:?}");
    assert_eq!((frames.free, frames.in_hand), (0, 0), "all are back in the kernel: {frames:?}");
}
