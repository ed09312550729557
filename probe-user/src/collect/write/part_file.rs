// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A file that is not complete yet.
//!
//! Its name is `.flows-….tmp`, and its writer holds a lock on it (`flock`, which ends with the process
//! however that ends). So a name without lock is what a dead writer left behind: [`remove_stale`].

use std::fs::{self, File, TryLockError};
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// Files of one name: two exporters of one domain, a restart within the interval. Beyond, something is wrong.
const MAX_SAME_NAME: u32 = 10_000;
/// Attempts to make a temporary file while others start and remove what they take for stale.
const ATTEMPTS: usize = 10;

/// Distinguishes the files of this process.
static SERIAL: AtomicU64 = AtomicU64::new(0);

/// See the module. Dropped before it was published, it is removed.
#[derive(Debug)]
pub(super) struct PartFile {
    file: File,
    temporary: PathBuf,
    /// The directory below which everything is.
    base: PathBuf,
    directory: PathBuf,
    stem: String,
    extension: &'static str,
    published: bool,
}

impl PartFile {
    /// Makes the file, to become `base/partition/stem.extension`.
    pub(super) fn create(
        base: &Path,
        partition: &Path,
        stem: String,
        extension: &'static str,
    ) -> io::Result<Self> {
        let directory = base.join(partition);
        fs::create_dir_all(&directory)?;
        for _ in 0..ATTEMPTS {
            let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
            let name = format!(".{stem}.{extension}.{}-{serial}.tmp", std::process::id());
            let temporary = directory.join(name);
            let file = match File::options().write(true).create_new(true).open(&temporary) {
                Ok(file) => file,
                // Another process of the same number, in another PID namespace.
                Err(error) if error.kind() == ErrorKind::AlreadyExists => continue,
                Err(error) => return Err(error),
            };
            match file.try_lock() {
                // Not removed by another one's start in the moment before it was locked.
                Ok(()) if file.metadata()?.nlink() > 0 => {}
                Ok(()) | Err(TryLockError::WouldBlock) => continue,
                // A file system without locks: nobody will take the file for stale either.
                Err(TryLockError::Error(_)) => {}
            }
            let base = base.to_owned();
            return Ok(Self { file, temporary, base, directory, stem, extension, published: false });
        }
        Err(io::Error::other("other processes keep removing or making the temporary file"))
    }

    pub(super) fn file(&mut self) -> &mut File {
        &mut self.file
    }

    /// Where it is now, for messages.
    pub(super) fn path(&self) -> &Path {
        &self.temporary
    }

    /// Puts everything on the disk and gives the file its own name, or with a number if another file has it:
    /// nothing is ever overwritten.
    pub(super) fn publish(mut self) -> io::Result<PathBuf> {
        self.file.sync_all()?;
        for number in 1..=MAX_SAME_NAME {
            let name = match number {
                1 => format!("{}.{}", self.stem, self.extension),
                _ => format!("{}-{number}.{}", self.stem, self.extension),
            };
            let target = self.directory.join(name);
            match rename_new(&self.temporary, &target) {
                Ok(()) => {
                    self.published = true;
                    // Complete and in its place; only a crash of the host could still take the name away.
                    if let Err(error) = self.sync_directories() {
                        tracing::warn!("syncing the directory of {} failed: {error}", target.display());
                    }
                    return Ok(target);
                }
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::Error::new(ErrorKind::AlreadyExists, "too many files of this name"))
    }

    /// The new names, those of new partitions included.
    fn sync_directories(&self) -> io::Result<()> {
        for directory in self.directory.ancestors() {
            File::open(directory)?.sync_all()?;
            if directory == self.base {
                break;
            }
        }
        Ok(())
    }
}

impl Drop for PartFile {
    fn drop(&mut self) {
        if !self.published {
            // If it cannot be removed, the next start will try.
            fs::remove_file(&self.temporary).ok();
        }
    }
}

/// Renames without replacing. A link fails if the name exists; not every file system has links.
fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    match fs::hard_link(from, to) {
        Ok(()) => fs::remove_file(from),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Err(error),
        Err(_) if to.try_exists()? => Err(ErrorKind::AlreadyExists.into()),
        Err(_) => fs::rename(from, to),
    }
}

/// Removes what writers left behind that ended without closing their files; returns how many, and their
/// octets.
pub(super) fn remove_stale(base: &Path) -> io::Result<(u64, u64)> {
    let mut removed = (0, 0);
    let mut directories = vec![base.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory)? {
            let entry = entry?;
            let name = entry.file_name();
            let Some(name) = name.to_str() else { continue };
            let kind = entry.file_type()?;
            if kind.is_dir() && (name.starts_with("date=") || name.starts_with("hour=")) {
                directories.push(entry.path());
            } else if kind.is_file()
                && name.starts_with(".flows-")
                && name.ends_with(".tmp")
                && let Some(octets) = remove_if_stale(&entry.path())
            {
                removed = (removed.0 + 1, removed.1 + octets);
            }
        }
    }
    Ok(removed)
}

fn remove_if_stale(path: &Path) -> Option<u64> {
    let file = File::open(path).ok()?;
    // Locked: its writer lives.
    file.try_lock().ok()?;
    let octets = file.metadata().ok()?.len();
    fs::remove_file(path).ok()?;
    Some(octets)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn part(base: &Path, partition: &str) -> PartFile {
        PartFile::create(base, Path::new(partition), "flows-1".into(), "json").unwrap()
    }

    fn names(directory: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(directory)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_has_its_name_when_it_is_complete_and_replaces_no_other() {
        let base = tempfile::tempdir().unwrap();
        for expected in ["flows-1.json", "flows-1-2.json", "flows-1-3.json"] {
            let mut part = part(base.path(), "date=2026-11-21/hour=05");
            part.file().write_all(expected.as_bytes()).unwrap();
            let directory = part.path().parent().unwrap().to_owned();
            assert!(names(&directory)[0].starts_with(".flows-1.json."), "{:?}", names(&directory));
            assert_eq!(part.publish().unwrap(), directory.join(expected));
            assert_eq!(fs::read_to_string(directory.join(expected)).unwrap(), expected);
        }
        assert_eq!(names(&base.path().join("date=2026-11-21/hour=05")).len(), 3);
    }

    #[test]
    fn an_abandoned_file_is_removed() {
        let base = tempfile::tempdir().unwrap();
        drop(part(base.path(), ""));
        assert_eq!(names(base.path()), [""; 0]);
    }

    #[test]
    fn only_files_of_dead_writers_are_stale() {
        let base = tempfile::tempdir().unwrap();
        let hour = base.path().join("date=2026-11-21/hour=05");
        let living = part(base.path(), "date=2026-11-21/hour=05");
        fs::write(hour.join(".flows-2.parquet.1-1.tmp"), "12345").unwrap();
        fs::write(base.path().join(".flows-2.json.1-1.tmp"), "12").unwrap();
        for other in [".other.tmp", "flows-3.json", ".flows-4.json"] {
            fs::write(base.path().join(other), "").unwrap();
        }
        assert_eq!(remove_stale(base.path()).unwrap(), (2, 7));
        assert_eq!(remove_stale(base.path()).unwrap(), (0, 0));
        assert!(living.path().exists());
        assert_eq!(names(base.path()), [".flows-4.json", ".other.tmp", "date=2026-11-21", "flows-3.json"]);
    }
}
