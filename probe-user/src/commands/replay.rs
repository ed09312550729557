// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `probe replay`: capture files through the same flow table and exporter as live traffic, by packet time.
//!
//! One thread does it all in turn. Nothing is lost on the way: when the exporter cannot keep up, reading
//! waits. The exporter is shown the time of the packets, so what it sends does not depend on when the
//! replay ran; its pace follows the real clock.

use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use probe_common::{Note, Sampler};

use super::conclude::conclude;
use crate::capture::{CaptureError, CaptureReader, Replay, Step};
use crate::cli::{FlowOptions, ReplayOptions};
use crate::error::ProbeError;
use crate::export::{
    CollectorStats, DropReason, ExportStats, Exporter, ExporterOptions, MeteringStatistics, NotRepresentable,
    NotSelected, Told,
};
use crate::flow::{EndReason, ExpiryOptions, FlowTable, Moment, TableOptions, Timestamp};
use crate::harvest::Outlet;
use crate::queue;
use crate::runtime::{self, Signals};
use crate::telemetry::ledger::UNSUPPORTED_LINK_TYPE;
use crate::telemetry::{
    AfXdpLedger, CollectorLedger, FlowLedger, Ledger, OctetLedger, PacketLedger, Reasons, log,
};

/// Records between replay and exporter.
const QUEUE: usize = 1 << 16;
/// Steps of the replay for each step of the exporter: enough records that datagrams leave many at a time.
const STEPS: usize = 16;
/// Rest when neither side can go on.
const REST: Duration = Duration::from_millis(1);
/// Time for what waits to leave after a signal.
const STOP: Duration = Duration::from_millis(3500);
/// How often progress is shown, and for how long it is not.
const PROGRESS: Duration = Duration::from_millis(250);
const QUIET: Duration = Duration::from_secs(1);

/// Replays the files in their order.
///
/// # Errors
/// When the options make no sense, or a file could not be read to its end.
pub fn replay(options: &ReplayOptions) -> Result<(), ProbeError> {
    log::start(&options.log)?;
    let signals =
        Signals::listen().map_err(|error| ProbeError::host("cannot listen to signals").because(error))?;
    let mut session = Session::open(options)?;
    for file in &options.files {
        if session.is_over(&signals) {
            break;
        }
        session.read(file, &signals);
    }
    session.flush(&signals);
    session.progress.clear();
    let ledger = ledger(&session.replay, &session.stats);
    let concluded = conclude(&ledger, options.output.ledger.as_deref());
    let (faults, files) = (session.faults, options.files.len());
    if faults > 0 {
        return Err(ProbeError::run(format!(
            "{faults} of {files} capture files could not be read to the end"
        ))
        .hint("the messages above name them; what came before the fault is counted and exported"));
    }
    concluded
}

/// A replay and its exporter.
struct Session {
    replay: Replay,
    exporter: Exporter,
    stats: Arc<ExportStats>,
    /// Whether records also go to collectors, not to standard output alone.
    has_collectors: bool,
    /// What collectors are told of it.
    metering: Arc<Mutex<MeteringStatistics>>,
    faults: usize,
    progress: Progress,
}

impl Session {
    fn open(options: &ReplayOptions) -> Result<Self, ProbeError> {
        let collectors = runtime::collectors(&options.export.collector)?;
        // A probe waits for a name to resolve; a replay would wait with all its records.
        if let Some(why) = collectors.iter().find_map(|(_, sink)| sink.unresolved()) {
            return Err(ProbeError::host(why));
        }
        let has_collectors = !collectors.is_empty();
        let metering = Arc::new(Mutex::new(MeteringStatistics::default()));
        let printed = options.output.print.format(!has_collectors);
        let details = options.flow.wants_details(printed, collectors.iter().map(|(url, _)| url));
        let printer = printed.map(runtime::printer);
        let exporter_options = ExporterOptions {
            engine_type: options.export.engine_type,
            engine_id: options.export.engine_id,
            domain: options.export.domain,
            // Packets of a file came over no interface. Its domain is there from the start: what headers and
            // options tell of sampling goes before the first record, however short the file is.
            interfaces: vec![(0, 0)],
            lossless: true,
            told: told(&options.flow, &metering),
            policy: options.export.collector_policy.into(),
            seed: runtime::random_seed()?,
            ..ExporterOptions::default()
        };
        let table = open_table(&options.flow, details)?;
        let sampling = options.flow.sampling;
        let random = runtime::random_seed()?.multiplier;
        let sampler = Sampler::new(sampling.packets(), sampling.flow_interval().into(), random);
        let (producer, consumer) = queue::ring(QUEUE);
        let exporter = Exporter::new(exporter_options, collectors, vec![consumer], printer);
        Ok(Self {
            replay: Replay::new(table, Outlet::new(producer)).with_sampler(sampler),
            stats: exporter.stats(),
            exporter,
            has_collectors,
            metering,
            faults: 0,
            progress: Progress::new(runtime::now()),
        })
    }

    /// Whether there is no point in reading on.
    fn is_over(&self, signals: &Signals) -> bool {
        signals.stop() || !self.has_collectors && self.exporter.print_closed()
    }

    fn read(&mut self, file: &Path, signals: &Signals) {
        match CaptureReader::open(file) {
            Ok(reader) => self.replay.open(reader),
            Err(error) => return self.note_fault(&error),
        }
        while !self.is_over(signals) {
            for _ in 0..STEPS {
                match self.replay.step() {
                    Step::Busy => {}
                    Step::Waiting => {
                        self.export();
                        break;
                    }
                    Step::Ended => return,
                    Step::Fault(error) => return self.note_fault(&error),
                }
            }
            self.export();
        }
    }

    /// Lets the exporter work, and rests if it cannot.
    fn export(&mut self) {
        *self.metering.lock().unwrap_or_else(PoisonError::into_inner) = MeteringStatistics {
            observed_flows: self.replay.table().created(),
            ignored_packets: self.replay.counts().received_packets - self.replay.counts().metered_packets,
            ..MeteringStatistics::default()
        };
        let moment = runtime::now();
        let progress = self.exporter.step(self.replay.clock().0, moment.now);
        if progress.is_idle() && self.replay.is_waiting() {
            thread::sleep(REST);
        }
        self.progress.show(&self.replay, moment);
    }

    fn note_fault(&mut self, error: &CaptureError) {
        self.faults += 1;
        self.progress.clear();
        tracing::error!("{error}");
    }

    /// Exports what is live and waits until all of it has left; after a signal only for a while.
    fn flush(&mut self, signals: &Signals) {
        let (mut live, mut deadline) = (true, None);
        loop {
            if live {
                match self.replay.flush() {
                    Step::Busy => continue,
                    Step::Waiting => {}
                    Step::Ended | Step::Fault(_) => live = false,
                }
            }
            let now = runtime::now().now;
            if signals.stop() && deadline.is_none() {
                deadline = Some(now + STOP);
            }
            let until = deadline.unwrap_or(Timestamp(u64::MAX));
            if live && now < until {
                self.export();
                continue;
            }
            // Past the deadline what is still live goes the same way: given up, and counted.
            let progress = self.exporter.flush(self.replay.clock().0, now, until);
            if progress.done && !live {
                return;
            }
            if progress.is_idle() {
                thread::sleep(REST);
            }
        }
    }
}

/// What collectors are told.
fn told(options: &FlowOptions, metering: &Arc<Mutex<MeteringStatistics>>) -> crate::export::ToldSource {
    let metering = Arc::clone(metering);
    let (idle_timeout, active_timeout) = (options.idle_timeout, options.active_timeout);
    let sampling = options.sampling;
    Arc::new(move || Told {
        metering: *metering.lock().unwrap_or_else(PoisonError::into_inner),
        sampling,
        idle_timeout,
        active_timeout,
        overload_sampling: 1,
        ..Told::default()
    })
}

fn open_table(options: &FlowOptions, details: bool) -> Result<FlowTable, ProbeError> {
    let ExpiryOptions { idle, active, tcp_end, spread } = options.expiry();
    let table = TableOptions {
        capacity: options.max_flows as usize,
        idle,
        active,
        tcp_end,
        spread,
        key_mask: options.key_mask(),
        details,
        seed: runtime::random_seed()?,
    };
    FlowTable::on_demand(table, Timestamp::default()).map_err(|error| ProbeError::host(error.to_string()))
}

/// The ledger of a replay, at any time.
#[must_use]
pub fn ledger(replay: &Replay, stats: &ExportStats) -> Ledger {
    let counts = replay.counts();
    let (live, table) = (replay.live(), replay.table());
    let mut unmetered = Reasons::unmetered(&counts.outcomes);
    unmetered.add(UNSUPPORTED_LINK_TYPE, counts.unsupported_link_type);
    let noted: Vec<_> = Note::ALL.iter().map(|note| (note.name(), counts.notes[*note as usize])).collect();
    Ledger {
        packets: PacketLedger {
            received: counts.received_packets,
            metered: counts.metered_packets,
            unmetered,
            steered: 0,
            af_xdp: AfXdpLedger::default(),
            exported: stats.packets.get(),
            live: live.packets + replay.exported().packets - stats.packets.get(),
            lost: Reasons::lost(0, 0),
        },
        octets: OctetLedger {
            received: counts.received_octets,
            metered: counts.metered_octets,
            metered_by_af_xdp: 0,
            exported: stats.octets.get(),
            live: live.octets + replay.exported().octets - stats.octets.get(),
            lost: Reasons::lost(0, 0),
        },
        flows: FlowLedger {
            created: table.created(),
            live: table.live().flows,
            expired: Reasons::expired(&EndReason::ALL.map(|reason| table.expired(reason))),
        },
        collectors: stats.collectors.iter().map(collector_ledger).collect(),
        noted: Reasons::new(&noted),
        nic: Vec::new(),
    }
}

fn collector_ledger(stats: &CollectorStats) -> CollectorLedger {
    let dropped = DropReason::ALL.map(|reason| (reason.name(), stats.dropped[reason as usize].get()));
    let not_representable =
        NotRepresentable::ALL.map(|reason| (reason.name(), stats.not_representable[reason as usize].get()));
    let not_selected =
        NotSelected::ALL.map(|reason| (reason.name(), stats.not_selected[reason as usize].get()));
    CollectorLedger {
        url: stats.url.clone(),
        not_selected: Reasons::new(&not_selected),
        paired: stats.paired.get(),
        offered: stats.offered.get(),
        records: stats.records.get(),
        datagrams: stats.datagrams.get(),
        dropped: Reasons::new(&dropped),
        not_representable: Reasons::new(&not_representable),
    }
}

/// One line on a terminal that shows how far a long replay is.
struct Progress {
    on: bool,
    started: Moment,
    shown: Option<Timestamp>,
}

impl Progress {
    fn new(started: Moment) -> Self {
        Self { on: io::stderr().is_terminal(), started, shown: None }
    }

    fn show(&mut self, replay: &Replay, moment: Moment) {
        let elapsed = moment.now.since(self.started.now);
        let recent = self.shown.is_some_and(|shown| moment.now.since(shown) < PROGRESS);
        if !self.on || elapsed < QUIET || recent {
            return;
        }
        self.shown = Some(moment.now);
        let packets = replay.counts().received_packets;
        let rate = packets as f64 / elapsed.as_secs_f64() / 1e6;
        // A terminal that went away is no failure.
        write!(
            io::stderr(),
            "\r\x1b[K{} MiB of {}, {packets} packets, {} flows live, {rate:.1} M packets/s",
            replay.offset() >> 20,
            replay.file_name(),
            replay.table().live().flows,
        )
        .ok();
    }

    /// Takes the line away.
    fn clear(&mut self) {
        if self.shown.take().is_some() {
            write!(io::stderr(), "\r\x1b[K").ok();
        }
    }
}
