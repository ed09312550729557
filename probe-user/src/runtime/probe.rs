// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The probe: builds all parts, starts sinks before sources, watches, and stops in reverse.

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
    sync::{
        Arc, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use nix::poll::PollTimeout;
use probe_common::HashSeed;
use sd_notify::NotifyState;
use tracing::{error, info, warn};

use super::{
    clock,
    cores::{self, Cores, Threads},
    interfaces::{Consequence, Interfaces},
    observe::{Observer, nic_drops},
    overload::{self, OverloadLog},
    own_export,
    plan::{Collectors, Plan},
    reload,
    signals::Signals,
    threads::{ExportCommand, ExporterThread, HarvesterThread},
    told::{self, SharedFlowOptions},
    topology::Topology,
    watch::Watch,
};
use crate::{
    cli::{MetricsAddress, RecordFormat, RunOptions},
    error::ProbeError,
    export::{CollectorUrl, Exporter, ExporterOptions, OpenCollector, PrintFormat, Printer, open},
    flow::{ExpiryOptions, FlowTable, TableOptions, Timestamp},
    harvest::{Command, HarvestOptions, Harvester, Outlet},
    kernel::{KernelOptions, LoadedProgram},
    queue,
    telemetry::{
        Ledger,
        http::{HttpServer, Reply, Routes, RunningServer},
        metrics::HistogramCounters,
    },
    throttle::Throttle,
};

/// How often the main thread looks around.
const LOOK: Duration = Duration::from_millis(50);
/// How often the kernel's clocks are compared.
const CLOCK: Duration = Duration::from_secs(10);
/// From the signal to the end: the harvester's part, and the whole. Five seconds are promised.
const HARVESTER_END: Duration = Duration::from_millis(2500);
const EXPORTER_END: Duration = Duration::from_millis(4500);

/// As many streams of its own as the kernel program can tell (map `OWN_EXPORT`).
const MAX_COLLECTORS: usize = 256;

/// A running probe.
pub struct Probe {
    options: RunOptions,
    program: LoadedProgram,
    interfaces: Interfaces,
    harvester: HarvesterThread,
    exporter: ExporterThread,
    observer: Observer,
    overload: OverloadLog,
    own_exports: Option<u64>,
    watch: Watch,
    configured: Arc<AtomicU64>,
    flow_options: SharedFlowOptions,
    ready: Arc<AtomicBool>,
    prints_only: bool,
    complaint: Throttle,
    clock_learned: Timestamp,
    _http: Option<RunningServer>,
}

/// Collectors of the options, with their sockets.
pub(crate) fn collectors(urls: &[String]) -> Result<Vec<OpenCollector>, ProbeError> {
    if urls.len() > MAX_COLLECTORS {
        return Err(ProbeError::usage(format!(
            "{} collectors are given, and at most {MAX_COLLECTORS} can be served",
            urls.len()
        ))
        .hint("let one collector replicate to the others"));
    }
    let mut collectors: Vec<OpenCollector> = Vec::new();
    for text in urls {
        let url: CollectorUrl = text.parse().map_err(|error| ProbeError::usage(format!("{error}")))?;
        if collectors.iter().any(|(known, _)| known.to_string() == url.to_string()) {
            return Err(ProbeError::usage(format!("collector {url} is given twice"))
                .hint("name each collector once; every one gets every record"));
        }
        let sink = open(&url).map_err(|error| match error.is_usage() {
            true => ProbeError::usage(error.to_string()),
            false => ProbeError::host(error.to_string()),
        })?;
        collectors.push((url, sink));
    }
    Ok(collectors)
}

/// A printer to standard output.
pub(crate) fn printer(format: RecordFormat) -> Printer {
    let format = match format {
        RecordFormat::Text => PrintFormat::Text,
        RecordFormat::Json => PrintFormat::Json,
    };
    Printer::new(format, Box::new(io::stdout()))
}

/// A seed that nobody outside knows.
///
/// # Errors
/// When the kernel gives no random numbers.
pub(crate) fn random_seed() -> Result<HashSeed, ProbeError> {
    let mut random = [0; 56];
    File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut random))
        .map_err(|error| ProbeError::host("cannot read random numbers from /dev/urandom").because(error))?;
    Ok(HashSeed::from_random(random))
}

impl Probe {
    /// Builds and starts everything; packets are metered when this returns.
    ///
    /// # Errors
    /// Whatever refuses; nothing stays attached then.
    pub fn start(options: RunOptions) -> Result<Self, ProbeError> {
        options.validate()?;
        let started = clock::now();
        let interfaces = Interfaces::find(&options.interface)?;
        let collectors = collectors(&options.export.collector)?;
        let print = options.output.print.format(collectors.is_empty());
        let details = options.flow.wants_details(print, collectors.iter().map(|(url, _)| url));
        let plan = Plan::new(&options, Collectors::of(&collectors), details)?;
        let prints_only = collectors.is_empty() && print.is_some();

        let mut program = LoadedProgram::load(KernelOptions {
            sizing: plan.sizing,
            packet_sampling: options.flow.sampling.packets(),
            flow_sampling: options.flow.sampling.flow_interval(),
            key_mask: options.flow.key_mask(),
            seed: random_seed()?,
        })?;
        let bank = program.bank()?;
        let barrier = program.barrier()?.start()?;
        let ExpiryOptions { idle, active, tcp_end, spread } = options.flow.expiry();
        let table = FlowTable::new(
            TableOptions {
                capacity: plan.flows as usize,
                idle,
                active,
                tcp_end,
                spread,
                key_mask: options.flow.key_mask(),
                details,
                seed: random_seed()?,
            },
            started.now,
        )
        .map_err(|error| ProbeError::host(error.to_string()))?;
        let (producer, consumer) = queue::ring(plan.queue);
        let durations = Arc::new(HistogramCounters::default());
        let interval = options.resource.harvest_interval;
        let (governor, overload) = overload::governor(options.resource.overload, interval);
        let harvester = Harvester::new(
            HarvestOptions { interval, durations: Arc::clone(&durations) },
            &bank,
            program.control(),
            barrier,
            table,
            Outlet::new(producer),
            started,
        )
        .governed_by(governor);
        let flow_options = SharedFlowOptions::new(options.flow.clone().into());
        let exporter = Exporter::new(
            ExporterOptions {
                engine_type: options.export.engine_type,
                engine_id: options.export.engine_id,
                domain: options.export.domain,
                interfaces: interfaces.indexes().into_iter().zip(0..=u8::MAX).collect(),
                told: told::source(
                    harvester.shared_report(),
                    interfaces.status(),
                    &flow_options,
                    harvester.sampling_now(),
                ),
                policy: options.export.collector_policy.into(),
                seed: random_seed()?,
                ..ExporterOptions::default()
            },
            collectors,
            vec![consumer],
            print.map(printer),
        );

        let configured = Arc::new(AtomicU64::new(started.wall.unix_ns(started.now)));
        let observer = Observer {
            harvest: harvester.shared_report(),
            durations,
            export: exporter.stats(),
            interfaces: interfaces.status(),
            drops_before: options
                .interface
                .iface
                .iter()
                .map(|name| (name.clone(), nic_drops(name)))
                .collect(),
            queue_capacity: plan.queue as u64,
            started,
            configured: Arc::clone(&configured),
        };
        let cores = Cores::choose(
            &options.resource.cores,
            options.resource.cores_shared,
            Threads { harvesters: 1, exporters: 1, workers: 0 },
            &Topology::read(Path::new("/"), cores::allowed(), &options.interface.iface),
        )?;
        info!("{}", cores.describe());
        cores.warnings.iter().for_each(|warning| warn!("{warning}"));
        let exporter = ExporterThread::start(exporter, cores.exporters.first().copied().flatten())?;
        let harvester = HarvesterThread::start(harvester, cores.harvesters.first().copied().flatten())?;
        let watch = Watch::new([harvester.heartbeat(), exporter.heartbeat()]);
        let ready = Arc::new(AtomicBool::new(false));
        let http = serve(options.resource.metrics, &observer, &watch, &ready)?;
        let mut probe = Self {
            options,
            program,
            interfaces,
            harvester,
            exporter,
            observer,
            overload,
            own_exports: None,
            watch,
            configured,
            flow_options,
            ready,
            prints_only,
            complaint: Throttle::new(Duration::from_secs(60)),
            clock_learned: started.now,
            _http: http,
        };
        probe.tell_own_exports()?;
        probe.interfaces.attach(&mut probe.program)?;
        probe.ready.store(true, Ordering::Relaxed);
        Ok(probe)
    }

    /// Meters until a signal comes or a part fails, then stops.
    ///
    /// # Errors
    /// What failed; all that could be saved was exported.
    pub fn run(mut self, signals: &Signals) -> Result<Ledger, ProbeError> {
        notify(&[NotifyState::Ready]);
        let mut outcome = Ok(());
        while !signals.stop() && outcome.is_ok() {
            if signals.take_reload() {
                self.reload();
            }
            outcome = self.look();
            if self.prints_only && self.exporter.print_closed() {
                info!("whoever read the printed flows has gone; stopping");
                break;
            }
            if !self.harvester.is_running() || !self.exporter.is_running() {
                break;
            }
            nix::poll::poll(&mut [], PollTimeout::try_from(LOOK).unwrap_or(PollTimeout::ZERO)).ok();
        }
        notify(&[NotifyState::Stopping]);
        let ledger = self.stop();
        outcome.and(ledger)
    }

    /// One look around: interfaces, export sockets, watchdog.
    fn look(&mut self) -> Result<(), ProbeError> {
        let now = clock::now().now;
        match self.interfaces.follow(&mut self.program) {
            Ok(consequences) => consequences.into_iter().for_each(|consequence| self.carry_out(consequence)),
            // Metering goes on; the next look may succeed.
            Err(error) => {
                if self.complaint.admit(now).is_some() {
                    warn!("changes of interfaces are not seen at present: {}", error.report());
                }
            }
        }
        self.tell_own_exports()?;
        self.program.show_log();
        self.overload.show();
        if now.since(self.clock_learned) >= CLOCK {
            self.clock_learned = now;
            self.program.learn_clock()?;
        }
        if self.watch.look(now) {
            notify(&[NotifyState::Watchdog]);
        }
        Ok(())
    }

    fn carry_out(&self, consequence: Consequence) {
        match consequence {
            Consequence::Flush(index) => self.harvester.command(Command::FlushInterface(index)),
            Consequence::Moved(from, to) => self.exporter.command(ExportCommand::Moved(from, to)),
        }
    }

    /// Keeps the kernel's list of our own datagrams up to date.
    fn tell_own_exports(&mut self) -> Result<(), ProbeError> {
        let shared = self.exporter.endpoints();
        let (changes, endpoints) = shared.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if self.own_exports != Some(changes) {
            self.program.set_own_exports(&own_export::keys(&endpoints))?;
            self.own_exports = Some(changes);
        }
        Ok(())
    }

    fn reload(&mut self) {
        notify(&[NotifyState::Reloading, NotifyState::monotonic_usec_now().unwrap_or(NotifyState::Ready)]);
        match reload::read(&self.options) {
            Ok(changes) => {
                if let Some(expiry) = changes.expiry {
                    self.harvester.command(Command::SetExpiry(expiry));
                }
                for name in &changes.need_restart {
                    warn!(
                        "configuration read again: {name} has changed, which takes effect at the next start"
                    );
                }
                info!("configuration read again: {}", changes.summary());
                *self.flow_options.lock().unwrap_or_else(PoisonError::into_inner) = changes.flow.clone();
                self.options.flow = changes.flow;
                self.exporter.command(ExportCommand::Refresh);
                let moment = clock::now();
                self.configured.store(moment.wall.unix_ns(moment.now), Ordering::Relaxed);
            }
            Err(error) => error!("configuration not read again, the old one stays: {}", error.report()),
        }
        notify(&[NotifyState::Ready]);
    }

    /// Detaches, exports what there is, and ends all threads.
    fn stop(mut self) -> Result<Ledger, ProbeError> {
        info!("stopping: exporting what is left");
        self.ready.store(false, Ordering::Relaxed);
        let now = clock::now().now;
        self.interfaces.detach();
        let harvester = self.harvester.stop(now + HARVESTER_END);
        let exporter = self.exporter.stop(now + EXPORTER_END);
        self.overload.show();
        harvester.and(exporter)?;
        Ok(self.observer.ledger())
    }
}

fn serve(
    address: MetricsAddress,
    observer: &Observer,
    watch: &Watch,
    ready: &Arc<AtomicBool>,
) -> Result<Option<RunningServer>, ProbeError> {
    let MetricsAddress::Listen(address) = address else { return Ok(None) };
    let (observer, healthy, ready) = (observer.clone(), watch.healthy(), Arc::clone(ready));
    let routes = Routes {
        metrics: Arc::new(move || Reply::metrics(observer.snapshot().encode())),
        healthz: Arc::new(move || match healthy.load(Ordering::Relaxed) {
            true => Reply::text(200, "ok"),
            false => Reply::text(503, "a thread does not move on"),
        }),
        readyz: Arc::new(move || match ready.load(Ordering::Relaxed) {
            true => Reply::text(200, "metering"),
            false => Reply::text(503, "not metering"),
        }),
    };
    Ok(Some(HttpServer::new(address, routes, Arc::new(|| clock::now().now)).start()?))
}

/// Tells systemd, if it is there.
fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        warn!("cannot notify systemd: {error}");
    }
}
