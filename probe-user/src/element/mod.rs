// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Information elements: what a field of NetFlow v9 and IPFIX is called, and how its octets are read.

mod value;

pub use value::{ElementId, Value};
