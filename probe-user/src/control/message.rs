// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What probe and client say to each other, one JSON object a line each.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{ErrorKind, ProbeError};

/// Version of the frame around commands and answers.
pub const PROTOCOL: u32 = 1;

/// The probe's first line.
#[derive(Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
pub struct Greeting {
    /// Version of the probe.
    pub probe: String,
    /// [`PROTOCOL`] of the probe.
    pub protocol: u32,
    /// Its process.
    pub pid: u32,
    /// What it can be asked.
    pub commands: Vec<String>,
}

impl Greeting {
    /// Of this process.
    #[must_use]
    pub fn of_this_probe() -> Self {
        Self {
            probe: env!("CARGO_PKG_VERSION").into(),
            protocol: PROTOCOL,
            pid: std::process::id(),
            commands: Command::NAMES.map(String::from).into(),
        }
    }
}

/// What the probe is asked.
#[derive(Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
#[serde(tag = "command", rename_all = "snake_case", deny_unknown_fields)]
pub enum Command {
    /// The ledger: [`Stats`].
    Stats,
    /// Meter one more interface: [`InterfaceInfo`].
    IfaceAdd {
        /// Its name.
        name: String,
    },
    /// Meter an interface no longer: `null`.
    IfaceRemove {
        /// Its name.
        name: String,
    },
    /// The metered interfaces: a list of [`InterfaceInfo`].
    IfaceList,
    /// Export what is left and end: `null` at once. The connection is closed when the process has ended.
    Shutdown,
}

impl Command {
    /// All names, as requests and the greeting have them.
    pub const NAMES: [&'static str; 5] = ["stats", "iface_add", "iface_remove", "iface_list", "shutdown"];

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Stats => "stats",
            Self::IfaceAdd { .. } => "iface_add",
            Self::IfaceRemove { .. } => "iface_remove",
            Self::IfaceList => "iface_list",
            Self::Shutdown => "shutdown",
        }
    }
}

/// What the probe answers.
#[derive(Serialize, Deserialize, Clone, PartialEq, Debug)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// It was done; the command says what this is.
    Result(Value),
    /// It was not.
    Error(Refusal),
}

impl From<Result<Value, Refusal>> for Answer {
    fn from(result: Result<Value, Refusal>) -> Self {
        match result {
            Ok(value) => Self::Result(value),
            Err(refusal) => Self::Error(refusal),
        }
    }
}

/// Why something was not done: a [`ProbeError`] as it travels.
#[derive(Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
pub struct Refusal {
    /// Whose fault it is: `run`, `usage` or `host`.
    pub kind: String,
    /// What was attempted, and why it failed.
    pub message: String,
    /// What to do next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl From<&ProbeError> for Refusal {
    fn from(error: &ProbeError) -> Self {
        let kind = match error.kind() {
            ErrorKind::Run => "run",
            ErrorKind::Usage => "usage",
            ErrorKind::Host => "host",
        };
        Self { kind: kind.into(), message: error.explanation(), hint: error.next_step().map(Into::into) }
    }
}

impl From<ProbeError> for Refusal {
    fn from(error: ProbeError) -> Self {
        Self::from(&error)
    }
}

impl From<Refusal> for ProbeError {
    fn from(refusal: Refusal) -> Self {
        let Refusal { kind, message, hint } = refusal;
        let error = match kind.as_str() {
            "usage" => Self::usage(message),
            "host" => Self::host(message),
            // A kind that only a newer probe knows has no exit status of its own.
            _ => Self::run(message),
        };
        match hint {
            Some(hint) => error.hint(hint),
            None => error,
        }
    }
}

/// Answer to [`Command::Stats`].
#[derive(Serialize, Deserialize, Clone, PartialEq, Debug)]
pub struct Stats {
    /// The ledger as `--ledger` writes it.
    pub ledger: Value,
    /// The ledger as the probe prints it at its end; made by the probe, so that a client of another version shows
    /// what that probe counts.
    pub text: String,
}

/// Whether a metered interface is there.
#[derive(Serialize, Deserialize, Clone, Copy, PartialEq, Eq, Debug)]
#[serde(rename_all = "snake_case")]
pub enum InterfaceState {
    /// There and up.
    Up,
    /// There and down: no packets.
    Down,
    /// Not there; metering goes on when it comes back.
    Gone,
}

impl InterfaceState {
    /// As a word.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Down => "down",
            Self::Gone => "gone",
        }
    }
}

/// One metered interface.
#[derive(Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
pub struct InterfaceInfo {
    /// Its name.
    pub name: String,
    /// Its ifIndex; the one it had last if it is gone.
    pub index: u32,
    /// Whether it is there.
    pub state: InterfaceState,
    /// `tap` or `host`.
    pub role: String,
    /// `xdp`, `af_xdp` or `af_packet`; none as long as nothing takes its packets.
    #[serde(default)]
    pub engine: Option<String>,
    /// `native`, `generic` or `tc`, where the engine has modes.
    #[serde(default)]
    pub mode: Option<String>,
    /// The watched bridge it is a port of.
    #[serde(default)]
    pub bridge: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_read_as_documented() {
        for (text, command) in [
            (r#"{"command":"stats"}"#, Command::Stats),
            (r#"{"command":"iface_add","name":"eth2"}"#, Command::IfaceAdd { name: "eth2".into() }),
            (r#"{"command":"iface_remove","name":"eth2"}"#, Command::IfaceRemove { name: "eth2".into() }),
            (r#"{"command":"iface_list"}"#, Command::IfaceList),
            (r#"{"command":"shutdown"}"#, Command::Shutdown),
        ] {
            assert_eq!(serde_json::to_string(&command).unwrap(), text);
            assert_eq!(serde_json::from_str::<Command>(text).unwrap(), command);
            assert!(
                text.contains(&format!("\"{}\"", command.name())) && Command::NAMES.contains(&command.name())
            );
        }
        for text in
            [r#"{"command":"iface_add"}"#, r#"{"command":"iface_add","name":"a","index":1}"#, "[]", "{}"]
        {
            assert!(serde_json::from_str::<Command>(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_refusal_arrives_as_the_error_it_was() {
        let error = ProbeError::host("cannot attach to eth1")
            .because(std::io::Error::from_raw_os_error(1))
            .hint("run as root");
        let line = serde_json::to_string(&Answer::Error(Refusal::from(&error))).unwrap();
        let Ok(Answer::Error(refusal)) = serde_json::from_str(&line) else { panic!("{line}") };
        let arrived = ProbeError::from(refusal);
        assert_eq!((arrived.report(), arrived.exit_status()), (error.report(), 3));
    }
}
