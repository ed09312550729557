// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The server in the probe: one thread, few connections, short requests.

use std::{
    io,
    os::{
        fd::{AsFd, BorrowedFd},
        unix::net::UnixListener,
    },
    path::{Path, PathBuf},
    sync::Arc,
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
    poll_server::{Clock, RunningPollServer, Service},
};

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
        let path = self.file.path().to_owned();
        let service = Control { listener: self.listener, _file: self.file, handler };
        let server = RunningPollServer::start("control", service, clock).map_err(failed)?;
        info!("the probe is asked at {}: probe stats, probe iface, probe shutdown", path.display());
        Ok(RunningControl { path, requests: Some(requests), server: Some(server) })
    }
}

/// A running server. Dropping it removes the socket and cuts all clients off but those that wait for the process's
/// end; so it is to be dropped after everything else was stopped.
pub struct RunningControl {
    path: PathBuf,
    requests: Option<Requests>,
    server: Option<RunningPollServer>,
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
        self.server = None;
    }
}

struct Control {
    // In this order they are dropped, as `SocketFile` wants it.
    listener: UnixListener,
    _file: SocketFile,
    handler: Arc<dyn ControlHandler>,
}

impl Service for Control {
    type Connection = Connection;
    const WHAT: &'static str = "to the control socket";

    fn listener(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }

    fn accept(&self, now: Timestamp) -> io::Result<Connection> {
        self.listener.accept().and_then(|(stream, _)| Connection::new(stream, now))
    }

    fn step(&self, mut connection: Connection, now: Timestamp) -> Option<Connection> {
        match connection.step(&*self.handler, now) {
            Next::Stay => return Some(connection),
            Next::Close => {}
            Next::AwaitEnd => connection.leave_open(),
        }
        None
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
