// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A small HTTP/1.1 server for scrapes and health checks: one thread, few connections, short requests.

mod connection;
mod request;

use std::{
    io,
    net::{SocketAddr, TcpListener},
    os::fd::AsFd,
    sync::Arc,
    thread::JoinHandle,
    time::Duration,
};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::eventfd::{EfdFlags, EventFd},
};

use self::connection::Connection;
use super::prometheus;
use crate::{error::ProbeError, flow::Timestamp, throttle::Throttle};

/// Connections served at once; others wait in the kernel's queue.
const MAX_CONNECTIONS: usize = 8;

/// What is answered to a request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reply {
    /// HTTP status.
    pub status: u16,
    /// Content type.
    pub content_type: &'static str,
    /// Body.
    pub body: String,
}

impl Reply {
    /// A line of plain text.
    #[must_use]
    pub fn text(status: u16, line: &str) -> Self {
        Self { status, content_type: "text/plain; charset=utf-8", body: format!("{line}\n") }
    }

    /// Metrics in the Prometheus text format.
    #[must_use]
    pub fn metrics(body: String) -> Self {
        Self { status: 200, content_type: prometheus::CONTENT_TYPE, body }
    }
}

/// Makes the reply of one path. Called on the server's thread.
pub type Provider = Arc<dyn Fn() -> Reply + Send + Sync>;

/// Reads the time; of any base, as long as it does not jump.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// The three paths.
#[derive(Clone)]
pub struct Routes {
    /// `/metrics`
    pub metrics: Provider,
    /// `/healthz`: 200 while the probe's threads move on.
    pub healthz: Provider,
    /// `/readyz`: 200 when packets are metered.
    pub readyz: Provider,
}

/// A server that has not been started.
pub struct HttpServer {
    address: SocketAddr,
    routes: Routes,
    clock: Clock,
}

impl HttpServer {
    /// A server that will listen on `address`.
    #[must_use]
    pub fn new(address: SocketAddr, routes: Routes, clock: Clock) -> Self {
        Self { address, routes, clock }
    }

    /// Opens the port and starts the thread.
    ///
    /// # Errors
    /// If the port is in use or not to be had.
    pub fn start(self) -> Result<RunningServer, ProbeError> {
        let failed = |error: io::Error| {
            let hint = match error.kind() {
                io::ErrorKind::AddrInUse => {
                    "another program listens there: choose another port with --metrics"
                }
                io::ErrorKind::PermissionDenied => "choose a port above 1023 with --metrics",
                _ => "choose an address of this host with --metrics, or --metrics none",
            };
            ProbeError::host(format!("cannot serve metrics on {}", self.address)).because(error).hint(hint)
        };
        let listener = TcpListener::bind(self.address).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        let stop = Arc::new(EventFd::from_flags(flags).map_err(|error| failed(error.into()))?);
        let mut server = Server {
            listener,
            stop: Arc::clone(&stop),
            routes: self.routes,
            connections: Vec::with_capacity(MAX_CONNECTIONS),
            complaint: Throttle::new(Duration::from_secs(60)),
        };
        let clock = self.clock;
        let thread = std::thread::Builder::new()
            .name("http".into())
            .spawn(move || while server.step(&*clock) {})
            .map_err(failed)?;
        tracing::info!("metrics are served on http://{address}/metrics");
        Ok(RunningServer { address, stop, thread: Some(thread) })
    }
}

/// A running server; dropping it closes the port and ends the thread.
pub struct RunningServer {
    address: SocketAddr,
    stop: Arc<EventFd>,
    thread: Option<JoinHandle<()>>,
}

impl RunningServer {
    /// The address, with the port that the kernel chose if 0 was asked for.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for RunningServer {
    fn drop(&mut self) {
        // An event counter takes any number of writes, and a thread that panicked has said so itself.
        self.stop.write(1).ok();
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

struct Server {
    listener: TcpListener,
    stop: Arc<EventFd>,
    routes: Routes,
    connections: Vec<Connection>,
    complaint: Throttle,
}

impl Server {
    /// Waits for something to do and does it; false when it is to stop.
    fn step(&mut self, clock: &dyn Fn() -> Timestamp) -> bool {
        let now = clock();
        self.connections.retain(|connection| !connection.is_late(now));
        let timeout = match self.connections.iter().map(|connection| connection.time_left(now)).min() {
            // One millisecond more, so that the deadline has passed when the wait ends.
            Some(left) => PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX),
            None => PollTimeout::NONE,
        };
        let mut polled = vec![PollFd::new(self.stop.as_fd(), PollFlags::POLLIN)];
        polled.extend(self.connections.iter().map(|c| PollFd::new(c.as_fd(), c.interest())));
        if self.connections.len() < MAX_CONNECTIONS {
            polled.push(PollFd::new(self.listener.as_fd(), PollFlags::POLLIN));
        }
        if poll(&mut polled, timeout).is_err() {
            // Interrupted by a signal: look again.
            return true;
        }
        let ready: Vec<bool> = polled.iter().map(|fd| fd.any().unwrap_or(true)).collect();
        if ready[0] {
            return false;
        }
        let mut ready = ready.into_iter().skip(1);
        let now = clock();
        let routes = &self.routes;
        self.connections.retain_mut(|connection| !ready.next().unwrap_or(false) || connection.step(routes));
        if ready.next().unwrap_or(false) {
            self.accept(now);
        }
        true
    }

    fn accept(&mut self, now: Timestamp) {
        match self.listener.accept().and_then(|(stream, _)| Connection::new(stream, now)) {
            Ok(connection) => self.connections.push(connection),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => {
                if let Some(more) = self.complaint.admit(now) {
                    tracing::warn!("cannot accept a connection for metrics: {error} ({more} more before)");
                }
                // Out of file descriptors the listener stays readable: do not spin on it.
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    }
}
