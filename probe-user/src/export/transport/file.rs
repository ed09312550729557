// SPDX-License-Identifier: Apache-2.0 OR MIT
//! IPFIX into files (RFC 5655): `DIR/flows-20261121T030000Z.ipfix`, a new one at each turn of the grid on the clock.
//!
//! Each file is a session of its own: it begins with the templates, and its sequences begin at 0. The time is that
//! of the records: a replay of yesterday's packets makes yesterday's files.

use std::io;
use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nix::errno::Errno;

use super::{Endpoint, Fate, Sent, Sink, SinkError, Tended, domains::Domains, flow_file::FlowFile};
use crate::export::{encode::Now, ring::Run, stats::ErrorReason, url::CollectorUrl};

/// Time that one file covers, unless `rotate` says so.
const ROTATE: Duration = Duration::from_secs(300);
const MESSAGE_OCTETS: usize = 8192;
/// Files on their way to the disk at once; with one more, its end is waited for.
const FINISHING: usize = 8;

/// See the module.
#[derive(Debug)]
pub struct FileSink {
    directory: PathBuf,
    rotate_ns: u64,
    file: Option<FlowFile>,
    /// Turn of the grid that the file, or the last failure, belongs to.
    turn: u64,
    /// Nothing is written before the next turn.
    failed: Option<Errno>,
    /// A message waits for a file, or for the templates of its domain.
    wanted: bool,
    asked: bool,
    domains: Domains,
    scratch: Vec<u8>,
    /// Files before, on their way to the disk.
    finishing: Vec<JoinHandle<io::Result<()>>>,
    /// Troubles that were not told yet.
    trouble: Option<String>,
}

impl FileSink {
    /// Makes the directory if there is none, and saves what a writer that died left in it.
    ///
    /// # Errors
    /// What the operator has to change.
    pub fn open(collector: &CollectorUrl) -> Result<Self, SinkError> {
        let directory = PathBuf::from(&collector.host);
        let refused = |attempted: String| {
            let url = collector.to_string();
            move |cause: io::Error| SinkError::Directory { url, attempted, cause }
        };
        let name = directory.display();
        std::fs::create_dir_all(&directory).map_err(refused(format!("making {name}")))?;
        // Hidden, and gone at once: is there a right to write?
        let trial = directory.join(format!(".flowprobe-{}", std::process::id()));
        std::fs::write(&trial, b"")
            .and_then(|()| std::fs::remove_file(&trial))
            .map_err(refused(format!("writing into {name}")))?;
        let saved = FlowFile::recover(&directory).map_err(refused(format!("looking for files in {name}")))?;
        if saved > 0 {
            tracing::info!(
                "{collector}: {saved} files of a probe that had no time to finish them are whole now"
            );
        }
        let rotate = collector.rotate.unwrap_or(ROTATE);
        Ok(Self {
            directory,
            rotate_ns: u64::try_from(rotate.as_nanos()).unwrap_or(u64::MAX).max(1),
            file: None,
            turn: 0,
            failed: None,
            wanted: false,
            asked: false,
            domains: Domains::default(),
            scratch: Vec::new(),
            finishing: Vec::new(),
            trouble: None,
        })
    }

    /// Where the files are.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    fn fail(&mut self, attempted: &str, error: &io::Error) {
        self.failed = Some(Errno::from_raw(error.raw_os_error().unwrap_or(Errno::EIO as i32)));
        self.trouble = Some(format!(
            "cannot {attempted} in {}: {error}; records are dropped until the next file is due",
            self.directory.display()
        ));
    }

    /// Ends the file; a thread of its own waits for the disk.
    fn close(&mut self) {
        let Some(file) = self.file.take() else { return };
        self.domains.clear();
        if self.finishing.len() >= FINISHING {
            let oldest = self.finishing.remove(0);
            self.join(oldest);
        }
        let spawned = thread::Builder::new().name("file closer".into()).spawn(move || file.finish());
        match spawned {
            Ok(thread) => self.finishing.push(thread),
            // The file went with the thread: it keeps its temporary name, and the next start saves it.
            Err(error) => self.trouble = Some(format!("no thread to finish a file: {error}")),
        }
    }

    /// Waits for a file to be on the disk.
    fn join(&mut self, finishing: JoinHandle<io::Result<()>>) {
        if let Ok(Err(error)) = finishing.join() {
            self.trouble = Some(format!("a file keeps its temporary name: {error}"));
        }
    }

    /// Waits for all of them.
    fn join_all(&mut self) {
        while let Some(finishing) = self.finishing.pop() {
            self.join(finishing);
        }
    }

    fn introduce(&mut self, preamble: &mut dyn FnMut(&mut Vec<u8>), unix_ns: u64) {
        self.wanted = false;
        if self.file.is_none() {
            match FlowFile::create(&self.directory, unix_ns) {
                Ok(file) => self.file = Some(file),
                Err(error) => return self.fail("make a file", &error),
            }
        }
        let (mut messages, mut new) = (Vec::new(), Vec::new());
        preamble(&mut messages);
        self.domains.introduce(&mut messages, |message| new.extend_from_slice(message));
        let written = self.file.as_mut().map_or(Ok(()), |file| file.append(&new));
        if let Err(error) = written {
            self.fail("write templates", &error);
            self.close();
        }
    }
}

impl Sink for FileSink {
    fn send(&mut self, run: &Run<'_>, _now: Now) -> Sent {
        if let Some(errno) = self.failed {
            return Sent { datagrams: 0, fate: Fate::Drop, error: Some((ErrorReason::File, errno)) };
        }
        let Some(file) = &mut self.file else {
            self.wanted = true;
            return Sent::BUSY;
        };
        self.scratch.clear();
        let mut taken = 0;
        for message in run.iter() {
            if !self.domains.knows(message) {
                if !self.asked || self.wanted {
                    (self.asked, self.wanted) = (true, true);
                    break;
                }
                // The stream has no templates for it.
                self.domains.accept(message);
            }
            self.asked = false;
            let start = self.scratch.len();
            self.scratch.extend_from_slice(message);
            self.domains.renumber(&mut self.scratch[start..]);
            taken += 1;
        }
        if let Err(error) = file.append(&self.scratch) {
            let errno = Errno::from_raw(error.raw_os_error().unwrap_or(Errno::EIO as i32));
            self.fail("write", &error);
            self.close();
            return Sent { datagrams: 0, fate: Fate::Drop, error: Some((ErrorReason::File, errno)) };
        }
        let fate = if taken == run.datagrams { Fate::Done } else { Fate::Busy };
        Sent { datagrams: taken, fate, error: None }
    }

    fn tend(&mut self, preamble: &mut dyn FnMut(&mut Vec<u8>), now: Now) -> Tended {
        let mut tended = Tended::default();
        let turn = now.unix_ns / self.rotate_ns;
        // A clock that is set back a little does not make a new file. One that was far ahead and is right again
        // does: its file would grow until that time comes.
        if turn > self.turn || turn + 1 < self.turn {
            self.turn = turn;
            self.failed = None;
            self.close();
        }
        if self.wanted && self.failed.is_none() {
            let is_new = self.file.is_none();
            self.introduce(preamble, now.unix_ns);
            // The options, which no preamble holds.
            tended.refresh = is_new && self.file.is_some();
        }
        if let Some(place) = self.finishing.iter().position(JoinHandle::is_finished) {
            let finished = self.finishing.remove(place);
            self.join(finished);
        }
        if let Some(what) = self.trouble.take() {
            tended.trouble(ErrorReason::File, what);
        }
        tended
    }

    fn is_up(&self) -> bool {
        self.failed.is_none()
    }

    fn message_octets(&self) -> usize {
        MESSAGE_OCTETS
    }

    fn endpoint(&self) -> Option<Endpoint> {
        None
    }

    fn connects(&self) -> u64 {
        0
    }

    fn finish(&mut self, _now: Now) -> bool {
        self.close();
        self.join_all();
        // What went wrong at the very end is told by the next call of `tend`.
        self.trouble.is_none()
    }
}

impl Drop for FileSink {
    fn drop(&mut self) {
        self.close();
        self.join_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::Timestamp;

    const MINUTE_NS: u64 = 60_000_000_000;

    #[test]
    fn a_clock_that_was_far_ahead_does_not_make_one_file_of_all_that_follows() {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("ipfix+file://{}?rotate=1m", folder.path().display());
        let mut sink = FileSink::open(&url.parse().unwrap()).unwrap();
        let message = [0, 10, 0, 20, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 1, 0, 0, 4];
        let run = Run { octets: &message, segment: message.len(), datagrams: 1 };
        // Ten years ahead; right again, and a second back over the minute's turn; a minute later.
        for minute in [5_000_000, 1000, 999, 1001] {
            let now = Now { unix_ns: minute * MINUTE_NS, at: Timestamp::default() };
            for _ in 0..2 {
                sink.tend(&mut |out| out.extend(message), now);
                sink.send(&run, now);
            }
        }
        assert!(sink.finish(Now::default()));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 3);
    }
}
