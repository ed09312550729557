// SPDX-License-Identifier: Apache-2.0 OR MIT
//! object + settings → maps and programs, not yet attached.

use std::{fs, os::fd::BorrowedFd, sync::Arc, time::Duration};

use aya::{
    Ebpf, EbpfError, EbpfLoader,
    maps::{Array, ArrayOfMaps, HashMap, Map, MapData, MapError, XskMap},
    programs::{SchedClassifier, Xdp},
};
use probe_common::{
    Direction, HashSeed, InterfaceEntry, KEY_BASE_MASK, KernelSettings, OwnExportKey, PacketSampling,
    map_name,
};

use crate::{
    net::{Link, Role},
    slots::{Bank, SharedArray, Sizing},
};

use super::{
    AttachPlan, Attachment, Barrier, ControlMap, KernelError,
    clock::KernelClock,
    log::KernelLog,
    programs::{self, classifier_name, xdp_name},
    refusal::{chain, is_absent, map_refused, mismatch, no_privilege, os_error, take},
};

static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/probe.o"));

/// Readings of the clocks before the program is attached: their earliest is good to some microseconds.
const CLOCK_READINGS: u32 = 5;

/// How to load the program.
#[derive(Clone, Copy, Debug)]
pub struct KernelOptions {
    /// Sizes of the maps, and whether slots have details.
    pub sizing: Sizing,
    /// Which packets are looked at.
    pub packet_sampling: PacketSampling,
    /// Of so many flows one is metered, chosen by a hash of the key; 0 and 1 stand for all.
    pub flow_sampling: u32,
    /// Bits of key word 5 beyond [`KEY_BASE_MASK`] that count.
    pub key_mask: u64,
    /// Seed of the cache's hash.
    pub seed: HashSeed,
    /// Which packets of mirror ports go to AF_XDP sockets: [`KernelSettings::STEER_NONE`], `STEER_DEEP` or
    /// `STEER_ALL`.
    pub steer: u32,
    /// Whether packets that go out are left alone if they came in on a metered interface.
    pub once: bool,
    /// Places for AF_XDP sockets, of all interfaces together.
    pub sockets: u32,
}

impl KernelOptions {
    /// Every packet of every flow, by the base key; no packet steered, none counted twice.
    #[must_use]
    pub fn new(sizing: Sizing, seed: HashSeed) -> Self {
        Self {
            sizing,
            packet_sampling: PacketSampling::OFF,
            flow_sampling: 1,
            key_mask: 0,
            seed,
            steer: KernelSettings::STEER_NONE,
            once: true,
            sockets: 0,
        }
    }
}

/// The programs and their maps in the kernel. Dropping it frees everything; what is attached stays so until its
/// [`Attachment`] is dropped.
pub struct LoadedProgram {
    ebpf: Ebpf,
    options: KernelOptions,
    own_export: HashMap<MapData, OwnExportKey, u32>,
    interfaces: HashMap<MapData, u32, InterfaceEntry>,
    sockets: XskMap<MapData>,
    control: Arc<ControlMap>,
    log: KernelLog,
    clock: KernelClock,
}

impl LoadedProgram {
    /// Creates the maps. Programs are verified when they are first needed; [`Self::prepare`] does it earlier.
    ///
    /// # Errors
    /// What the kernel refused, and what to do about it.
    pub fn load(options: KernelOptions) -> Result<Self, KernelError> {
        if OBJECT.is_empty() {
            return Err(KernelError::NoObject);
        }
        if fs::read_to_string("/sys/kernel/realtime").is_ok_and(|text| text.trim() == "1") {
            return Err(KernelError::RealTime);
        }
        let sizing = options.sizing;
        let mut settings =
            KernelSettings::new(sizing.rows, sizing.set_bits, sizing.spill_records - 1, options.seed);
        settings.range_bits = sizing.range_bits;
        settings.key_mask = KEY_BASE_MASK | options.key_mask;
        settings.sampling = options.packet_sampling;
        settings.steer = options.steer;
        settings.once = options.once.into();
        let mut ebpf = EbpfLoader::new()
            .override_global("SETTINGS", &settings, true)
            .map_max_entries(map_name::CACHE, sizing.sets_in_all())
            .map_max_entries(map_name::SPILL, sizing.records_in_all())
            .map_max_entries(map_name::DETAIL, sizing.detail_sets_in_all())
            .map_max_entries(map_name::SPILL_DETAIL, sizing.detail_records_in_all())
            .map_max_entries(map_name::SAMPLER, sizing.rows)
            .map_max_entries(map_name::CURSOR, sizing.rings_in_all())
            .map_max_entries(map_name::COUNTERS, sizing.rows * 2)
            .map_max_entries(map_name::XSKS, options.sockets.max(1))
            .load(OBJECT)
            .map_err(|error| load_error(&error, sizing))?;
        let log = KernelLog::open(&mut ebpf)?;
        let own_export = HashMap::try_from(take(&mut ebpf, map_name::OWN_EXPORT)?)
            .map_err(|_| mismatch(map_name::OWN_EXPORT))?;
        let interfaces = HashMap::try_from(take(&mut ebpf, map_name::INTERFACES)?)
            .map_err(|_| mismatch(map_name::INTERFACES))?;
        let sockets =
            XskMap::try_from(take(&mut ebpf, map_name::XSKS)?).map_err(|_| mismatch(map_name::XSKS))?;
        let control =
            Array::try_from(take(&mut ebpf, map_name::CONTROL)?).map_err(|_| mismatch(map_name::CONTROL))?;
        let control = Arc::new(ControlMap::new(control, options.flow_sampling));
        control.set_flow_sampling(1)?;
        let clock = KernelClock::new(&mut ebpf)?;
        let mut loaded = Self { ebpf, options, own_export, interfaces, sockets, control, log, clock };
        for reading in 0..CLOCK_READINGS {
            if reading > 0 {
                // The next reading is of another jiffy.
                std::thread::sleep(Duration::from_nanos(loaded.clock.jiffy_ns()));
            }
            loaded.learn_clock()?;
        }
        Ok(loaded)
    }

    /// What the program was loaded with.
    #[must_use]
    pub fn options(&self) -> &KernelOptions {
        &self.options
    }

    /// The memory in which the programs count: a row for each CPU.
    ///
    /// # Errors
    /// When a map cannot be mapped.
    pub fn bank(&self) -> Result<Bank, KernelError> {
        let (ebpf, sizing) = (&self.ebpf, self.options.sizing);
        let (mut details, mut spilled_details) = (None, None);
        if sizing.details {
            details = Some(map_array(ebpf, map_name::DETAIL, sizing.sets_in_all())?);
            spilled_details = Some(map_array(ebpf, map_name::SPILL_DETAIL, sizing.records_in_all())?);
        }
        Ok(Bank {
            sizing,
            cache: map_array(ebpf, map_name::CACHE, sizing.sets_in_all())?,
            details,
            spill: map_array(ebpf, map_name::SPILL, sizing.records_in_all())?,
            spilled_details,
            cursor: map_array(ebpf, map_name::CURSOR, sizing.rings_in_all())?,
            counters: map_array(ebpf, map_name::COUNTERS, sizing.rows * 2)?,
        })
    }

    /// What the programs are told while they run.
    #[must_use]
    pub fn control(&self) -> Arc<ControlMap> {
        Arc::clone(&self.control)
    }

    /// What waits for running programs. Can be called once.
    ///
    /// # Errors
    /// When the maps are not in the object, or were taken before.
    pub fn barrier(&mut self) -> Result<Barrier, KernelError> {
        let outer = ArrayOfMaps::try_from(take(&mut self.ebpf, map_name::BARRIER)?)
            .map_err(|_| mismatch(map_name::BARRIER))?;
        let inner =
            Array::try_from(take(&mut self.ebpf, "BARRIER_INNER")?).map_err(|_| mismatch("BARRIER_INNER"))?;
        Ok(Barrier::new(outer, inner))
    }

    /// Has the kernel verify the programs that a plan needs at least, so that a refusal comes before anything is
    /// attached.
    ///
    /// # Errors
    /// What the verifier refused.
    pub fn prepare(&mut self, link: &Link, plan: AttachPlan) -> Result<(), KernelError> {
        super::attach::prepare(&mut self.ebpf, self.options.sizing.details, link, plan)
    }

    /// Attaches programs to an interface of this thread's network namespace; undone when the result is dropped.
    ///
    /// # Errors
    /// When the interface, its driver, or the plan refuses. Nothing stays attached then.
    pub fn attach(&mut self, link: &Link, plan: AttachPlan) -> Result<Attachment, KernelError> {
        super::attach::attach(&mut self.ebpf, self.options.sizing.details, link, plan)
    }

    /// Tells the kernel of a metered interface: what is metered of it, and where its AF_XDP sockets are.
    ///
    /// # Errors
    /// When the map refuses: it has room for 1024 interfaces.
    pub fn set_interface(&mut self, index: u32, entry: InterfaceEntry) -> Result<(), KernelError> {
        self.interfaces
            .insert(index, entry, 0)
            .map_err(|error| map_refused("telling the kernel of a metered interface", error))
    }

    /// Forgets an interface; it is no error if none is known by that index.
    ///
    /// # Errors
    /// When the map refuses.
    pub fn remove_interface(&mut self, index: u32) -> Result<(), KernelError> {
        let removed = self.interfaces.remove(&index);
        forgiving(removed, "telling the kernel that an interface is not metered any more")
    }

    /// Has packets of a receive queue go to an AF_XDP socket, which must be bound to it. `place` is the interface's
    /// `first_socket` plus the queue.
    ///
    /// # Errors
    /// When `place` is not below the `sockets` of the options, or the kernel refuses the socket.
    pub fn set_socket(&mut self, place: u32, socket: BorrowedFd<'_>) -> Result<(), KernelError> {
        use std::os::fd::AsRawFd;
        self.sockets
            .set(place, socket.as_raw_fd(), 0)
            .map_err(|error| map_refused("telling the kernel of an AF_XDP socket", error))
    }

    /// Takes a socket away; it is no error if there is none. Packets of its queue are metered by the kernel from now
    /// on.
    ///
    /// # Errors
    /// When `place` is not below the `sockets` of the options, or the kernel refuses.
    pub fn unset_socket(&mut self, place: u32) -> Result<(), KernelError> {
        forgiving(self.sockets.unset(place), "taking an AF_XDP socket from the kernel program")
    }

    /// Tells the kernel which datagrams are our own: they are counted apart, not metered.
    ///
    /// # Errors
    /// When the map refuses.
    pub fn set_own_exports(&mut self, streams: &[OwnExportKey]) -> Result<(), KernelError> {
        let old: Vec<OwnExportKey> = self.own_export.keys().filter_map(Result::ok).collect();
        for key in old.iter().filter(|key| !streams.contains(key)) {
            self.own_export.remove(key).map_err(|error| map_refused(OWN_EXPORTS, error))?;
        }
        for key in streams {
            self.own_export.insert(key, 1, 0).map_err(|error| map_refused(OWN_EXPORTS, error))?;
        }
        self.control.set_own_exports(u32::try_from(streams.len()).unwrap_or(u32::MAX))
    }

    /// Reads the kernel's clocks, and tells the program when their relation is known better than before.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn learn_clock(&mut self) -> Result<(), KernelError> {
        if let Some(began_ns) = self.clock.learn(&mut self.ebpf)? {
            self.control.set_clock(self.clock.jiffy_ns(), began_ns)?;
        }
        Ok(())
    }

    /// Shows what the program has logged since the last call, in builds with the feature `kernel-log`.
    pub fn show_log(&mut self) {
        self.log.show();
    }

    /// A verified XDP program, for `BPF_PROG_TEST_RUN`. `frags`: the one for frames of several buffers.
    ///
    /// # Errors
    /// When it is not in the object, or the verifier refuses.
    pub fn xdp(&mut self, role: Role, frags: bool) -> Result<&mut Xdp, KernelError> {
        programs::xdp(&mut self.ebpf, xdp_name(role, self.options.sizing.details, frags))
    }

    /// A verified tc program, for `BPF_PROG_TEST_RUN`.
    ///
    /// # Errors
    /// When it is not in the object, or the verifier refuses.
    pub fn classifier(&mut self, direction: Direction) -> Result<&mut SchedClassifier, KernelError> {
        programs::classifier(&mut self.ebpf, classifier_name(direction, self.options.sizing.details))
    }
}

const OWN_EXPORTS: &str = "telling the kernel which datagrams are the probe's own";

/// What is not there need not be removed.
fn forgiving(removed: Result<(), MapError>, attempted: &'static str) -> Result<(), KernelError> {
    match removed {
        Err(error) if !is_absent(&error) => Err(map_refused(attempted, error)),
        _ => Ok(()),
    }
}

fn map_array<T: aya::Pod>(
    ebpf: &Ebpf,
    name: &'static str,
    entries: u32,
) -> Result<Arc<SharedArray<T>>, KernelError> {
    let Some(Map::Array(data)) = ebpf.map(name) else {
        return Err(mismatch(name));
    };
    let mapped = SharedArray::map(data.fd(), entries as usize);
    mapped.map(Arc::new).map_err(|error| KernelError::Map { map: name, error })
}

fn load_error(error: &EbpfError, sizing: Sizing) -> KernelError {
    match os_error(error) {
        Some(libc::EPERM | libc::EACCES) => no_privilege("creating the kernel's maps"),
        Some(libc::ENOMEM) => KernelError::NoMemory { mebibytes: sizing.octets() >> 20 },
        _ => KernelError::Load { reason: chain(error), detail: String::new() },
    }
}
