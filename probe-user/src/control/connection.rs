// SPDX-License-Identifier: Apache-2.0 OR MIT
//! One client.

use std::{
    io::{self, Read, Write},
    os::{
        fd::{AsFd, BorrowedFd},
        unix::net::UnixStream,
    },
    time::Duration,
};

use nix::poll::PollFlags;
use serde::Serialize;
use serde_json::Value;

use super::{Answer, Command, ControlHandler, Greeting, Refusal, Stats};
use crate::{error::ProbeError, flow::Timestamp, poll_server};

/// Longest request, its newline included.
const MAX_REQUEST: usize = 4096;

/// A client that neither asks nor reads for this long is cut off.
const PATIENCE: Duration = Duration::from_secs(5);

/// What becomes of a client after a step.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Next {
    /// It stays.
    Stay,
    /// It has gone, or is to go.
    Close,
    /// It waits for the probe's end.
    AwaitEnd,
}

pub(super) struct Connection {
    stream: UnixStream,
    inbox: Vec<u8>,
    outbox: Vec<u8>,
    sent: usize,
    /// Nothing more is read.
    at_end: bool,
    awaits_end: bool,
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
        if self.sent < self.outbox.len() { PollFlags::POLLOUT } else { PollFlags::POLLIN }
    }
}

impl Connection {
    /// A new client, which is greeted by the first step.
    pub(super) fn new(stream: UnixStream, now: Timestamp) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self {
            stream,
            inbox: Vec::new(),
            outbox: line(&Greeting::of_this_probe()),
            sent: 0,
            at_end: false,
            awaits_end: false,
            deadline: now + PATIENCE,
        })
    }

    /// Leaves the socket open until the process ends, for then the kernel closes it: that is what a client of
    /// `shutdown` waits for.
    pub(super) fn leave_open(self) {
        std::mem::forget(self.stream);
    }

    /// Goes on as far as possible without waiting.
    pub(super) fn step(&mut self, handler: &dyn ControlHandler, now: Timestamp) -> Next {
        loop {
            match self.advance(handler, now) {
                Ok(None) => {}
                Ok(Some(next)) => return next,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Next::Stay,
                Err(_) => return Next::Close,
            }
        }
    }

    /// One write, request or read.
    fn advance(&mut self, handler: &dyn ControlHandler, now: Timestamp) -> io::Result<Option<Next>> {
        if self.sent < self.outbox.len() {
            self.sent += self.stream.write(&self.outbox[self.sent..])?;
            if self.sent == self.outbox.len() {
                // A client that reads its answers may ask on.
                self.deadline = now + PATIENCE;
            }
            return Ok(None);
        }
        if self.awaits_end {
            return Ok(Some(Next::AwaitEnd));
        }
        if let Some(request) = self.take_request() {
            let answer = self.answer(&request, handler);
            (self.outbox, self.sent) = (line(&answer), 0);
            return Ok(None);
        }
        if self.at_end {
            return Ok(Some(Next::Close));
        }
        let mut chunk = [0; MAX_REQUEST];
        let room = MAX_REQUEST - self.inbox.len();
        let length = self.stream.read(&mut chunk[..room])?;
        self.at_end = length == 0;
        self.inbox.extend_from_slice(&chunk[..length]);
        Ok(None)
    }

    /// The next line, without its newline; at the end also what has none. Too long a line is what has arrived of it.
    fn take_request(&mut self) -> Option<Vec<u8>> {
        match self.inbox.iter().position(|octet| *octet == b'\n') {
            Some(newline) => {
                let mut request: Vec<u8> = self.inbox.drain(..=newline).collect();
                request.pop();
                Some(request)
            }
            None if self.inbox.len() == MAX_REQUEST => {
                self.at_end = true;
                Some(std::mem::take(&mut self.inbox))
            }
            None if self.at_end && !self.inbox.is_empty() => Some(std::mem::take(&mut self.inbox)),
            None => None,
        }
    }

    fn answer(&mut self, request: &[u8], handler: &dyn ControlHandler) -> Answer {
        if request.len() == MAX_REQUEST {
            return Answer::Error(
                ProbeError::usage(format!("a request has at most {} octets", MAX_REQUEST - 1)).into(),
            );
        }
        let command = match serde_json::from_slice(request) {
            Ok(command) => command,
            Err(error) => {
                let refusal = ProbeError::usage("the request was not understood")
                    .because(error)
                    .hint("a request is a JSON object on a line, such as {\"command\":\"stats\"}");
                return Answer::Error(refusal.into());
            }
        };
        let answer = carry_out(&command, handler);
        self.awaits_end = command == Command::Shutdown && answer.is_ok();
        answer.into()
    }
}

fn carry_out(command: &Command, handler: &dyn ControlHandler) -> Result<Value, Refusal> {
    match command {
        Command::Stats => {
            let ledger = handler.stats();
            let text = ledger.to_string();
            value(&Stats { ledger: value(&ledger)?, text })
        }
        Command::IfaceAdd { name } => handler.iface_add(name).and_then(|added| value(&added)),
        Command::IfaceRemove { name } => handler.iface_remove(name).map(|()| Value::Null),
        Command::IfaceList => value(&handler.iface_list()),
        Command::Shutdown => handler.shutdown().map(|()| Value::Null),
    }
}

fn value<T: Serialize>(content: &T) -> Result<Value, Refusal> {
    serde_json::to_value(content)
        .map_err(|error| ProbeError::run("cannot write the answer as JSON").because(error).into())
}

/// A message as it is sent.
fn line<T: Serialize>(message: &T) -> Vec<u8> {
    // The messages have text keys only, the one thing that JSON could refuse.
    let mut line = serde_json::to_vec(message).unwrap_or_default();
    line.push(b'\n');
    line
}
