// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A file that changes in one step.

use std::{
    ffi::OsString,
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

/// Writes to a file, or to standard output if the path is `-`.
pub(super) fn write(path: &Path, content: &[u8]) -> io::Result<()> {
    if path != Path::new("-") {
        return replace(path, content);
    }
    let mut stdout = io::stdout().lock();
    stdout.write_all(content)?;
    stdout.flush()
}

/// Writes a file beside `path` and renames it, so that a reader sees the old or the new one, never a part.
fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    // Behind a link, the file it points to is replaced, not the link.
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.into());
    // A pipe or a device (/dev/null!) must be written to, not replaced.
    if fs::metadata(&path).is_ok_and(|metadata| !metadata.is_file() && !metadata.is_dir()) {
        return File::options().write(true).open(&path)?.write_all(content);
    }
    let temporary = temporary_name(&path)?;
    let write = || {
        let mut file = File::create(&temporary)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&temporary, &path)
    };
    write().inspect_err(|_| {
        // What went wrong first is what matters to the reader.
        fs::remove_file(&temporary).ok();
    })
}

fn temporary_name(path: &Path) -> io::Result<PathBuf> {
    let name = path.file_name().ok_or_else(|| io::Error::from(io::ErrorKind::IsADirectory))?;
    let mut temporary = OsString::from(".");
    temporary.push(name);
    temporary.push(format!(".{}.tmp", std::process::id()));
    Ok(path.with_file_name(temporary))
}
