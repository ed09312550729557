// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What is served over HTTP: metrics, and whether the probe is well.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use super::{clock, observe::Observer, watch::Watch};
use crate::{
    cli::MetricsAddress,
    error::ProbeError,
    telemetry::http::{HttpServer, Reply, Routes, RunningServer},
};

/// Serves it, where the options ask for it.
///
/// # Errors
/// When the address cannot be had.
pub(super) fn serve(
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
