// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Files of JSON lines: one object a flow, as `--format json` shows them.

use std::path::Path;

use super::Unwritten;
use super::appender::Appender;
use super::record_json::write_line;
use super::rotation::Interval;
use super::shelf::Shelf;
use crate::collect::{Received, RecordKind};

/// See the module.
pub(super) struct JsonLines {
    shelf: Shelf,
    file: Option<Appender>,
}

impl JsonLines {
    pub(super) fn new(shelf: Shelf) -> Self {
        Self { shelf, file: None }
    }

    pub(super) fn write(&mut self, record: &Received, now_ns: u64) {
        if record.kind == RecordKind::Options {
            self.shelf.count(Unwritten::Options, 1);
            return;
        }
        if !self.shelf.admits(now_ns, 1) {
            return;
        }
        let file = match self.file.take() {
            Some(file) => Ok(file),
            None => self.shelf.open(Path::new("")).map(Appender::new),
        };
        match file {
            Ok(mut file) => match file.append(1, |buffer| write_line(record, buffer)) {
                Ok(()) => self.file = Some(file),
                Err(error) => self.shelf.abandon(file, now_ns, &error),
            },
            Err(error) => self.shelf.failed(now_ns, 1, &error),
        }
    }

    pub(super) fn turn(&mut self, interval: Interval, now_ns: u64) {
        if let Some(file) = self.file.take() {
            self.shelf.finish(file, now_ns);
        }
        self.shelf.turn(interval);
    }
}
