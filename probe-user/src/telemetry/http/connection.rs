// SPDX-License-Identifier: Apache-2.0 OR MIT
//! One connection: read a request, write the answer, read what the peer still sends, close.

use std::{
    io::{self, Read, Write},
    net::{Shutdown, TcpStream},
    os::fd::{AsFd, BorrowedFd},
    time::Duration,
};

use nix::poll::PollFlags;

use super::{
    Routes,
    request::{MAX_REQUEST, Request},
};
use crate::{flow::Timestamp, poll_server};

/// A connection is closed after this long, whatever its state.
const TIMEOUT: Duration = Duration::from_secs(5);
/// What is read, and ignored, after the answer.
const MAX_DRAIN: usize = 64 * 1024;

enum State {
    Reading(Vec<u8>),
    Writing {
        answer: Vec<u8>,
        sent: usize,
    },
    /// Closing with unread bytes would send a reset, which can overtake the answer.
    Draining(usize),
}

pub(super) struct Connection {
    stream: TcpStream,
    state: State,
    deadline: Timestamp,
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

impl poll_server::Connection for Connection {
    fn deadline(&self) -> Timestamp {
        self.deadline
    }

    fn interest(&self) -> PollFlags {
        match self.state {
            State::Writing { .. } => PollFlags::POLLOUT,
            State::Reading(_) | State::Draining(_) => PollFlags::POLLIN,
        }
    }
}

impl Connection {
    pub(super) fn new(stream: TcpStream, now: Timestamp) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self { stream, state: State::Reading(Vec::new()), deadline: now + TIMEOUT })
    }

    /// Goes on as far as possible without waiting; false when the connection is done.
    pub(super) fn step(&mut self, routes: &Routes) -> bool {
        loop {
            match self.advance(routes) {
                Ok(true) => {}
                Ok(false) => return false,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return error.kind() == io::ErrorKind::WouldBlock,
            }
        }
    }

    /// One read or write; false at the end.
    fn advance(&mut self, routes: &Routes) -> io::Result<bool> {
        match &mut self.state {
            State::Reading(request) => {
                let mut chunk = [0; 1024];
                let room = chunk.len().min(MAX_REQUEST - request.len());
                let length = self.stream.read(&mut chunk[..room])?;
                if length == 0 {
                    return Ok(false);
                }
                request.extend_from_slice(&chunk[..length]);
                if let Some(answer) = Request::parse(request).answer(routes) {
                    self.state = State::Writing { answer, sent: 0 };
                }
            }
            State::Writing { answer, sent } => {
                *sent += self.stream.write(&answer[*sent..])?;
                if *sent == answer.len() {
                    self.stream.shutdown(Shutdown::Write)?;
                    self.state = State::Draining(0);
                }
            }
            State::Draining(drained) => {
                let length = self.stream.read(&mut [0; 4096])?;
                *drained += length;
                return Ok(length != 0 && *drained < MAX_DRAIN);
            }
        }
        Ok(true)
    }
}
