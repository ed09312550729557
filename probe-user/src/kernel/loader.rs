// SPDX-License-Identifier: Apache-2.0 OR MIT
//! object + settings → maps and program, verified by the kernel and not yet attached.

use std::{fs, sync::Arc, time::Duration};

use aya::{
    Ebpf, EbpfError, EbpfLoader,
    maps::{Array, ArrayOfMaps, HashMap, Map, MapData, MapError},
    programs::Xdp,
};
use probe_common::{HashSeed, KEY_BASE_MASK, KernelSettings, OwnExportKey, PacketSampling, map_name};

use crate::{
    net::{Link, Role},
    slots::{Bank, SharedArray, Sizing},
};

use super::{
    Attachment, Barrier, ControlMap, KernelError, XdpMode,
    clock::KernelClock,
    log::KernelLog,
    refusal::{chain, mismatch, no_privilege, os_error, program_error, take},
};

static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/probe.o"));

/// Readings of the clocks before the program is attached: their earliest is good to some microseconds.
const CLOCK_READINGS: u32 = 5;

/// The programs, each for a role: it drops or passes what it has metered. Those with details are apart, so
/// that the others do not pay for them. They share all maps.
const PROGRAMS: [(Role, bool, &str); 4] = [
    (Role::Tap, false, "probe_tap"),
    (Role::Host, false, "probe_host"),
    (Role::Tap, true, "probe_tap_details"),
    (Role::Host, true, "probe_host_details"),
];

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
}

/// The program and its maps in the kernel. Dropping it detaches and frees everything.
pub struct LoadedProgram {
    ebpf: Ebpf,
    options: KernelOptions,
    own_export: HashMap<MapData, OwnExportKey, u32>,
    control: Arc<ControlMap>,
    log: KernelLog,
    clock: KernelClock,
}

impl LoadedProgram {
    /// Creates the maps and has the kernel verify the program.
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
        let mut ebpf = EbpfLoader::new()
            .override_global("SETTINGS", &settings, true)
            .map_max_entries(map_name::CACHE, sizing.sets_in_all())
            .map_max_entries(map_name::SPILL, sizing.records_in_all())
            .map_max_entries(map_name::DETAIL, sizing.detail_sets_in_all())
            .map_max_entries(map_name::SPILL_DETAIL, sizing.detail_records_in_all())
            .map_max_entries(map_name::SAMPLER, sizing.rows)
            .map_max_entries(map_name::CURSOR, sizing.rings_in_all())
            .map_max_entries(map_name::COUNTERS, sizing.rows * 2)
            .load(OBJECT)
            .map_err(|error| load_error(&error, sizing))?;
        let log = KernelLog::open(&mut ebpf)?;
        for role in [Role::Tap, Role::Host] {
            xdp(&mut ebpf, role, sizing.details)?.load().map_err(|error| program_error(&error))?;
        }
        let own_export = HashMap::try_from(take(&mut ebpf, map_name::OWN_EXPORT)?)
            .map_err(|_| mismatch(map_name::OWN_EXPORT))?;
        let control =
            Array::try_from(take(&mut ebpf, map_name::CONTROL)?).map_err(|_| mismatch(map_name::CONTROL))?;
        let control = Arc::new(ControlMap::new(control, options.flow_sampling));
        control.set_flow_sampling(1)?;
        let clock = KernelClock::new(&mut ebpf)?;
        let mut loaded = Self { ebpf, options, own_export, control, log, clock };
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

    /// Attaches the program to an interface; undone when the result is dropped.
    ///
    /// # Errors
    /// When the interface or its driver refuses.
    pub fn attach(&mut self, link: &Link, role: Role, mode: XdpMode) -> Result<Attachment, KernelError> {
        Attachment::attach(
            xdp(&mut self.ebpf, role, self.options.sizing.details)?,
            &link.name,
            link.index,
            mode,
        )
    }

    /// Tells the kernel which datagrams are our own: they are counted apart, not metered.
    ///
    /// # Errors
    /// When the map refuses.
    pub fn set_own_exports(&mut self, streams: &[OwnExportKey]) -> Result<(), KernelError> {
        let old: Vec<OwnExportKey> = self.own_export.keys().filter_map(Result::ok).collect();
        for key in old.iter().filter(|key| !streams.contains(key)) {
            self.own_export.remove(key).map_err(own_export_error)?;
        }
        for key in streams {
            self.own_export.insert(key, 1, 0).map_err(own_export_error)?;
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

    /// The program, for `BPF_PROG_TEST_RUN`.
    ///
    /// # Errors
    /// When it is not in the object.
    pub fn program(&mut self, role: Role) -> Result<&mut Xdp, KernelError> {
        xdp(&mut self.ebpf, role, self.options.sizing.details)
    }
}

fn own_export_error(error: MapError) -> KernelError {
    KernelError::Call {
        attempted: "telling the kernel which datagrams are the probe's own",
        error: std::io::Error::other(error),
    }
}

fn xdp(ebpf: &mut Ebpf, role: Role, details: bool) -> Result<&mut Xdp, KernelError> {
    PROGRAMS
        .into_iter()
        .find(|(of, with, _)| *of == role && *with == details)
        .and_then(|(_, _, name)| ebpf.program_mut(name))
        .ok_or_else(|| mismatch("its XDP program"))?
        .try_into()
        .map_err(|_| mismatch("its XDP program"))
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
