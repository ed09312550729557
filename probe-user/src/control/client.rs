// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The other end: asks a running probe.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::de::DeserializeOwned;
use socket2::{Domain, SockAddr, Socket, Type};

use super::{Answer, Command, Greeting, PROTOCOL};
use crate::error::ProbeError;

/// How long connecting and each answer may take: longer than the probe itself waits for its main thread.
const PATIENCE: Duration = Duration::from_secs(15);

/// Longest line of the probe that is read.
const MAX_ANSWER: u64 = 16 << 20;

/// A connection to a running probe.
#[derive(Debug)]
pub struct ControlClient {
    stream: BufReader<UnixStream>,
    path: PathBuf,
    greeting: Greeting,
}

impl ControlClient {
    /// Connects and reads the greeting.
    ///
    /// # Errors
    /// When no probe is there, it does not answer, or speaks another protocol.
    pub fn connect(path: &Path) -> Result<Self, ProbeError> {
        let stream = connect(path).map_err(|error| unreachable(path, error))?;
        let mut stream = BufReader::new(stream);
        let line = read_line(&mut stream).map_err(|error| unreachable(path, error))?;
        let greeting: Greeting = serde_json::from_slice(&line).map_err(|error| {
            ProbeError::host(format!("what listens at {} is no probe", path.display()))
                .because(error)
                .hint("give the socket of a probe with --socket")
        })?;
        if greeting.protocol != PROTOCOL {
            return Err(ProbeError::host(format!(
                "the probe at {} has version {} and speaks version {} of the control protocol, this program ({}) \
                 version {PROTOCOL}",
                path.display(),
                greeting.probe,
                greeting.protocol,
                env!("CARGO_PKG_VERSION")
            ))
            .hint("ask it with the program it was started from, or restart it with this one"));
        }
        Ok(Self { stream, path: path.into(), greeting })
    }

    /// What the probe said of itself.
    #[must_use]
    pub fn greeting(&self) -> &Greeting {
        &self.greeting
    }

    /// Asks, and returns the answer; [`Command`] says of what kind it is.
    ///
    /// # Errors
    /// The probe's own error; or that it does not know the command, went away, or its answer is not understood.
    pub fn ask<T: DeserializeOwned>(&mut self, command: &Command) -> Result<T, ProbeError> {
        if !self.greeting.commands.iter().any(|name| name == command.name()) {
            return Err(ProbeError::host(format!(
                "the probe at {} (version {}) does not know the command {}, which this program ({}) has",
                self.path.display(),
                self.greeting.probe,
                command.name(),
                env!("CARGO_PKG_VERSION")
            ))
            .hint("restart the probe with this program"));
        }
        let line = self.exchange(command).map_err(|error| {
            ProbeError::run(format!("the probe at {} did not answer", self.path.display()))
                .because(error)
                .hint("its log says what keeps it, or why it ended")
        })?;
        let misunderstood = |error: serde_json::Error| {
            ProbeError::run(format!("the answer of the probe at {} was not understood", self.path.display()))
                .because(error)
                .hint(format!(
                    "the probe has version {}, this program {}",
                    self.greeting.probe,
                    env!("CARGO_PKG_VERSION")
                ))
        };
        match serde_json::from_slice(&line).map_err(misunderstood)? {
            Answer::Result(value) => serde_json::from_value(value).map_err(misunderstood),
            Answer::Error(refusal) => Err(refusal.into()),
        }
    }

    /// After [`Command::Shutdown`]: waits until the probe's process has ended, at most for so long.
    ///
    /// # Errors
    /// When it has not ended by then.
    pub fn wait_for_end(mut self, limit: Duration) -> Result<(), ProbeError> {
        let waited = self
            .stream
            .get_ref()
            .set_read_timeout(Some(limit))
            .and_then(|()| io::copy(&mut self.stream, &mut io::sink()));
        match waited {
            // The kernel reports a reset where the process ended with something unread.
            Ok(_) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(()),
            Err(error) => Err(ProbeError::run(format!(
                "the probe (process {}) has not ended within {limit:?}",
                self.greeting.pid
            ))
            .because(timeout(error))
            .hint(
                "its log says what keeps it; SIGINT a second time ends it at once, without its last flows",
            )),
        }
    }

    fn exchange(&mut self, command: &Command) -> io::Result<Vec<u8>> {
        let mut request = serde_json::to_vec(command)?;
        request.push(b'\n');
        self.stream.get_mut().write_all(&request)?;
        read_line(&mut self.stream)
    }
}

fn connect(path: &Path) -> io::Result<UnixStream> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // It also bounds the wait of connect for a place in the backlog (unix(7), SO_SNDTIMEO).
    socket.set_write_timeout(Some(PATIENCE))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.connect(&SockAddr::unix(path)?)?;
    Ok(socket.into())
}

fn read_line(stream: &mut BufReader<UnixStream>) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    stream.by_ref().take(MAX_ANSWER).read_until(b'\n', &mut line).map_err(timeout)?;
    match line.last() {
        Some(b'\n') => Ok(line),
        _ => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it closed the connection")),
    }
}

/// What the kernel calls "would block" is, with a limit set, that time is up.
fn timeout(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::WouldBlock => io::Error::new(io::ErrorKind::TimedOut, "nothing came in time"),
        _ => error,
    }
}

fn unreachable(path: &Path, error: io::Error) -> ProbeError {
    let (message, hint) = match error.kind() {
        io::ErrorKind::NotFound => (
            format!("no probe at {}: there is no such socket", path.display()),
            "start one with probe run, or name its socket with --socket or PROBE_SOCKET; the probe's log says where it \
             is",
        ),
        io::ErrorKind::ConnectionRefused => (
            format!("no probe at {}: nobody listens at this socket any more", path.display()),
            "the probe ended without removing it: its log may say why; the next one started there replaces it",
        ),
        io::ErrorKind::PermissionDenied => (
            format!("not allowed to ask the probe at {}", path.display()),
            "run this as root, or as the user or group that the probe runs as",
        ),
        _ => (
            format!("cannot ask the probe at {}", path.display()),
            "its log says what keeps it; --socket names another probe",
        ),
    };
    ProbeError::host(message).because(timeout(error)).hint(hint)
}
