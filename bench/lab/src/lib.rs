// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The lab: what tests, benches and the demonstration need around the probe.
pub mod pcap_file;
pub mod vectors;
