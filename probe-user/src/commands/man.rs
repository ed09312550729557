// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `probe man DIR`.

use std::{fs, path::Path};

use clap::CommandFactory;

use super::print;
use crate::{cli::Cli, error::ProbeError};

/// Writes a page for the program and one for each subcommand, and prints their paths.
///
/// # Errors
/// If the directory or a page cannot be written.
pub fn man(directory: &Path) -> Result<(), ProbeError> {
    let failed = |error| {
        ProbeError::run(format!("cannot write manual pages to {}", directory.display()))
            .because(error)
            .hint("name a directory that you may write to")
    };
    fs::create_dir_all(directory).map_err(failed)?;
    clap_mangen::generate_to(Cli::command(), directory).map_err(failed)?;
    print(format!("manual pages written to {}\n", directory.display()).as_bytes())
}
