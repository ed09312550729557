// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Information elements: what a field of NetFlow v9 and IPFIX is called, and how its octets are read.

mod data_type;
mod registry;
mod value;

pub use data_type::{DataType, decode};
pub use registry::{Element, lookup, name};
pub use value::{ElementId, Value};
