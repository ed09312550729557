// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The lab: what tests, benches and the demonstration need around the probe, on one machine.
//!
//! - [`Namespace`], [`Link`]: network namespaces of our own, and cables between them
//! - [`Generator`]: millions of packets a second whose flows are known exactly
//! - [`packets`], [`conversations`]: single frames of any kind, and a socket to send them
//! - [`V5Collector`]: what a collector understood, decoded by a crate that is not ours
//! - [`Process`], [`Probe`]: a program that is started, watched, signalled and ended, and the probe itself
//! - [`pcap_file`], [`vectors`]: capture files to write, and the named packets of `common/vectors`
//!
//! Everything is taken down when it is dropped, also when a test panics.
#![warn(missing_docs)]

pub mod clock;
pub mod conversations;
mod cpus;
mod flows;
mod generator;
mod link;
mod namespace;
pub mod packet_socket;
pub mod packets;
pub mod pcap_file;
mod privilege;
mod probe;
mod process;
mod shared_output;
mod tcp_counters;
mod v5_collector;
pub mod vectors;

pub use flows::{FlowId, Flows, Sums, difference};
pub use generator::{Generator, Network, Plan, Traffic, send_in_parallel};
pub use link::{Link, LinkEnd};
pub use namespace::Namespace;
pub use packets::flows_of;
pub use privilege::require_root;
pub use probe::{Ended, LedgerView, Probe};
pub use process::{Process, http_get};
pub use shared_output::SharedOutput;
pub use tcp_counters::TcpCounters;
pub use v5_collector::{Datagram, Export, V5Collector, V5Record};
