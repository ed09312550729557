// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A small server: one thread, few connections, none longer than its deadline. What is listened on and what is said are
//! its service's.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd},
    sync::Arc,
    thread::JoinHandle,
    time::Duration,
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tracing::warn;

use crate::{bell::Bell, flow::Timestamp, throttle::Throttle};

/// Connections served at once; others wait in the kernel's queue.
const MAX_CONNECTIONS: usize = 8;

/// Reads the time; of any base, as long as it does not jump.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// One connection. Its descriptor does not block.
pub(crate) trait Connection: AsFd + Send + 'static {
    /// When it is cut off.
    fn deadline(&self) -> Timestamp;

    /// What it waits for.
    fn interest(&self) -> PollFlags;
}

/// What is served.
pub(crate) trait Service: Send + 'static {
    /// A connection of this service.
    type Connection: Connection;
    /// What is connected to, as in "cannot accept a connection …".
    const WHAT: &'static str;

    /// What listens; it does not block.
    fn listener(&self) -> BorrowedFd<'_>;

    /// The next connection that waits.
    fn accept(&self, now: Timestamp) -> io::Result<Self::Connection>;

    /// Goes on with a connection as far as possible without waiting; returns it if it stays.
    fn step(&self, connection: Self::Connection, now: Timestamp) -> Option<Self::Connection>;
}

/// A running server; dropping it ends the thread, with all that it serves.
pub(crate) struct RunningPollServer {
    stop: Bell,
    thread: Option<JoinHandle<()>>,
}

impl RunningPollServer {
    /// Serves on a thread of this name.
    ///
    /// # Errors
    /// When there is no thread or file descriptor left.
    pub(crate) fn start<S: Service>(name: &str, service: S, clock: Clock) -> io::Result<Self> {
        let stop = Bell::new()?;
        let mut server = Server {
            connections: Vec::with_capacity(MAX_CONNECTIONS),
            service,
            stop: stop.clone(),
            complaint: Throttle::new(Duration::from_secs(60)),
        };
        let thread =
            std::thread::Builder::new().name(name.into()).spawn(move || while server.step(&*clock) {})?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for RunningPollServer {
    fn drop(&mut self) {
        self.stop.ring();
        if let Some(thread) = self.thread.take() {
            // One that panicked has said so itself.
            thread.join().ok();
        }
    }
}

struct Server<S: Service> {
    connections: Vec<S::Connection>,
    service: S,
    stop: Bell,
    complaint: Throttle,
}

impl<S: Service> Server<S> {
    /// Waits for something to do and does it; false when it is to stop.
    fn step(&mut self, clock: &dyn Fn() -> Timestamp) -> bool {
        let now = clock();
        self.connections.retain(|connection| now < connection.deadline());
        let timeout = match self.connections.iter().map(|connection| connection.deadline().since(now)).min() {
            // One millisecond more, so that the deadline has passed when the wait ends.
            Some(left) => PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX),
            None => PollTimeout::NONE,
        };
        let mut polled = vec![PollFd::new(self.stop.as_fd(), PollFlags::POLLIN)];
        polled.extend(self.connections.iter().map(|c| PollFd::new(c.as_fd(), c.interest())));
        if self.connections.len() < MAX_CONNECTIONS {
            polled.push(PollFd::new(self.service.listener(), PollFlags::POLLIN));
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
        for connection in self.connections.drain(..) {
            match ready.next() {
                Some(true) => stay.extend(self.service.step(connection, clock())),
                _ => stay.push(connection),
            }
        }
        self.connections = stay;
        if ready.next().unwrap_or(false) {
            self.accept(clock());
        }
        true
    }

    fn accept(&mut self, now: Timestamp) {
        match self.service.accept(now) {
            Ok(connection) => self.connections.push(connection),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => {
                if let Some(more) = self.complaint.admit(now) {
                    warn!("cannot accept a connection {}: {error} ({more} more before)", S::WHAT);
                }
                // Out of file descriptors the listener stays readable: do not spin on it.
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    }
}
