// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Receive, decode, write, count: one loop over all sockets, whose turns are steps.

use std::io::{self, ErrorKind, Write};
use std::net::SocketAddr;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::connection::Verdict;
use super::datagrams::Datagrams;
use super::decode::{Decoder, Source};
use super::intake::{Intake, Totals};
use super::listen_url::{ListenUrl, Transport};
use super::output::OutputFormat;
use super::sequence::SequenceTable;
use super::streams::{StreamListener, Streams};
use super::tls::{TlsFiles, server_config};
use super::write::{RecordWriter, WriteTotals};
use crate::flow::Timestamp;

/// What to collect, and when to end.
#[derive(Clone, Debug)]
pub struct CollectorOptions {
    /// Where to listen; port 0 takes a free one.
    pub listen: Vec<ListenUrl>,
    /// Certificates, for those that listen for TLS.
    pub tls: Option<TlsFiles>,
    /// How to write.
    pub format: OutputFormat,
    /// Whether options records are written as well.
    pub show_options: bool,
    /// End after this many flow records.
    pub count: Option<u64>,
    /// End when nothing came for this long.
    pub idle_exit: Option<Duration>,
}

impl CollectorOptions {
    /// Datagrams on one address, without an end.
    #[must_use]
    pub fn udp(listen: SocketAddr, format: OutputFormat) -> Self {
        let listen = vec![ListenUrl::udp(listen)];
        Self { listen, tls: None, format, show_options: false, count: None, idle_exit: None }
    }
}

/// Why collecting ended in failure.
#[derive(Debug, thiserror::Error)]
pub enum CollectError {
    /// The port is taken, the address is not ours, ….
    #[error("cannot listen on {listen}: {cause}; {advice}")]
    Listen {
        /// Address and port.
        listen: ListenUrl,
        /// The kernel's answer.
        cause: io::Error,
        /// What to do.
        advice: &'static str,
    },
    /// A certificate or key is missing or cannot be used.
    #[error("{0}")]
    Tls(String),
    /// A socket failed.
    #[error(
        "receiving on {listen} failed: {cause}; start the collector again, and look at the kernel log if this repeats"
    )]
    Receive {
        /// Address and port.
        listen: ListenUrl,
        /// The kernel's answer.
        cause: Errno,
    },
    /// Waiting failed.
    #[error("waiting for messages failed: {0}; start the collector again")]
    Wait(Errno),
    /// The output failed.
    #[error("writing flows failed: {0}; check the disk or the program that reads them")]
    Write(io::Error),
}

/// What a step did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Progress {
    /// Datagrams and messages received.
    pub datagrams: usize,
    /// Whether it is over: enough records, silence, or nobody reads the output.
    pub finished: bool,
}

enum Listener {
    Datagrams(Datagrams),
    Streams(StreamListener),
}

/// See the module.
pub struct Collector {
    listeners: Vec<(ListenUrl, Listener)>,
    streams: Streams,
    intake: Intake,
    idle_exit: Option<Duration>,
    heard: Option<Timestamp>,
}

impl Collector {
    /// Binds the sockets; flows will be written to `out`.
    ///
    /// # Errors
    /// When it cannot listen, or the files for TLS are not there.
    pub fn bind(options: CollectorOptions, out: Box<dyn Write + Send>) -> Result<Self, CollectError> {
        let tls = options.tls.as_ref().map(server_config).transpose().map_err(CollectError::Tls)?;
        let mut listeners = Vec::new();
        for url in options.listen {
            let tls = tls.clone().filter(|_| url.transport == Transport::Tls);
            if url.transport == Transport::Tls && tls.is_none() {
                let message = format!("cannot listen on {url}: a certificate and its key are needed");
                return Err(CollectError::Tls(message));
            }
            let bound = open(url, tls).map_err(|cause| {
                let advice = match cause.kind() {
                    ErrorKind::AddrInUse => {
                        "another collector runs there (see: ss -lunpt): stop it or take another port"
                    }
                    ErrorKind::AddrNotAvailable => "listen on an address of this host, or on 0.0.0.0",
                    ErrorKind::PermissionDenied => "ports below 1024 need privilege: take one above",
                    _ => "check the address and the limit of open files",
                };
                CollectError::Listen { listen: url, cause, advice }
            })?;
            listeners.push(bound);
        }
        let limit = options.count.unwrap_or(u64::MAX);
        Ok(Self {
            listeners,
            streams: Streams::new(),
            intake: Intake::new(options.format, options.show_options, limit, out),
            idle_exit: options.idle_exit,
            heard: None,
        })
    }

    /// From now on, writes what is received into files as well.
    pub fn write_files(&mut self, writer: RecordWriter) {
        self.intake.files = Some(writer);
    }

    /// Tells what time it is, in nanoseconds of Unix time, before each step: files end by the wall clock.
    pub fn turn_files(&mut self, unix_ns: u64) {
        self.intake.unix_ns = unix_ns;
        if let Some(files) = &mut self.intake.files {
            files.step(unix_ns);
        }
    }

    /// Ends the files, if any, and says what is in them.
    pub fn finish_files(&mut self) -> Option<WriteTotals> {
        let unix_ns = self.intake.unix_ns;
        self.intake.files.take().map(|files| files.finish(unix_ns))
    }

    /// Takes a message that came in no socket; returns whether it is over.
    ///
    /// # Errors
    /// When the output fails.
    pub fn message(&mut self, from: Source, octets: &[u8], now: Timestamp) -> Result<bool, CollectError> {
        let taken = self.intake.begin().and_then(|()| self.intake.message(from, octets, now));
        match taken {
            Ok(_) => Ok(self.intake.is_full()),
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(true),
            Err(error) => Err(CollectError::Write(error)),
        }
    }

    /// Forgets a file that was read to its end, and shows what was in it.
    ///
    /// # Errors
    /// When the output fails.
    pub fn forget(&mut self, stream: u64) -> Result<(), CollectError> {
        self.intake.forget(stream);
        match self.intake.flush() {
            Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(CollectError::Write(error)),
            _ => Ok(()),
        }
    }

    /// Where it listens, with the ports that were free.
    pub fn listens(&self) -> impl Iterator<Item = ListenUrl> {
        self.listeners.iter().map(|(url, _)| *url)
    }

    /// The first address where it listens.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.listens().next().map_or_else(|| SocketAddr::from(([0; 4], 0)), |url| url.address)
    }

    /// What was received.
    #[must_use]
    pub fn totals(&self) -> Totals {
        let mut totals = self.intake.totals;
        totals.streams = self.streams.totals;
        totals
    }

    /// What is missing.
    #[must_use]
    pub fn sequences(&self) -> &SequenceTable {
        self.intake.sequences()
    }

    /// What is known of the exporters.
    #[must_use]
    pub fn decoder(&self) -> &Decoder {
        self.intake.decoder()
    }

    /// Waits at most `wait` for messages, takes a batch of each socket and writes its flows.
    ///
    /// # Errors
    /// When a socket or the output fails.
    pub fn step(&mut self, now: Timestamp, wait: Duration) -> Result<Progress, CollectError> {
        let heard = *self.heard.get_or_insert(now);
        let before = self.intake.totals.datagrams;
        let ready = self.wait(wait).map_err(CollectError::Wait)?;
        let mut arrived = 0;
        let result = self.take(&ready, now, &mut arrived);
        let messages = self.intake.totals.datagrams - before;
        let datagrams = arrived.max(usize::try_from(messages).unwrap_or(usize::MAX));
        if datagrams > 0 {
            self.heard = Some(now);
        }
        let silent = datagrams == 0 && self.idle_exit.is_some_and(|limit| now.since(heard) >= limit);
        match result {
            Ok(()) => Ok(Progress { datagrams, finished: self.intake.is_full() || silent }),
            // Whoever read the flows has seen enough.
            Err(CollectError::Write(error)) if error.kind() == ErrorKind::BrokenPipe => {
                Ok(Progress { datagrams, finished: true })
            }
            Err(error) => Err(error),
        }
    }

    /// Which sockets have something, listeners first, then connections.
    fn wait(&self, wait: Duration) -> Result<Vec<bool>, Errno> {
        let listeners = self.listeners.iter().map(|(_, listener)| {
            let fd = match listener {
                Listener::Datagrams(datagrams) => datagrams.as_fd(),
                Listener::Streams(streams) => streams.as_fd(),
            };
            PollFd::new(fd, PollFlags::POLLIN)
        });
        let mut fds: Vec<PollFd<'_>> = listeners.chain(self.streams.poll_fds()).collect();
        match poll(&mut fds, PollTimeout::try_from(wait).unwrap_or(PollTimeout::MAX)) {
            Ok(_) => {}
            Err(Errno::EINTR) => return Ok(vec![false; fds.len()]),
            Err(errno) => return Err(errno),
        }
        Ok(fds.iter().map(|fd| fd.any().unwrap_or(true)).collect())
    }

    fn take(&mut self, ready: &[bool], now: Timestamp, arrived: &mut usize) -> Result<(), CollectError> {
        self.intake.begin().map_err(CollectError::Write)?;
        let Self { listeners, streams, intake, .. } = self;
        let (ready, connections_ready) = ready.split_at(listeners.len().min(ready.len()));
        let mut overflowed = 0;
        let mut accepted = Vec::new();
        for ((url, listener), ready) in listeners.iter_mut().zip(ready) {
            match listener {
                Listener::Datagrams(datagrams) => {
                    if *ready {
                        datagrams.receive().map_err(|cause| CollectError::Receive { listen: *url, cause })?;
                        *arrived += datagrams.batch().len();
                        for (exporter, octets) in datagrams.batch() {
                            let source = Source { exporter, stream: 0 };
                            intake.message(source, octets, now).map_err(CollectError::Write)?;
                        }
                    }
                    overflowed += datagrams.overflowed;
                }
                Listener::Streams(listener) if *ready => accepted.push(&*listener),
                Listener::Streams(_) => {}
            }
        }
        intake.totals.overflowed = overflowed;
        let mut ended = streams
            .read(connections_ready, now, |source, octets| {
                let message = intake.message(source, octets, now)?;
                Ok(if message.is_some_and(|message| message.broken) {
                    Verdict::Broken
                } else {
                    Verdict::Good
                })
            })
            .map_err(CollectError::Write)?;
        for listener in accepted {
            ended.extend(streams.accept(listener, now));
        }
        for stream in ended {
            intake.forget(stream);
        }
        intake.flush().map_err(CollectError::Write)
    }

    /// Writes what was received and what is missing, for the end.
    ///
    /// # Errors
    /// When writing fails.
    pub fn summarize(&mut self, out: &mut impl Write) -> io::Result<()> {
        self.intake.totals.streams = self.streams.totals;
        self.intake.summarize(out)
    }
}

fn open(
    url: ListenUrl,
    tls: Option<std::sync::Arc<rustls::ServerConfig>>,
) -> io::Result<(ListenUrl, Listener)> {
    let (address, listener) = if url.transport == Transport::Udp {
        let datagrams = Datagrams::bind(url.address)?;
        (datagrams.local_addr(), Listener::Datagrams(datagrams))
    } else {
        let streams = StreamListener::bind(url.address, tls)?;
        (streams.local_addr()?, Listener::Streams(streams))
    };
    Ok((ListenUrl { address, ..url }, listener))
}
