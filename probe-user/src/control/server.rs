// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The server in the probe: one thread, few connections, short requests.

use std::{
    io,
    os::{fd::AsFd, unix::net::UnixListener},
    path::{Path, PathBuf},
    sync::Arc,
    thread::JoinHandle,
    time::Duration,
};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::eventfd::{EfdFlags, EventFd},
};
use tracing::{info, warn};

use super::{
    ControlHandler, ControlRequest, Requests,
    connection::{Connection, Next},
    socket_file::SocketFile,
};
use crate::{
    cli::{DEFAULT_SOCKET, SocketPath},
    error::ProbeError,
    flow::Timestamp,
    telemetry::http::Clock,
    throttle::Throttle,
};

/// Connections served at once; others wait in the kernel's queue.
const MAX_CONNECTIONS: usize = 8;

/// A socket that listens, and whose clients are not answered yet.
#[derive(Debug)]
pub struct ControlServer {
    // In this order they are dropped, as `SocketFile` wants it.
    listener: UnixListener,
    file: SocketFile,
}

impl ControlServer {
    /// Makes the socket that the options ask for. `auto` goes on without one, and the log says why.
    ///
    /// # Errors
    /// When a path was given and the socket cannot be made there.
    pub fn open(socket: &SocketPath) -> Result<Option<Self>, ProbeError> {
        match socket {
            SocketPath::None => Ok(None),
            SocketPath::At(path) => Self::at(path).map(Some),
            SocketPath::Auto => Ok(Self::at_if_possible(Path::new(DEFAULT_SOCKET))),
        }
    }

    fn at_if_possible(path: &Path) -> Option<Self> {
        Self::at(path)
            .inspect_err(|error| {
                warn!(
                    "no control socket, so probe stats, iface and shutdown cannot ask this probe: {} (--socket PATH \
                     makes one elsewhere)",
                    error.explanation()
                );
            })
            .ok()
    }

    /// Makes the socket at a path.
    ///
    /// # Errors
    /// When it cannot be made there.
    pub fn at(path: &Path) -> Result<Self, ProbeError> {
        let (listener, file) = SocketFile::make(path)?;
        Ok(Self { listener, file })
    }

    /// Starts to answer. `requests` is what [`RunningControl::next_request`] takes from.
    ///
    /// # Errors
    /// When there is no thread or file descriptor left.
    pub fn start(
        self,
        handler: Arc<dyn ControlHandler>,
        requests: Requests,
        clock: Clock,
    ) -> Result<RunningControl, ProbeError> {
        let failed =
            |error: io::Error| ProbeError::host("cannot start to serve the control socket").because(error);
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        let stop = Arc::new(EventFd::from_flags(flags).map_err(|error| failed(error.into()))?);
        let path = self.file.path().to_owned();
        let mut server = Server {
            listener: self.listener,
            _file: self.file,
            stop: Arc::clone(&stop),
            handler,
            connections: Vec::with_capacity(MAX_CONNECTIONS),
            complaint: Throttle::new(Duration::from_secs(60)),
        };
        let thread = std::thread::Builder::new()
            .name("control".into())
            .spawn(move || while server.step(&*clock) {})
            .map_err(failed)?;
        info!("the probe is asked at {}: probe stats, probe iface, probe shutdown", path.display());
        Ok(RunningControl { path, requests: Some(requests), stop, thread: Some(thread) })
    }
}

/// A running server. Dropping it removes the socket and cuts all clients off but those that wait for the process's
/// end; so it is to be dropped after everything else was stopped.
pub struct RunningControl {
    path: PathBuf,
    requests: Option<Requests>,
    stop: Arc<EventFd>,
    thread: Option<JoinHandle<()>>,
}

impl RunningControl {
    /// Where it listens.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The next thing that the main thread is to do, if there is one. Never blocks.
    #[must_use]
    pub fn next_request(&self) -> Option<ControlRequest> {
        self.requests.as_ref()?.try_next()
    }

    /// Refuses what the main thread would be asked from now on; what only reads is still answered. For the time in
    /// which the probe ends and nobody polls for requests.
    pub fn refuse_requests(&mut self) {
        self.requests = None;
    }
}

impl Drop for RunningControl {
    fn drop(&mut self) {
        // First, or the thread might wait for an answer that never comes.
        self.refuse_requests();
        // An event counter takes any number of writes, and a thread that panicked has said so itself.
        self.stop.write(1).ok();
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

struct Server {
    // In this order they are dropped, as `SocketFile` wants it.
    listener: UnixListener,
    _file: SocketFile,
    stop: Arc<EventFd>,
    handler: Arc<dyn ControlHandler>,
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
        let mut stay = Vec::with_capacity(MAX_CONNECTIONS);
        for mut connection in self.connections.drain(..) {
            let next = match ready.next() {
                Some(true) => connection.step(&*self.handler, clock()),
                _ => Next::Stay,
            };
            match next {
                Next::Stay => stay.push(connection),
                Next::Close => {}
                Next::AwaitEnd => connection.leave_open(),
            }
        }
        self.connections = stay;
        if ready.next().unwrap_or(false) {
            self.accept(clock());
        }
        true
    }

    fn accept(&mut self, now: Timestamp) {
        match self.listener.accept().and_then(|(stream, _)| Connection::new(stream, now)) {
            Ok(connection) => self.connections.push(connection),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => {
                if let Some(more) = self.complaint.admit(now) {
                    warn!("cannot accept a connection to the control socket: {error} ({more} more before)");
                }
                // Out of file descriptors the listener stays readable: do not spin on it.
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_asked_for_stops_no_start() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("control.sock");
        let first = ControlServer::at_if_possible(&path);
        assert!(first.is_some());
        assert!(ControlServer::at_if_possible(&path).is_none());
        drop(first);
        assert!(!path.exists());
    }
}
