// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A small HTTP/1.1 server for scrapes and health checks: one thread, few connections, short requests.

mod connection;
mod request;

use std::{
    io,
    net::{SocketAddr, TcpListener},
    os::fd::{AsFd, BorrowedFd},
    sync::Arc,
};

use self::connection::Connection;
use super::prometheus;
pub use crate::poll_server::Clock;
use crate::{
    error::ProbeError,
    flow::Timestamp,
    poll_server::{RunningPollServer, Service},
};

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
        let service = Metrics { listener, routes: self.routes };
        let server = RunningPollServer::start("http", service, self.clock).map_err(failed)?;
        tracing::info!("metrics are served on http://{address}/metrics");
        Ok(RunningServer { address, _server: server })
    }
}

/// A running server; dropping it closes the port and ends the thread.
pub struct RunningServer {
    address: SocketAddr,
    _server: RunningPollServer,
}

impl RunningServer {
    /// The address, with the port that the kernel chose if 0 was asked for.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

struct Metrics {
    listener: TcpListener,
    routes: Routes,
}

impl Service for Metrics {
    type Connection = Connection;
    const WHAT: &'static str = "for metrics";

    fn listener(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }

    fn accept(&self, now: Timestamp) -> io::Result<Connection> {
        self.listener.accept().and_then(|(stream, _)| Connection::new(stream, now))
    }

    fn step(&self, mut connection: Connection, _now: Timestamp) -> Option<Connection> {
        connection.step(&self.routes).then_some(connection)
    }
}
