// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The path of the control socket: made, taken over from a probe that died, removed at the end.

use std::{
    fs::{self, DirBuilder, File, Permissions, TryLockError},
    io,
    os::unix::{
        fs::{DirBuilderExt, FileTypeExt, PermissionsExt},
        net::UnixListener,
    },
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use socket2::{Domain, SockAddr, Socket, Type};

use crate::error::ProbeError;

/// Clients that wait to be accepted.
const BACKLOG: i32 = 16;

/// Owner and group may ask and change the probe; nobody else may connect (unix(7)).
const MODE: u32 = 0o660;

/// How often, and after which pauses, the directory's lock is tried for.
const TRIES: u32 = 20;
const PAUSE: Duration = Duration::from_millis(50);

/// The file of a listening socket. To be dropped after the listener: it is removed then, unless another program
/// listens there by now.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
}

impl SocketFile {
    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Listens at `path`. Its last directory is made if it is missing; the socket of a probe that died is replaced.
    ///
    /// # Errors
    /// When a live program listens there, something else is there, or the directory does not let us.
    pub(super) fn make(path: &Path) -> Result<(UnixListener, Self), ProbeError> {
        let failed = |error: io::Error| {
            let hint = match error.kind() {
                io::ErrorKind::NotFound => "make its directory, or choose another path with --socket",
                io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                    "choose a path where the probe may write with --socket, or --socket none"
                }
                _ => "choose another path with --socket, or --socket none",
            };
            ProbeError::host(format!("cannot make the control socket {}", path.display()))
                .because(error)
                .hint(hint)
        };
        let directory = directory_of(path);
        make_directory(directory).map_err(failed)?;
        // Two probes that start at once and find the same dead socket must not remove each other's.
        let lock = lock(directory).map_err(failed)?;
        clear(path, failed)?;
        let listening = listen(path).map_err(failed);
        drop(lock);
        listening
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // What cannot be removed is replaced by the next probe.
        let Ok(_lock) = lock(directory_of(&self.path)) else { return };
        if is_dead(&self.path) {
            fs::remove_file(&self.path).ok();
        }
    }
}

fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

fn make_directory(directory: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o755).create(directory) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

/// The directory, locked until it is dropped; `None` where it may not be read, and so not be locked.
fn lock(directory: &Path) -> io::Result<Option<File>> {
    let Ok(directory) = File::open(directory) else { return Ok(None) };
    for _ in 0..TRIES {
        match directory.try_lock() {
            Ok(()) => return Ok(Some(directory)),
            Err(TryLockError::WouldBlock) => thread::sleep(PAUSE),
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
    Err(io::Error::new(io::ErrorKind::ResourceBusy, "another program keeps its directory locked (flock)"))
}

/// Removes what a dead probe left at `path`.
fn clear(path: &Path, failed: impl Fn(io::Error) -> ProbeError) -> Result<(), ProbeError> {
    let found = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        found => found.map_err(&failed)?,
    };
    if !found.file_type().is_socket() {
        return Err(ProbeError::host(format!("cannot make the control socket {}", path.display()))
            .because("something else is there that is no socket")
            .hint("remove it, or choose another path with --socket"));
    }
    if is_dead(path) {
        return fs::remove_file(path).map_err(failed);
    }
    match connect(path) {
        // It went while we looked.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        // A full backlog is that of a program that lives.
        Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(failed(error)),
        _ => Err(ProbeError::host(format!("cannot make the control socket {}", path.display()))
            .because("a running program listens there, probably another probe")
            .hint(
                "give each probe a socket of its own with --socket, or --socket none; `probe shutdown` ends the one \
                 that listens there",
            )),
    }
}

fn connect(path: &Path) -> io::Result<()> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None)?;
    socket.connect(&SockAddr::unix(path)?)
}

fn listen(path: &Path) -> io::Result<(UnixListener, SocketFile)> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None)?;
    socket.bind(&SockAddr::unix(path)?)?;
    let file = SocketFile { path: path.into() };
    // Before it listens nobody can connect, so the mode that the umask gave it never counts.
    fs::set_permissions(path, Permissions::from_mode(MODE))?;
    socket.listen(BACKLOG)?;
    Ok((socket.into(), file))
}

/// Whether a socket is there that nobody has open: unix(7), ECONNREFUSED.
fn is_dead(path: &Path) -> bool {
    connect(path).is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn a_socket_is_made_with_its_directory_and_goes_with_the_probe() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("flowprobe/control.sock");
        let (listener, file) = SocketFile::make(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, MODE);
        UnixStream::connect(&path).unwrap();
        drop(listener);
        drop(file);
        assert!(!path.exists());
    }

    #[test]
    fn a_live_socket_is_refused_and_a_dead_one_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("control.sock");
        let (listener, file) = SocketFile::make(&path).unwrap();
        let refused = SocketFile::make(&path).unwrap_err();
        assert_eq!(refused.exit_status(), 3);
        assert!(refused.report().contains("a running program listens there"), "{}", refused.report());
        // As after SIGKILL: nobody listens, the file is still there.
        drop(listener);
        let (_listener, _new) = SocketFile::make(&path).unwrap();
        // The old file's owner must not remove the new one.
        drop(file);
        UnixStream::connect(&path).unwrap();
    }

    #[test]
    fn what_is_no_socket_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("control.sock");
        fs::write(&path, "precious").unwrap();
        let refused = SocketFile::make(&path).unwrap_err().report();
        assert!(refused.contains("something else is there that is no socket"), "{refused}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
        let refused = SocketFile::make(&directory.path().join("a/b/control.sock")).unwrap_err().report();
        assert!(refused.contains("make its directory"), "{refused}");
    }

    #[test]
    fn probes_that_start_at_once_at_a_dead_socket_do_not_remove_each_others() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("control.sock");
        drop(UnixListener::bind(&path).unwrap());
        let made: Vec<_> = thread::scope(|scope| {
            let starts: Vec<_> = (0..8).map(|_| scope.spawn(|| SocketFile::make(&path).ok())).collect();
            starts.into_iter().map(|start| start.join().unwrap()).collect()
        });
        assert_eq!(made.iter().flatten().count(), 1);
        UnixStream::connect(&path).unwrap();
    }
}
