// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The probe as a process: started in a namespace, asked over HTTP, stopped, and its ledger read.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    process::ExitStatus,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::{
    Namespace, Process, Sums,
    clock::{Stopwatch, wait_until},
    http_get,
};

/// Loading, verifying and pre-faulting on a machine that is busy with something else.
const READY: Duration = Duration::from_secs(60);
/// The contract is 5 s; a test that wants to say so looks at [`Ended::took`].
const END: Duration = Duration::from_secs(30);

/// A running `probe run`.
#[derive(Debug)]
pub struct Probe<'a> {
    process: Process,
    namespace: &'a Namespace,
    metrics: SocketAddr,
    ledger: PathBuf,
}

/// A probe that has ended.
#[derive(Debug)]
pub struct Ended {
    /// How.
    pub status: ExitStatus,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
    /// From the signal to the end.
    pub took: Duration,
    /// The ledger it wrote.
    pub ledger: LedgerView,
}

impl<'a> Probe<'a> {
    /// Starts `program run --iface INTERFACES ARGS` in a namespace and waits until it says that it is ready.
    ///
    /// # Errors
    /// When it ends or does not get ready, with what it said.
    pub fn start(program: &str, namespace: &'a Namespace, interfaces: &str, args: &[&str]) -> Result<Self> {
        let ledger = temporary_file();
        let path = ledger.to_string_lossy().into_owned();
        // Every namespace of the lab has ports of its own.
        let metrics = SocketAddr::from((Ipv4Addr::LOCALHOST, 9990));
        let address = metrics.to_string();
        let mut all = vec!["run", "--iface", interfaces, "--metrics", &address, "--ledger", &path];
        all.extend(args);
        let process = Process::start(Some(namespace), program, &all)?;
        let mut probe = Self { process, namespace, metrics, ledger };
        probe.process.wait_ready(namespace, metrics, "/readyz", READY)?;
        Ok(probe)
    }

    /// The process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Sum over a metric's series that carry `label`, such as `reason="idle"` (empty: all of them).
    ///
    /// # Errors
    /// When the probe does not answer, or has no such series.
    pub fn metric(&self, name: &str, label: &str) -> Result<f64> {
        let (_, body) = http_get(Some(self.namespace), self.metrics, "/metrics")?;
        let values: Vec<f64> = body
            .lines()
            .filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' '])))
            .filter(|line| line.contains(label))
            .filter_map(|line| line.rsplit(' ').next()?.parse().ok())
            .collect();
        ensure!(!values.is_empty(), "no metric {name} {label} in:\n{body}");
        Ok(values.iter().sum())
    }

    /// Waits until the sum over a metric's series that carry `label` (empty: all of them) satisfies
    /// `condition`.
    ///
    /// # Errors
    /// When it does not within `timeout`, with its last value.
    pub fn wait_for_metric(
        &self,
        name: &str,
        label: &str,
        timeout: Duration,
        mut condition: impl FnMut(f64) -> bool,
    ) -> Result<f64> {
        let mut last = None;
        let met = wait_until(timeout, || {
            last = self.metric(name, label).ok();
            last.is_some_and(&mut condition)
        });
        match last {
            Some(value) if met => Ok(value),
            _ => {
                bail!(
                    "{name} {label} is {last:?} after {timeout:?}; the probe said:\n{}",
                    self.process.stderr()
                )
            }
        }
    }

    /// Ends it with a signal and reads its ledger.
    ///
    /// # Errors
    /// When it does not end, or has written no ledger.
    pub fn stop(mut self, signal: Signal) -> Result<Ended> {
        let watch = Stopwatch::start();
        self.process.signal(signal)?;
        self.conclude(&watch)
    }

    /// Waits until it ends, which it was told in another way, and reads its ledger.
    ///
    /// # Errors
    /// When it does not end, or has written no ledger.
    pub fn ended(mut self) -> Result<Ended> {
        self.conclude(&Stopwatch::start())
    }

    fn conclude(&mut self, watch: &Stopwatch) -> Result<Ended> {
        let status = self.process.wait(END)?;
        let took = watch.elapsed();
        let (stdout, stderr) = (self.process.stdout(), self.process.stderr());
        let text = fs::read_to_string(&self.ledger).with_context(|| {
            format!("reading the ledger; the probe ended with {status} and said:\n{stderr}")
        })?;
        let ledger = LedgerView(serde_json::from_str(&text).context("the ledger is not JSON")?);
        Ok(Ended { status, stdout, stderr, took, ledger })
    }
}

impl Drop for Probe<'_> {
    fn drop(&mut self) {
        // Absent when the probe was killed before it wrote one.
        fs::remove_file(&self.ledger).ok();
    }
}

fn temporary_file() -> PathBuf {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    std::env::temp_dir().join(format!("fp{}-{number}.ledger.json", std::process::id()))
}

/// A ledger as other programs read it: JSON of the documented form.
#[derive(Clone, Debug)]
pub struct LedgerView(pub Value);

impl LedgerView {
    /// A count at a path such as `packets.unmetered.not_ip`; objects are summed up.
    ///
    /// # Panics
    /// When there is nothing at that path: the form is a contract.
    #[must_use]
    pub fn count(&self, path: &str) -> u64 {
        let pointer = format!("/{}", path.replace('.', "/"));
        match self.0.pointer(&pointer) {
            Some(Value::Object(reasons)) => reasons.values().filter_map(Value::as_u64).sum(),
            Some(value) => value.as_u64().unwrap_or_else(|| panic!("{path} is {value} in {}", self.0)),
            None => panic!("no {path} in {}", self.0),
        }
    }

    /// Whether the probe says that it balances; the sums are checked again here.
    ///
    /// # Panics
    /// When the sums say something else.
    #[must_use]
    pub fn balanced(&self) -> bool {
        let balanced = self.0["balanced"] == Value::Bool(true);
        let sum = |unit: &str, parts: &[&str]| -> u64 {
            parts.iter().map(|part| self.count(&format!("{unit}.{part}"))).sum()
        };
        let steered = ["metered_by_af_xdp", "unmetered_by_af_xdp", "af_xdp_drop"];
        let mut agrees = sum("packets", &["received"])
            == sum("packets", &["metered", "unmetered", "steered"])
            && sum("packets", &["steered"]) == sum("packets", &steered);
        for unit in ["packets", "octets"] {
            agrees &=
                sum(unit, &["metered", "metered_by_af_xdp"]) == sum(unit, &["exported", "live", "lost"]);
        }
        assert_eq!(balanced, agrees, "the ledger says otherwise than its sums: {}", self.0);
        balanced
    }

    /// Packets and octets metered, exported, live or lost.
    #[must_use]
    pub fn sums(&self, what: &str) -> Sums {
        Sums {
            packets: self.count(&format!("packets.{what}")),
            octets: self.count(&format!("octets.{what}")),
        }
    }
}
