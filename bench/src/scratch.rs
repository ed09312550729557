// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What benches that run other programs need: where those are, and a folder for their files.

use std::path::{Path, PathBuf};
use std::{env, fs};

use anyhow::{Context, Result, ensure};

/// A folder of our own that goes away with us.
#[derive(Debug)]
pub struct Folder(PathBuf);

impl Folder {
    /// Makes it, named after the bench.
    ///
    /// # Errors
    /// When the folder for temporary files cannot be written to.
    pub fn new(bench: &str) -> Result<Self> {
        let folder = env::temp_dir().join(format!("flowprobe-{bench}-{}", std::process::id()));
        fs::create_dir(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        Ok(Self(folder))
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The path of a file in it, as text for a command line.
    #[must_use]
    pub fn file(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            eprintln!("cannot remove {}: {error}; remove it by hand", self.0.display());
        }
    }
}

/// A program on the path, or where Debian puts daemons.
#[must_use]
pub fn find_program(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/bin".into()]);
    folders.map(|folder| folder.join(name)).find(|program| program.is_file())
}

/// The probe that was built beside this bench.
///
/// # Errors
/// When it was not.
pub fn probe_program() -> Result<PathBuf> {
    let probe = env::current_exe()?.with_file_name("probe");
    ensure!(
        probe.is_file(),
        "there is no {}: build it with 'cargo build --release -p probe-user'",
        probe.display()
    );
    Ok(probe)
}
