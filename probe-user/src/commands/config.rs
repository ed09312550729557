// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `probe config check|show`.

use super::print;
use crate::{
    cli::ConfigAction,
    config::{ConfigError, effective_settings},
    error::ProbeError,
};

/// Checks the configuration, or shows the settings in effect.
///
/// # Errors
/// What is wrong with the file or the environment.
pub fn config(action: &ConfigAction) -> Result<(), ConfigError> {
    match action {
        ConfigAction::Check(file) => {
            let Some(path) = &file.config else {
                return Err(ConfigError::Probe(
                    ProbeError::usage("no configuration file to check").hint("give --config FILE"),
                ));
            };
            effective_settings(Some(path))?;
            Ok(print(format!("{}: good\n", path.display()).as_bytes())?)
        }
        ConfigAction::Show(file) => {
            let settings = effective_settings(file.config.as_deref())?;
            Ok(print(settings.to_string().as_bytes())?)
        }
    }
}
