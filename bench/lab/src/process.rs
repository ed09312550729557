// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Programs that the lab starts, watches and ends.

use std::{
    ffi::OsStr,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex, PoisonError},
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{Namespace, clock::wait_until};

/// A running program; what it prints is kept. Killed on drop if it still runs.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    printed: [Arc<Mutex<String>>; 2],
    readers: Vec<JoinHandle<()>>,
}

impl Process {
    /// Starts `program` with `args`, in a namespace if one is given.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start<S: AsRef<OsStr>>(namespace: Option<&Namespace>, program: &str, args: &[S]) -> Result<Self> {
        let mut command = namespace.map_or_else(|| Command::new(program), |inside| inside.command(program));
        command.args(args);
        Self::spawn(program.rsplit('/').next().unwrap_or(program), command)
    }

    /// Starts a command that was prepared otherwise; `name` stands for it in messages.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn(name: &str, mut command: Command) -> Result<Self> {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.spawn().with_context(|| format!("starting {name}"))?;
        let name = name.to_owned();
        let mut process = Self { name, printed: Default::default(), readers: Vec::new(), child };
        if let Some(pipe) = process.child.stdout.take() {
            process.keep(0, pipe);
        }
        if let Some(pipe) = process.child.stderr.take() {
            process.keep(1, pipe);
        }
        Ok(process)
    }

    fn keep(&mut self, which: usize, pipe: impl Read + Send + 'static) {
        let kept = Arc::clone(&self.printed[which]);
        self.readers.push(thread::spawn(move || {
            let mut pipe = BufReader::new(pipe);
            let mut line = Vec::new();
            while pipe.read_until(b'\n', &mut line).is_ok_and(|count| count > 0) {
                kept.lock().unwrap_or_else(PoisonError::into_inner).push_str(&String::from_utf8_lossy(&line));
                line.clear();
            }
        }));
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Standard output so far, in whole lines.
    #[must_use]
    pub fn stdout(&self) -> String {
        self.printed[0].lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Standard error so far, in whole lines.
    #[must_use]
    pub fn stderr(&self) -> String {
        self.printed[1].lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Waits until it has printed `text` to standard error.
    ///
    /// # Errors
    /// When it ends or the time passes before, with what it printed instead.
    pub fn wait_for_message(&mut self, text: &str, timeout: Duration) -> Result<()> {
        let mut seen = false;
        wait_until(timeout, || {
            seen = self.stderr().contains(text);
            seen || !self.is_running()
        });
        // It may have printed the text as its last words.
        if seen || self.stderr().contains(text) {
            return Ok(());
        }
        bail!("{} did not say {text:?} within {timeout:?}; it said:\n{}", self.name, self.stderr())
    }

    /// Waits until `path` on `address`, asked from `namespace`, answers 200.
    ///
    /// # Errors
    /// When it ends or the time passes before, with what it printed.
    pub fn wait_ready(
        &mut self,
        namespace: &Namespace,
        address: SocketAddr,
        path: &str,
        timeout: Duration,
    ) -> Result<()> {
        let mut ready = false;
        wait_until(timeout, || {
            ready = http_get(Some(namespace), address, path).is_ok_and(|(status, _)| status == 200);
            ready || !self.is_running()
        });
        if ready {
            return Ok(());
        }
        bail!("{} was not ready within {timeout:?}; it said:\n{}", self.name, self.stderr())
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let id = i32::try_from(self.child.id()).context("a process id beyond 31 bits")?;
        kill(Pid::from_raw(id), signal).with_context(|| format!("sending {signal} to {}", self.name))
    }

    /// Waits for its end, and for the last of what it printed.
    ///
    /// # Errors
    /// When it still runs after `timeout`, with what it printed.
    pub fn wait(&mut self, timeout: Duration) -> Result<ExitStatus> {
        let mut status = None;
        wait_until(timeout, || {
            status = self.child.try_wait().ok().flatten();
            status.is_some()
        });
        let Some(status) = status else {
            bail!("{} still runs after {timeout:?}; it said:\n{}", self.name, self.stderr());
        };
        for reader in self.readers.drain(..) {
            // A reader that panicked has kept what it read.
            drop(reader.join());
        }
        Ok(status)
    }

    /// Signals and waits: `SIGTERM`, then the end within `timeout`.
    ///
    /// # Errors
    /// As [`Process::wait`].
    pub fn terminate(&mut self, timeout: Duration) -> Result<ExitStatus> {
        self.signal(Signal::SIGTERM)?;
        self.wait(timeout)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.is_running() {
            // It may end by itself between the question and the kill.
            drop(self.child.kill());
            drop(self.child.wait());
        }
    }
}

/// Status and body of a plain HTTP request, sent from a namespace if one is given.
///
/// # Errors
/// When nobody answers, or not in HTTP.
pub fn http_get(namespace: Option<&Namespace>, address: SocketAddr, path: &str) -> Result<(u16, String)> {
    let ask = || -> Result<(u16, String)> {
        let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(2))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let status = answer
            .split_ascii_whitespace()
            .nth(1)
            .and_then(|number| number.parse().ok())
            .with_context(|| format!("no status in the answer of {address}"))?;
        let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        Ok((status, body.to_owned()))
    };
    match namespace {
        Some(inside) => inside.enter(ask)?,
        None => ask(),
    }
}
