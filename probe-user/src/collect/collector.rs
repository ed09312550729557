// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Receive, decode, write, count.

use std::io::{self, BufWriter, ErrorKind, IoSliceMut, Write};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    ControlMessageOwned, MsgFlags, MultiHeaders, SockaddrStorage, recvmmsg, setsockopt, sockopt,
};
use socket2::{Domain, Protocol, Socket, Type};

use super::netflow_v5_decode::{Malformed, decode, received};
use super::output::{OutputFormat, write_header, write_record};
use super::sequence::SequenceTable;
use super::write::{RecordWriter, WriteTotals};
use crate::flow::Timestamp;

/// Room for half a second of 2 M flows a second.
const RECEIVE_BUFFER: usize = 64 << 20;
/// Datagrams of one system call.
const BATCH: usize = 64;
/// More than any version 5 datagram; of longer ones of other versions the header is enough.
const DATAGRAM: usize = 2048;
const OUTPUT_BUFFER: usize = 256 << 10;

/// What to collect, and when to end.
#[derive(Clone, Debug)]
pub struct CollectorOptions {
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// How to write.
    pub format: OutputFormat,
    /// End after this many records.
    pub count: Option<u64>,
    /// End when nothing came for this long.
    pub idle_exit: Option<Duration>,
}

/// Why collecting ended in failure.
#[derive(Debug, thiserror::Error)]
pub enum CollectError {
    /// The port is taken, the address is not ours, ….
    #[error("cannot listen on udp://{listen}: {cause}; {advice}")]
    Listen {
        /// Address and port.
        listen: SocketAddr,
        /// The kernel's answer.
        cause: io::Error,
        /// What to do.
        advice: &'static str,
    },
    /// The socket failed.
    #[error(
        "receiving on udp://{listen} failed: {cause}; start the collector again, and look at the kernel log if this repeats"
    )]
    Receive {
        /// Address and port.
        listen: SocketAddr,
        /// The kernel's answer.
        cause: Errno,
    },
    /// The output failed.
    #[error("writing flows failed: {0}; check the disk or the program that reads them")]
    Write(io::Error),
}

/// What was received so far.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Totals {
    /// Datagrams of all kinds.
    pub datagrams: u64,
    /// Records decoded.
    pub records: u64,
    /// Packets that they tell of.
    pub packets: u64,
    /// Octets that they tell of.
    pub octets: u64,
    /// Datagrams not decoded, by [`Malformed`].
    pub malformed: [u64; Malformed::NAMES.len()],
    /// Datagrams that the kernel dropped because the receive buffer was full.
    pub overflowed: u64,
}

/// What a step did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Progress {
    /// Datagrams received.
    pub datagrams: usize,
    /// Whether it is over: enough records, silence, or nobody reads the output.
    pub finished: bool,
}

/// See the module.
pub struct Collector {
    options: CollectorOptions,
    listen: SocketAddr,
    socket: UdpSocket,
    buffer: Vec<u8>,
    arrived: Vec<(Option<SocketAddr>, usize)>,
    out: BufWriter<Box<dyn Write + Send>>,
    header_due: bool,
    totals: Totals,
    sequences: SequenceTable,
    heard: Option<Timestamp>,
    complained: bool,
    files: Option<RecordWriter>,
    /// Unix time in nanoseconds, for the files.
    unix_ns: u64,
}

impl Collector {
    /// Binds the socket; flows will be written to `out`.
    pub fn bind(options: CollectorOptions, out: Box<dyn Write + Send>) -> Result<Self, CollectError> {
        let (socket, listen) = open_socket(options.listen).map_err(|cause| {
            let advice = match cause.kind() {
                ErrorKind::AddrInUse => {
                    "another collector runs there (see: ss -lunp): stop it or take another port"
                }
                ErrorKind::AddrNotAvailable => "listen on an address of this host, or on 0.0.0.0",
                ErrorKind::PermissionDenied => "ports below 1024 need privilege: take one above",
                _ => "check the address and the limit of open files",
            };
            CollectError::Listen { listen: options.listen, cause, advice }
        })?;
        Ok(Self {
            options,
            listen,
            socket,
            buffer: vec![0; BATCH * DATAGRAM],
            arrived: Vec::with_capacity(BATCH),
            out: BufWriter::with_capacity(OUTPUT_BUFFER, out),
            header_due: true,
            totals: Totals::default(),
            sequences: SequenceTable::default(),
            heard: None,
            complained: false,
            files: None,
            unix_ns: 0,
        })
    }

    /// From now on, writes what is received into files as well.
    pub fn write_files(&mut self, writer: RecordWriter) {
        self.files = Some(writer);
    }

    /// Tells what time it is, in nanoseconds of Unix time, before each step: files end by the wall clock.
    pub fn turn_files(&mut self, unix_ns: u64) {
        self.unix_ns = unix_ns;
        if let Some(files) = &mut self.files {
            files.step(unix_ns);
        }
    }

    /// Ends the files, if any, and says what is in them.
    pub fn finish_files(&mut self, unix_ns: u64) -> Option<WriteTotals> {
        self.files.take().map(|files| files.finish(unix_ns))
    }

    /// Where it listens.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.listen
    }

    /// What was received.
    #[must_use]
    pub fn totals(&self) -> Totals {
        self.totals
    }

    /// What is missing.
    #[must_use]
    pub fn sequences(&self) -> &SequenceTable {
        &self.sequences
    }

    /// Waits at most `wait` for datagrams, takes a batch and writes its flows.
    pub fn step(&mut self, now: Timestamp, wait: Duration) -> Result<Progress, CollectError> {
        let heard = *self.heard.get_or_insert(now);
        self.receive(wait).map_err(|cause| CollectError::Receive { listen: self.listen, cause })?;
        let datagrams = self.arrived.len();
        if datagrams > 0 {
            self.heard = Some(now);
        }
        let silent = datagrams == 0 && self.options.idle_exit.is_some_and(|limit| now.since(heard) >= limit);
        match self.write_batch() {
            Ok(enough) => Ok(Progress { datagrams, finished: enough || silent }),
            // Whoever read the flows has seen enough.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(Progress { datagrams, finished: true }),
            Err(error) => Err(CollectError::Write(error)),
        }
    }

    fn receive(&mut self, wait: Duration) -> Result<(), Errno> {
        self.arrived.clear();
        let timeout = PollTimeout::try_from(wait).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)], timeout) {
            Ok(0) | Err(Errno::EINTR) => return Ok(()),
            Ok(_) => {}
            Err(errno) => return Err(errno),
        }
        let mut headers = MultiHeaders::<SockaddrStorage>::preallocate(BATCH, Some(nix::cmsg_space!(u32)));
        let mut slices: Vec<_> =
            self.buffer.chunks_exact_mut(DATAGRAM).map(|c| [IoSliceMut::new(c)]).collect();
        let fd = self.socket.as_raw_fd();
        let messages = match recvmmsg(fd, &mut headers, &mut slices, MsgFlags::MSG_DONTWAIT, None) {
            Ok(messages) => messages,
            Err(Errno::EAGAIN | Errno::EINTR) => return Ok(()),
            Err(errno) => return Err(errno),
        };
        for message in messages {
            self.arrived.push((message.address.as_ref().and_then(socket_address), message.bytes));
            for control in message.cmsgs().into_iter().flatten() {
                // Counted by the kernel since the socket was opened, 32 bits.
                if let ControlMessageOwned::RxqOvfl(dropped) = control {
                    self.totals.overflowed = self.totals.overflowed.max(dropped.into());
                }
            }
        }
        Ok(())
    }

    /// Returns whether the records asked for have been written.
    fn write_batch(&mut self) -> io::Result<bool> {
        if std::mem::take(&mut self.header_due) {
            write_header(&mut self.out, self.options.format)?;
            self.out.flush()?;
        }
        if self.arrived.is_empty() {
            return Ok(false);
        }
        let limit = self.options.count.unwrap_or(u64::MAX);
        let datagrams = self.buffer.chunks_exact(DATAGRAM).zip(&self.arrived);
        for (datagram, (address, len)) in
            datagrams.map(|(buffer, (from, len))| (&buffer[..*len], (from, len)))
        {
            if self.totals.records >= limit {
                break;
            }
            self.totals.datagrams += 1;
            if let Some(files) = &mut self.files {
                files.message(*address, datagram, self.unix_ns);
            }
            let (header, records) = match decode(datagram) {
                Ok(decoded) => decoded,
                Err(malformed) => {
                    self.totals.malformed[malformed.index()] += 1;
                    if !std::mem::replace(&mut self.complained, true) {
                        let from = address.map_or_else(|| "unknown".to_owned(), |from| from.to_string());
                        tracing::warn!(
                            "a datagram of {len} octets from {from} was not decoded: {malformed}; further ones \
                             are only counted"
                        );
                    }
                    continue;
                }
            };
            if let Some(address) = address {
                self.sequences.note(*address, &header);
            }
            for record in records {
                if self.totals.records == limit {
                    break;
                }
                self.totals.records += 1;
                self.totals.packets += u64::from(record.packets);
                self.totals.octets += u64::from(record.octets);
                if let Some(files) = &mut self.files {
                    files.record(&received(*address, &header, &record), self.unix_ns);
                }
                write_record(&mut self.out, self.options.format, &record)?;
            }
        }
        self.out.flush()?;
        Ok(self.totals.records >= limit)
    }

    /// Writes what was received and what is missing, for the end.
    pub fn summarize(&self, out: &mut impl Write) -> io::Result<()> {
        let Totals { datagrams, records, packets, octets, malformed, overflowed } = self.totals;
        let sequences = &self.sequences;
        writeln!(out, "datagrams {datagrams}, flows {records}, packets {packets}, octets {octets}")?;
        write!(
            out,
            "exporters {}, missed flows {}, late datagrams {}, restarts {}",
            sequences.exporters(),
            sequences.missed,
            sequences.late,
            sequences.restarts
        )?;
        if sequences.untracked > 0 {
            write!(out, ", datagrams of exporters beyond the table {}", sequences.untracked)?;
        }
        write!(out, "\nnot decoded {}", malformed.iter().sum::<u64>())?;
        for (name, count) in Malformed::NAMES.iter().zip(malformed).filter(|(_, count)| *count > 0) {
            write!(out, ", {name} {count}")?;
        }
        writeln!(out, "; dropped by the kernel for want of buffer {overflowed}")
    }
}

fn open_socket(listen: SocketAddr) -> io::Result<(UdpSocket, SocketAddr)> {
    let socket = Socket::new(Domain::for_address(listen), Type::DGRAM.nonblocking(), Some(Protocol::UDP))?;
    // Beyond net.core.rmem_max only with CAP_NET_ADMIN; otherwise as much as is allowed.
    if setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE_BUFFER).is_err() {
        socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
    }
    setsockopt(&socket, sockopt::RxqOvfl, &1)?;
    socket.bind(&listen.into())?;
    let socket: UdpSocket = socket.into();
    let listen = socket.local_addr()?;
    Ok((socket, listen))
}

fn socket_address(address: &SockaddrStorage) -> Option<SocketAddr> {
    if let Some(address) = address.as_sockaddr_in() {
        return Some(SocketAddr::V4((*address).into()));
    }
    let address = SocketAddr::V6((*address.as_sockaddr_in6()?).into());
    // A socket on [::] sees IPv4 exporters with mapped addresses.
    Some(SocketAddr::new(address.ip().to_canonical(), address.port()))
}
