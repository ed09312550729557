// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Builds all parts of a probe, inert, and starts sinks before sources.

use std::{
    path::Path,
    sync::{
        Arc, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use probe_common::{HashSeed, KernelSettings};
use tracing::{info, warn};

use super::{
    Probe, clock,
    cores::{self, Cores, Threads},
    engines::Engines,
    exporters::Exporters,
    http,
    interfaces::Interfaces,
    observe::{Observer, nic_drops},
    outputs, overload,
    places::PLACES,
    plan::{Collectors, Plan},
    random::{random_number, random_seed},
    settle::Settle,
    threads::{HarvesterThread, SwapperThread},
    told::{self, SharedFlowOptions},
    topology::Topology,
    watch::Watch,
    workers::{IdleWorkers, WorkerOptions, no_descriptor},
};
use crate::{
    bell::Bell,
    cli::{Engine, RunOptions},
    control::{self, ControlServer, Desk, RunningControl},
    error::ProbeError,
    export::{Division, ExporterOptions, QueueReaders},
    flow::{ExpiryOptions, FlowTable, Moment, SamplingNow, TableOptions},
    fragment::JoinerOptions,
    harvest::{Cycle, Harvester, KernelWriters, Outlet, SwapOptions, Swapper, Writers},
    kernel::{KernelError, KernelOptions, LoadedProgram},
    meter::{MeterOptions, OwnExports},
    overload::{Gauge, Governor},
    queue,
    slots::{Bank, CacheRules},
    telemetry::metrics::HistogramCounters,
    throttle::Throttle,
};

impl Probe {
    /// Builds and starts everything; packets are metered when this returns.
    ///
    /// # Errors
    /// Whatever refuses; nothing stays attached then.
    pub fn start(options: RunOptions) -> Result<Self, ProbeError> {
        options.validate()?;
        let started = clock::now();
        let interfaces = Interfaces::find(&options.interface)?;
        let names = interfaces.names();
        let collectors = outputs::collectors(&options.export.collector)?;
        let print = options.output.print.format(collectors.is_empty());
        let details = options.flow.wants_details(print, collectors.iter().map(|(url, _)| url));
        let prints_only = collectors.is_empty() && print.is_some();
        let plan = Plan::new(&options, &names, Collectors::of(&collectors), details)?;

        let seed = random_seed()?;
        let mut program = load(&options, &plan, seed)?;
        let bell = Bell::new().map_err(no_descriptor)?;
        let (sampling, own_exports) = (SamplingNow::default(), OwnExports::default());
        let (workers, worker_writers) = IdleWorkers::new(
            WorkerOptions {
                counts: plan.workers(program.is_some()),
                sizing: plan.sizing,
                rules: CacheRules { key_mask: options.flow.key_mask(), seed },
                sampling: MeterOptions {
                    packets: options.flow.sampling.packets(),
                    flow_interval: options.flow.sampling.flow_interval(),
                    random: random_number()?,
                },
                sampling_now: sampling.clone(),
                joiner: JoinerOptions {
                    key_mask: options.flow.key_mask(),
                    ..JoinerOptions::new(random_seed()?)
                },
            },
            &own_exports,
            bell.clone(),
        )?;
        let writers =
            Writers { kernel: program.as_mut().map(kernel_writers).transpose()?, workers: worker_writers };

        let interval = options.resource.harvest_interval;
        let (governor, overload) = overload::governor(options.resource.overload, interval);
        let gauge = governor.as_ref().map(Governor::gauge);
        let cycle = Cycle::new(plan.harvesters, bell, started);
        let division =
            Division::new(options.export.collector_policy.into(), collectors, print.map(outputs::printer));
        let make = HarvesterOptions {
            options: &options,
            plan: &plan,
            details,
            exporters: division.exporters(),
            gauge: gauge.as_ref(),
        };
        let (harvesters, queues) = harvesters(make, &writers.banks(), &cycle, started)?;
        let durations = Arc::new(HistogramCounters::default());
        let swap = SwapOptions { interval, durations: Arc::clone(&durations), sampling: sampling.clone() };
        let swapper = Swapper::new(swap, writers, cycle.clone(), started).governed_by(governor);
        let report = swapper.shared_report();
        let flow_options = SharedFlowOptions::new(options.flow.clone().into());
        let (exporters, exported) = division.into_exporters(
            &ExporterOptions {
                engine_type: options.export.engine_type,
                engine_id: options.export.engine_id,
                domain: options.export.domain,
                interfaces: interfaces.domains(),
                told: told::source(report.clone(), interfaces.status(), &flow_options, sampling),
                policy: options.export.collector_policy.into(),
                seed: random_seed()?,
                ..ExporterOptions::default()
            },
            queues,
        );

        let configured = Arc::new(AtomicU64::new(started.wall.unix_ns(started.now)));
        let observer = Observer {
            harvest: report.clone(),
            workers: workers.tidings(),
            durations,
            export: exported,
            interfaces: interfaces.status(),
            drops_before: names.iter().map(|name| (name.clone(), nic_drops(name))).collect(),
            queue_capacity: plan.queue as u64,
            started,
            configured: Arc::clone(&configured),
        };
        let cores = Cores::choose(
            &options.resource.cores,
            options.resource.cores_shared,
            Threads {
                harvesters: harvesters.len(),
                exporters: exporters.len(),
                workers: workers.tidings().counts().all(),
            },
            &Topology::read(Path::new("/"), cores::allowed(), &names),
        )?;
        info!("{}", cores.describe());
        cores.warnings.iter().for_each(|warning| warn!("{warning}"));
        let exporters = Exporters::start(exporters, &cores.exporters)?;
        let harvesters = start_harvesters(harvesters, &cores.harvesters)?;
        let swapper = SwapperThread::start(swapper)?;
        let workers = workers.start(&cores.workers)?;
        let mut heartbeats = vec![swapper.heartbeat()];
        heartbeats.extend(exporters.heartbeats());
        heartbeats.extend(harvesters.iter().map(|harvester| harvester.thread().heartbeat()));
        heartbeats.extend(workers.heartbeats());
        let watch = Watch::new(heartbeats);
        let ready = Arc::new(AtomicBool::new(false));
        let http = http::serve(options.resource.metrics, &observer, &watch, &ready)?;
        let control = control(&options, &observer, &interfaces)?;
        let engines = Engines::new(options.interface.clone(), program, workers, own_exports);
        let mut probe = Self {
            options,
            engines,
            interfaces,
            settle: Settle::new(cycle, report),
            swapper,
            harvesters,
            exporters,
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
            control,
        };
        probe.tell_own_exports()?;
        probe.interfaces.attach(&mut probe.engines)?;
        probe.ready.store(true, Ordering::Relaxed);
        Ok(probe)
    }
}

/// Serves the control socket, where there is to be one.
fn control(
    options: &RunOptions,
    observer: &Observer,
    interfaces: &Interfaces,
) -> Result<Option<RunningControl>, ProbeError> {
    let Some(server) = ControlServer::open(&options.resource.socket)? else { return Ok(None) };
    let (asker, requests) = control::requests();
    let (observer, status) = (observer.clone(), interfaces.status());
    let list = move || {
        let status = status.lock().unwrap_or_else(PoisonError::into_inner);
        status.iter().map(|status| status.info.clone()).collect()
    };
    let desk = Desk::new(move || observer.ledger(), list, asker);
    server.start(Arc::new(desk), requests, Arc::new(|| clock::now().now)).map(Some)
}

/// Loads the kernel's programs, unless packet sockets are asked for, or must do.
fn load(options: &RunOptions, plan: &Plan, seed: HashSeed) -> Result<Option<LoadedProgram>, ProbeError> {
    let steer = match options.interface.wanted_engine() {
        Engine::AfPacket => return Ok(None),
        Engine::AfXdp => KernelSettings::STEER_ALL,
        Engine::Auto | Engine::Xdp => KernelSettings::STEER_DEEP,
    };
    let loaded = LoadedProgram::load(KernelOptions {
        packet_sampling: options.flow.sampling.packets(),
        flow_sampling: options.flow.sampling.flow_interval(),
        key_mask: options.flow.key_mask(),
        steer,
        once: options.interface.direction == crate::cli::Direction::Once,
        sockets: PLACES,
        ..KernelOptions::new(plan.sizing, seed)
    });
    match loaded {
        Ok(program) => Ok(Some(program)),
        Err(
            error @ (KernelError::NoObject
            | KernelError::NoPrivilege { .. }
            | KernelError::Load { .. }
            | KernelError::RealTime),
        ) if options.interface.wanted_engine() == Engine::Auto => {
            warn!("packet sockets (AF_PACKET) take all packets, because XDP cannot: {error}");
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

fn kernel_writers(program: &mut LoadedProgram) -> Result<KernelWriters, ProbeError> {
    Ok(KernelWriters { bank: program.bank()?, control: program.control(), barrier: program.barrier()? })
}

/// What harvesters are made with.
struct HarvesterOptions<'a> {
    options: &'a RunOptions,
    plan: &'a Plan,
    details: bool,
    /// Each gets every record.
    exporters: usize,
    gauge: Option<&'a Gauge>,
}

/// Harvesters, each with a table and a queue of its own, and the other ends of the queues.
fn harvesters(
    make: HarvesterOptions<'_>,
    banks: &[Bank],
    cycle: &Cycle,
    started: Moment,
) -> Result<(Vec<Harvester>, Vec<QueueReaders>), ProbeError> {
    let HarvesterOptions { options, plan, details, exporters, gauge } = make;
    let ExpiryOptions { idle, active, tcp_end, spread } = options.flow.expiry();
    let (mut harvesters, mut queues) = (Vec::new(), Vec::new());
    for number in 0..plan.harvesters {
        let table = FlowTable::new(
            TableOptions {
                capacity: plan.flows_of_harvester(),
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
        let (producer, consumers) = queue::broadcast(plan.queue_of_harvester(), exporters);
        queues.push(consumers);
        let harvester = Harvester::new(number, banks, cycle.clone(), table, Outlet::new(producer));
        harvesters.push(harvester.gauged_by(gauge.cloned()));
    }
    Ok((harvesters, queues))
}

/// A thread for each, on its CPU if there is one for it.
fn start_harvesters(
    harvesters: Vec<Harvester>,
    cpus: &[Option<usize>],
) -> Result<Vec<HarvesterThread>, ProbeError> {
    let alone = harvesters.len() == 1;
    let name = |number| if alone { "harvester".to_owned() } else { format!("harvester-{number}") };
    let start = |(number, harvester)| {
        HarvesterThread::start(name(number), harvester, cpus.get(number).copied().flatten())
    };
    harvesters.into_iter().enumerate().map(start).collect()
}
