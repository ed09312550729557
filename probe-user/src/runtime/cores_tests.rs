// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Which CPUs threads get, on hosts of every kind.

use super::{
    cores::{Cores, Threads},
    topology::{Nic, Topology},
};
use crate::{cli::CorePlan, error::ProbeError};

const ONE_EACH: Threads = Threads { harvesters: 1, exporters: 1, workers: 0 };

fn host(cpus: &[usize]) -> Topology {
    Topology { allowed: cpus.to_vec(), ..Topology::default() }
}

fn nic(node: Option<usize>, cpus: &[usize]) -> Nic {
    Nic { name: "eth0".into(), node, cpus: cpus.to_vec() }
}

/// Sixteen CPUs, even ones on node 0 and odd ones on node 1; the NIC is on node 1 and keeps `cpus` busy.
fn two_nodes(cpus: &[usize]) -> Topology {
    let node = |first: usize| (first, (first..16).step_by(2).collect());
    Topology { allowed: (0..16).collect(), nodes: vec![node(0), node(1)], nics: vec![nic(Some(1), cpus)] }
}

fn auto(threads: Threads, topology: &Topology) -> Cores {
    Cores::choose(&CorePlan::Auto, false, threads, topology).unwrap()
}

fn told(plan: &str, shared: bool, threads: Threads, topology: &Topology) -> Result<Cores, ProbeError> {
    Cores::choose(&plan.parse().unwrap(), shared, threads, topology)
}

fn some(cpus: &[usize]) -> Vec<Option<usize>> {
    cpus.iter().copied().map(Some).collect()
}

#[test]
fn few_cpus_are_left_to_the_scheduler() {
    for cpus in [&[][..], &[0, 1], &[0, 1, 2]] {
        let cores = auto(ONE_EACH, &host(cpus));
        let free = Cores { harvesters: vec![None], exporters: vec![None], ..Cores::default() };
        assert_eq!(cores, free);
        assert_eq!(cores.describe(), "all threads run where the scheduler puts them (--cores pins them)");
    }
}

#[test]
fn the_last_cpus_are_taken_where_nobody_knows_who_serves() {
    let cores = auto(ONE_EACH, &host(&[0, 1, 4, 7]));
    assert_eq!((&cores.harvesters, &cores.exporters), (&some(&[4]), &some(&[7])));
    assert_eq!(cores.describe(), "harvester on CPU 4, exporter on CPU 7");
    assert!(cores.warnings.is_empty());
    let many = auto(Threads { harvesters: 2, exporters: 1, workers: 2 }, &host(&[0, 1, 2, 3, 4, 5]));
    assert_eq!((many.harvesters, many.exporters, many.workers), (some(&[3, 4]), some(&[5]), vec![None; 2]));
    let [warning] = &many.warnings[..] else { panic!("{:?}", many.warnings) };
    assert!(warning.contains("5 threads") && warning.contains("3 to spare of 6"), "{warning}");
}

#[test]
fn cpus_that_serve_the_nic_are_left_alone_and_its_node_comes_first() {
    let threads = Threads { harvesters: 2, exporters: 1, workers: 1 };
    let cores = auto(threads, &two_nodes(&[1, 3, 13, 15]));
    assert_eq!(
        (&cores.harvesters, &cores.exporters, &cores.workers),
        (&some(&[5, 7]), &some(&[9]), &some(&[11]))
    );
    assert!(cores.warnings.is_empty(), "{:?}", cores.warnings);
    // Two are left on the node: harvesters get them.
    let cores = auto(threads, &two_nodes(&[1, 3, 5, 7, 9, 11]));
    assert_eq!(
        (&cores.harvesters, &cores.exporters, &cores.workers),
        (&some(&[13, 15]), &some(&[12]), &some(&[14]))
    );
    let [warning] = &cores.warnings[..] else { panic!("{:?}", cores.warnings) };
    assert!(warning.starts_with("CPU 14 is on another NUMA node than eth0 (node 1)"), "{warning}");
}

#[test]
fn where_all_serve_the_nic_threads_run_anywhere_and_that_is_said() {
    let all: Vec<usize> = (0..16).collect();
    let cores = auto(ONE_EACH, &two_nodes(&all));
    assert_eq!((&cores.harvesters, &cores.exporters), (&vec![None], &vec![None]));
    let [warning] = &cores.warnings[..] else { panic!("{:?}", cores.warnings) };
    assert!(warning.contains("there are 0 that serve no receive queue of 16"), "{warning}");
    // All but one.
    let cores = auto(ONE_EACH, &two_nodes(&all[1..]));
    assert_eq!((&cores.harvesters, &cores.exporters), (&some(&[0]), &vec![None]));
    assert_eq!(cores.describe(), "harvester on CPU 0, exporter where the scheduler puts it");
    assert_eq!(cores.warnings.len(), 2, "one is missing, the other is far: {:?}", cores.warnings);
}

#[test]
fn what_is_told_is_done() {
    let threads = Threads { harvesters: 2, exporters: 1, workers: 3 };
    let cores = told("harvesters=5,7,workers=9-10", false, threads, &two_nodes(&[1])).unwrap();
    assert_eq!(
        (&cores.harvesters, &cores.exporters, &cores.workers),
        (&some(&[5, 7]), &vec![None], &some(&[9, 10, 9]))
    );
    assert_eq!(
        cores.describe(),
        "harvesters on CPUs 5,7, exporter where the scheduler puts it, workers on CPUs 9,10,9"
    );
    let [warning] = &cores.warnings[..] else { panic!("{:?}", cores.warnings) };
    assert!(warning.starts_with("CPU 10 is on another NUMA node"), "{warning}");
    let cores = told("1,1", false, ONE_EACH, &host(&[0, 1])).unwrap();
    assert_eq!((cores.harvesters, cores.exporters), (some(&[1]), some(&[1])));
}

#[test]
fn a_cpu_that_serves_the_nic_is_refused_unless_told() {
    let topology = Topology { nics: vec![nic(None, &[0, 1, 2])], ..host(&[0, 1, 2, 3, 4]) };
    let error = told("2,3", false, ONE_EACH, &topology).unwrap_err();
    assert_eq!(error.exit_status(), 2);
    let report = error.report();
    assert!(report.contains("CPU 2 for the harvesters, which serves a receive queue of eth0"), "{report}");
    assert!(report.contains("CPUs 3,4 serve no queue") && report.contains("--cores-shared on"), "{report}");
    let cores = told("2,3", true, ONE_EACH, &topology).unwrap();
    assert_eq!((&cores.harvesters, &cores.exporters), (&some(&[2]), &some(&[3])));
    assert_eq!(cores.warnings.len(), 1, "{:?}", cores.warnings);
    let busy = Topology { nics: vec![nic(None, &[0, 1])], ..host(&[0, 1]) };
    let report = told("0,1", false, ONE_EACH, &busy).unwrap_err().report();
    assert!(report.contains("ethtool -L"), "{report}");
}

#[test]
fn a_cpu_that_is_not_there_is_refused() {
    let error = told("2,9", false, ONE_EACH, &host(&[0, 1, 2])).unwrap_err();
    assert_eq!(error.exit_status(), 3);
    assert!(error.report().contains("CPU 9 for the exporters"), "{}", error.report());
    assert!(error.report().contains("it may use CPUs 0,1,2"), "{}", error.report());
    // Where the kernel does not say what is allowed, pinning tells.
    assert!(told("2,9", false, ONE_EACH, &host(&[])).is_ok());
}
