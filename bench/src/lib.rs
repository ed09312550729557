// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the benches share.

pub mod machine;
pub mod random;
pub mod report;
pub mod stopwatch;
