// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The user side of the probe, as a library so that tests and benches can call each step.
//!
//! In the order of a packet's path:
//!
//! - [`net`]: what the host says of its interfaces
//! - [`slots`]: the memory in which packets are counted
//! - [`kernel`]: counting them in the kernel
//! - [`afxdp`], [`afpacket`]: packets from sockets
//! - [`capture`]: packets from a file
//! - [`fragment`]: later fragments get the ports of their first
//! - [`meter`]: counting packets in user space
//! - [`flow`]: slots merged into flows, flows expired to records
//! - [`overload`]: what is done when more comes than can be taken
//! - [`harvest`]: the step that drains, merges, expires and enqueues
//! - [`queue`]: records on their way to the exporter
//! - [`element`]: what fields are called and how they are read
//! - [`export`]: records encoded and sent
//! - [`collect`]: datagrams received
//!
//! Around it: [`cli`] and [`config`], [`telemetry`], [`control`], [`runtime`], [`commands`], [`error`], [`duration`], [`throttle`].
pub mod afpacket;
pub mod afxdp;
pub mod bell;
pub mod capture;
pub mod cli;
pub mod collect;
pub mod commands;
pub mod config;
pub mod control;
pub mod duration;
pub mod element;
pub mod error;
pub mod export;
pub mod flow;
pub mod fragment;
pub mod harvest;
pub mod kernel;
pub mod meter;
pub mod net;
pub mod overload;
mod poll_server;
mod prefetch;
pub mod queue;
pub mod runtime;
pub mod slots;
pub mod telemetry;
pub mod throttle;
