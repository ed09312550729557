// SPDX-License-Identifier: Apache-2.0 OR MIT
//! One file of messages, one after the other (RFC 5655 section 8.1): under a temporary name while it grows, under its
//! own when it is whole and on the disk.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};

use crate::export::text::file_stem;

const SUFFIX: &str = ".ipfix";
const GROWING: &str = ".ipfix.tmp";
const PREFIX: &str = "flows-";
/// Files that begin in one second.
const MOST_ALIKE: u32 = 1000;
const HEADER: usize = 16;

/// See the module. The lock tells a file that grows from one whose writer has died.
#[derive(Debug)]
pub(super) struct FlowFile {
    file: Flock<File>,
    growing: PathBuf,
    whole: PathBuf,
    /// Octets of whole messages.
    octets: u64,
}

impl FlowFile {
    /// A new file in `directory`, named after the time.
    ///
    /// # Errors
    /// The kernel's.
    pub(super) fn create(directory: &Path, unix_ns: u64) -> io::Result<Self> {
        let stem = file_stem(unix_ns);
        for number in 0..MOST_ALIKE {
            let name = if number == 0 { stem.clone() } else { format!("{stem}-{number}") };
            let whole = directory.join(format!("{name}{SUFFIX}"));
            let growing = directory.join(format!("{name}{GROWING}"));
            if whole.exists() {
                continue;
            }
            let opened = OpenOptions::new().write(true).create_new(true).open(&growing);
            let file = match opened {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                opened => opened?,
            };
            let file = Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| errno)?;
            return Ok(Self { file, growing, whole, octets: 0 });
        }
        Err(io::Error::new(io::ErrorKind::AlreadyExists, format!("{MOST_ALIKE} files are called {stem}")))
    }

    /// Appends messages; after an error the file ends with the last whole one of before.
    ///
    /// # Errors
    /// The kernel's: no room, above all.
    pub(super) fn append(&mut self, messages: &[u8]) -> io::Result<()> {
        if let Err(error) = self.file.write_all(messages) {
            self.file.set_len(self.octets).ok();
            self.file.seek(SeekFrom::Start(self.octets)).ok();
            return Err(error);
        }
        self.octets += messages.len() as u64;
        Ok(())
    }

    /// Makes it durable, and gives it its own name. May take long. A file without a message, because the disk was
    /// full from its start, is taken away.
    ///
    /// # Errors
    /// The kernel's, with what was attempted; the file keeps its temporary name then.
    pub(super) fn finish(self) -> io::Result<()> {
        let said = |attempted: &str, path: &Path, error: io::Error| {
            io::Error::new(error.kind(), format!("{attempted} {}: {error}", path.display()))
        };
        if self.octets == 0 {
            return fs::remove_file(&self.growing).map_err(|error| said("removing", &self.growing, error));
        }
        self.file.sync_all().map_err(|error| said("writing", &self.growing, error))?;
        fs::rename(&self.growing, &self.whole).map_err(|error| said("renaming", &self.growing, error))?;
        if let Some(directory) = self.whole.parent() {
            // So that the new name survives a power cut.
            File::open(directory)
                .and_then(|directory| directory.sync_all())
                .map_err(|error| said("syncing", directory, error))?;
        }
        Ok(())
    }

    /// Finishes what writers that died left in `directory`, up to the last whole message of each; returns how many
    /// files were saved. Files that grow are left alone, and so are those that cannot be saved: the log names them.
    ///
    /// # Errors
    /// The kernel's, if the directory cannot be read.
    pub(super) fn recover(directory: &Path) -> io::Result<usize> {
        let mut saved = 0;
        for entry in fs::read_dir(directory)? {
            let growing = entry?.path();
            let name = growing.file_name().and_then(|name| name.to_str()).unwrap_or("");
            let Some(stem) = name.strip_suffix(GROWING).filter(|stem| stem.starts_with(PREFIX)) else {
                continue;
            };
            let whole = directory.join(format!("{stem}{SUFFIX}"));
            match Self::save(&growing, whole) {
                Ok(is_saved) => saved += usize::from(is_saved),
                // Its writer lives, and has just finished it.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => tracing::warn!(
                    "{} was left unfinished and cannot be saved: {error}; it stays as it is: check whose it is",
                    growing.display()
                ),
            }
        }
        Ok(saved)
    }

    /// Finishes one file; returns whether there was something to save, and nobody who writes it.
    fn save(growing: &Path, whole: PathBuf) -> io::Result<bool> {
        let file = OpenOptions::new().read(true).write(true).open(growing)?;
        let Ok(mut file) = Flock::lock(file, FlockArg::LockExclusiveNonblock) else { return Ok(false) };
        let octets = whole_messages(&mut file)?;
        if octets == 0 || whole.exists() {
            fs::remove_file(growing)?;
            return Ok(false);
        }
        file.set_len(octets)?;
        Self { file, growing: growing.to_owned(), whole, octets }.finish()?;
        Ok(true)
    }
}

/// Octets up to the end of the last whole message.
fn whole_messages(file: &mut File) -> io::Result<u64> {
    let length = file.metadata()?.len();
    let mut reader = io::BufReader::new(file);
    let (mut end, mut header) = (0, [0; HEADER]);
    loop {
        match reader.read_exact(&mut header) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(end),
            read => read?,
        }
        let message = u64::from(u16::from_be_bytes([header[2], header[3]]));
        let is_message = header[..2] == [0, 10] && message >= HEADER as u64;
        if !is_message || end + message > length {
            return Ok(end);
        }
        end += message;
        reader.seek_relative(i64::try_from(message).unwrap_or(0) - 16)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-11-21 03:05:09.5 UTC.
    const NOW: u64 = 1_795_230_309_500_000_000;
    const MESSAGE: [u8; 20] = [0, 10, 0, 20, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 1, 0, 0, 4];

    fn names(directory: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(directory)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_has_its_name_when_it_is_whole_and_two_never_have_one() {
        let folder = tempfile::tempdir().unwrap();
        let mut one = FlowFile::create(folder.path(), NOW).unwrap();
        let mut two = FlowFile::create(folder.path(), NOW).unwrap();
        assert_eq!(
            names(folder.path()),
            ["flows-20261121T030509Z-1.ipfix.tmp", "flows-20261121T030509Z.ipfix.tmp"]
        );
        one.append(&MESSAGE).unwrap();
        two.append(&MESSAGE).unwrap();
        one.finish().unwrap();
        two.finish().unwrap();
        assert_eq!(names(folder.path()), ["flows-20261121T030509Z-1.ipfix", "flows-20261121T030509Z.ipfix"]);
    }

    #[test]
    fn a_file_without_a_message_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        FlowFile::create(folder.path(), NOW).unwrap().finish().unwrap();
        assert!(names(folder.path()).is_empty());
    }

    #[test]
    fn what_cannot_be_saved_is_left_and_costs_no_other() {
        let folder = tempfile::tempdir().unwrap();
        // A directory cannot be opened for writing, whoever asks.
        fs::create_dir(folder.path().join("flows-1.ipfix.tmp")).unwrap();
        fs::write(folder.path().join("flows-2.ipfix.tmp"), MESSAGE).unwrap();
        assert_eq!(FlowFile::recover(folder.path()).unwrap(), 1);
        assert_eq!(names(folder.path()), ["flows-1.ipfix.tmp", "flows-2.ipfix"]);
    }

    #[test]
    fn what_a_dead_writer_left_is_saved_up_to_the_last_whole_message() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, octets: &[u8]| fs::write(folder.path().join(name), octets).unwrap();
        write("flows-1.ipfix.tmp", &[&MESSAGE[..], &MESSAGE, &MESSAGE[..7]].concat());
        write("flows-2.ipfix.tmp", &[&MESSAGE[..], &MESSAGE[..19]].concat());
        write("flows-3.ipfix.tmp", &MESSAGE[..3]);
        write("flows-4.ipfix.tmp", &[&MESSAGE[..], &[0; 40]].concat());
        write("else.tmp", b"not ours");
        let growing = FlowFile::create(folder.path(), NOW).unwrap();
        assert_eq!(FlowFile::recover(folder.path()).unwrap(), 3);
        assert_eq!(
            names(folder.path()),
            [
                "else.tmp",
                "flows-1.ipfix",
                "flows-2.ipfix",
                "flows-20261121T030509Z.ipfix.tmp",
                "flows-4.ipfix"
            ]
        );
        let length = |name: &str| fs::metadata(folder.path().join(name)).unwrap().len();
        assert_eq!([length("flows-1.ipfix"), length("flows-2.ipfix"), length("flows-4.ipfix")], [40, 20, 20]);
        drop(growing);
    }
}
