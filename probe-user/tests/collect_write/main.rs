// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Files of `probe collect --write`: what was offered is in them, read back by programs we did not write.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

mod collector;
mod flow;
mod formats;
mod full_disk;
mod ipfix_files;
mod other_readers;
mod parquet_files;
mod readers;

use std::time::Duration;

const PROBE: &str = env!("CARGO_BIN_EXE_probe");
const SOON: Duration = Duration::from_secs(30);
