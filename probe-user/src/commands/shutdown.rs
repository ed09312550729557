// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `probe shutdown`.

use std::time::Duration;

use super::print;
use crate::{
    cli::ShutdownOptions,
    control::{Command, ControlClient},
    error::ProbeError,
};

/// Twice what the probe promises.
const LIMIT: Duration = Duration::from_secs(10);

/// Ends a running probe and waits until it has ended.
///
/// # Errors
/// When no probe answers, or it does not end.
pub fn shutdown(options: &ShutdownOptions) -> Result<(), ProbeError> {
    let mut client = ControlClient::connect(&options.socket.socket)?;
    let pid = client.greeting().pid;
    client.ask::<()>(&Command::Shutdown)?;
    client.wait_for_end(LIMIT)?;
    print(format!("the probe (process {pid}) has ended\n").as_bytes())
}
