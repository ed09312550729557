// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The writer of all formats.

use std::fmt;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::WriteTotals;
use super::closer::{Closer, SharedTotals};
use super::ipfix_lanes::IpfixLanes;
use super::json_lines::JsonLines;
use super::parquet_hours::ParquetHours;
use super::part_file::{PartFile, remove_stale};
use super::rotation::Interval;
use super::shelf::Shelf;
use crate::collect::Received;
use crate::collect::decode::Source;

/// What kind of files.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WriteFormat {
    /// One JSON object a line and flow.
    Json,
    /// The IPFIX messages as they came (RFC 5655).
    Ipfix,
    /// Columns, partitioned by day and hour.
    Parquet,
}

impl WriteFormat {
    /// All formats.
    pub const ALL: [Self; 3] = [Self::Json, Self::Ipfix, Self::Parquet];

    /// What the names of the files end with.
    #[must_use]
    pub fn extension(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Ipfix => "ipfix",
            Self::Parquet => "parquet",
        }
    }
}

impl fmt::Display for WriteFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.extension())
    }
}

/// What to write, where.
#[derive(Clone, Debug)]
pub struct WriteOptions {
    /// Directory; made if it does not exist.
    pub directory: PathBuf,
    /// How long a file is written to, on the grid of the wall clock. Whole seconds.
    pub rotate: Duration,
    /// The formats.
    pub formats: Vec<WriteFormat>,
}

/// Why nothing can be written from the start.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The directory cannot be made, or no file in it.
    #[error(
        "cannot write files in {directory}: {cause}; give a directory that this user may write in, on a disk with room"
    )]
    Directory {
        /// The directory.
        directory: String,
        /// The kernel's answer.
        cause: io::Error,
    },
    /// No thread.
    #[error("cannot start the thread that closes files: {0}; see the limit of processes (ulimit -u)")]
    Thread(io::Error),
}

/// Writes received records and messages into files; see the module above. Failures while running are
/// counted and logged, never returned: a collector goes on, and a disk may have room again.
pub struct RecordWriter {
    options: WriteOptions,
    interval: Interval,
    json: Option<JsonLines>,
    ipfix: Option<IpfixLanes>,
    parquet: Option<ParquetHours>,
    closer: Arc<Closer>,
    totals: SharedTotals,
}

impl RecordWriter {
    /// Makes the directory, sees that it can be written in, and removes what a dead writer left there.
    ///
    /// # Errors
    /// When there is no such directory, or nothing can be written in it.
    pub fn open(options: WriteOptions, now_ns: u64) -> Result<Self, WriteError> {
        let attempt = || {
            fs::create_dir_all(&options.directory)?;
            drop(PartFile::create(&options.directory, "".as_ref(), "flows-check".into(), "json")?);
            remove_stale(&options.directory)
        };
        let (files, octets) = attempt().map_err(|cause| WriteError::Directory {
            directory: options.directory.display().to_string(),
            cause,
        })?;
        if files > 0 {
            tracing::warn!(
                "removed {files} incomplete files ({octets} octets) from {}: a writer was killed before it \
                 could close them",
                options.directory.display()
            );
        }
        let totals = SharedTotals::default();
        let closer = Arc::new(Closer::start(totals.clone()).map_err(WriteError::Thread)?);
        let interval = Interval::around(now_ns, options.rotate);
        let shelf = |format| {
            options.formats.contains(&format).then(|| {
                let directory = options.directory.clone();
                Shelf::new(format, directory, interval, Arc::clone(&closer), totals.clone())
            })
        };
        Ok(Self {
            json: shelf(WriteFormat::Json).map(JsonLines::new),
            ipfix: shelf(WriteFormat::Ipfix).map(IpfixLanes::new),
            parquet: shelf(WriteFormat::Parquet).map(ParquetHours::new),
            interval,
            closer,
            totals,
            options,
        })
    }

    /// Takes a message as it came, of any version. `now_ns` is Unix time.
    pub fn message(&mut self, from: Source, octets: &[u8], now_ns: u64) {
        self.step(now_ns);
        if let Some(ipfix) = &mut self.ipfix {
            ipfix.write(from, octets, now_ns);
        }
    }

    /// Forgets a connection or file that has ended.
    pub fn forget(&mut self, stream: u64) {
        if let Some(ipfix) = &mut self.ipfix {
            ipfix.forget(stream);
        }
    }

    /// Takes a decoded record. `now_ns` is Unix time.
    pub fn record(&mut self, record: &Received, now_ns: u64) {
        self.step(now_ns);
        if let Some(json) = &mut self.json {
            json.write(record, now_ns);
        }
        if let Some(parquet) = &mut self.parquet {
            parquet.write(record, now_ns);
        }
    }

    /// Ends the files of an interval that is over. To be called now and then also when nothing comes.
    pub fn step(&mut self, now_ns: u64) {
        if !self.interval.contains(now_ns) {
            self.interval = Interval::around(now_ns, self.options.rotate);
            self.turn(now_ns);
        }
    }

    fn turn(&mut self, now_ns: u64) {
        let Self { interval, json, ipfix, parquet, .. } = self;
        if let Some(json) = json {
            json.turn(*interval, now_ns);
        }
        if let Some(ipfix) = ipfix {
            ipfix.turn(*interval, now_ns);
        }
        if let Some(parquet) = parquet {
            parquet.turn(*interval, now_ns);
        }
    }

    /// What was written so far. What is in open files is not counted yet.
    #[must_use]
    pub fn totals(&self) -> WriteTotals {
        *self.totals.lock()
    }

    /// Ends all files, and returns when they are on the disk.
    #[must_use]
    pub fn finish(mut self, now_ns: u64) -> WriteTotals {
        self.turn(now_ns);
        let Self { closer, totals, json, ipfix, parquet, .. } = self;
        // Each has a hand on the thread; it ends, and is waited for, when the last one lets go.
        drop((json, ipfix, parquet));
        drop(closer);
        *totals.lock()
    }
}
