// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the benches share.

pub mod cpu_time;
pub mod live;
pub mod machine;
pub mod random;
pub mod report;
pub mod scratch;
pub mod stopwatch;
