// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Asking a running probe: a Unix stream socket, one JSON object a line in both directions.
//!
//! The probe speaks first, then each line of the client gets a line:
//!
//! ```text
//! ← {"probe":"0.1.0","protocol":1,"pid":4711,"commands":["stats","iface_add",…]}
//! → {"command":"iface_add","name":"eth2"}
//! ← {"result":{"name":"eth2","index":5,…}}      or {"error":{"kind":"host","message":"…","hint":"…"}}
//! ```
//!
//! - `message`: what is said
//! - `handler`: who answers in the probe
//! - `request`: commands for the probe's main thread
//! - `socket_file`: the socket's path, also after a probe that died
//! - `server`, `connection`: one thread, few connections, short requests
//! - `client`: the other end
//!
//! Whoever may write to the socket may change the probe: its mode is 0660, its owner the probe's user and group.
//!
//! A new command needs a name in [`Command::NAMES`], a method of [`ControlHandler`] and a line in `connection`; the
//! greeting then tells clients of it. What an older probe must not take for something else gets a new name, and only
//! a change of the frame around commands a new [`PROTOCOL`].

mod client;
mod connection;
mod handler;
mod message;
mod request;
mod server;
mod socket_file;

pub use client::ControlClient;
pub use handler::{ControlHandler, Desk};
pub use message::{Answer, Command, Greeting, InterfaceInfo, InterfaceState, PROTOCOL, Refusal, Stats};
pub use request::{Action, Asker, ControlRequest, Requests, requests};
pub use server::{ControlServer, RunningControl};
