// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Which ways of binding a socket are tried, in which order, and what is said when none works.

use std::{io, thread::sleep, time::Duration};

use nix::net::if_::if_nametoindex;
use xsk_rs::config::BindFlags;

use super::{AfXdpOptions, ZeroCopy, options::HEADROOM, socket::Socket};
use crate::meter::SourceError;

/// A closed socket gives its queue back a little later: the kernel does it in a work item (`xp_put_pool`).
const BUSY_PAUSE: Duration = Duration::from_millis(5);
const BUSY_TRIES: u32 = 40;

/// Memory on huge pages comes in multiples of this.
const HUGE_PAGE: u64 = 2 << 20;

/// How a socket is bound.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Binding {
    /// Whether the NIC writes packets into the socket's memory itself.
    pub zero_copy: bool,
    /// Why not, where that was tried.
    pub why_not_zero_copy: Option<String>,
    /// Whether packets of several frames can come.
    pub multi_buffer: bool,
    /// Why not, where that was asked for.
    pub why_not_multi_buffer: Option<String>,
    /// Whether the memory is on huge pages.
    pub huge_pages: bool,
    /// Why not, where that was asked for.
    pub why_not_huge_pages: Option<String>,
    /// Octets of the longest packet that fits into one frame. Without `multi_buffer` longer ones are dropped.
    pub longest_in_one_frame: u32,
}

/// Opens a socket in the best way that works.
///
/// # Errors
/// When none does.
pub(super) fn bind(options: &AfXdpOptions) -> Result<(Socket, Binding), SourceError> {
    if let Some(fault) = options.fault() {
        return Err(failed(options, io::Error::new(io::ErrorKind::InvalidInput, fault)));
    }
    check_name(options)?;
    let mut tries = 0;
    let bound = loop {
        tries += 1;
        match try_all(options, tries == BUSY_TRIES) {
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) && tries < BUSY_TRIES => {
                sleep(BUSY_PAUSE);
            }
            other => break other.map_err(|error| failed(options, explained(&error)))?,
        }
    };
    // libxdp goes by the name; had it gone to another interface meanwhile, the packets would be that one's.
    check_name(options)?;
    Ok(bound)
}

/// One try of each way. `persist`: a queue that is busy for zero-copy alone is no reason not to copy.
fn try_all(options: &AfXdpOptions, persist: bool) -> io::Result<(Socket, Binding)> {
    let mut refused = io::Error::other("there was no way to try");
    let mut why_not_multi_buffer = None;
    let buffers: &[bool] = if options.multi_buffer { &[true, false] } else { &[false] };
    for &multi_buffer in buffers {
        let mut why_not_zero_copy = None;
        for &zero_copy in ways(options.zero_copy) {
            match open(options, flags(zero_copy, multi_buffer)) {
                Ok((socket, why_not_huge_pages)) => {
                    let binding = Binding {
                        zero_copy,
                        why_not_zero_copy,
                        multi_buffer,
                        why_not_multi_buffer,
                        huge_pages: options.huge_pages && why_not_huge_pages.is_none(),
                        why_not_huge_pages,
                        longest_in_one_frame: options.frame_octets - HEADROOM,
                    };
                    return Ok((socket, binding));
                }
                Err(error) if error.raw_os_error() == Some(libc::EBUSY) && !persist => return Err(error),
                Err(error) => {
                    if zero_copy {
                        why_not_zero_copy = Some(refusal(&error, multi_buffer));
                    }
                    refused = error;
                }
            }
        }
        // Kernels before 6.6 do not know the flag for several frames, and say EINVAL.
        if refused.raw_os_error() != Some(libc::EINVAL) {
            break;
        }
        why_not_multi_buffer = Some("the kernel does not know it (Linux 6.6 and later do)".to_owned());
    }
    Err(refused)
}

fn ways(zero_copy: ZeroCopy) -> &'static [bool] {
    match zero_copy {
        ZeroCopy::Auto => &[true, false],
        ZeroCopy::Off => &[false],
        ZeroCopy::Required => &[true],
    }
}

fn flags(zero_copy: bool, multi_buffer: bool) -> BindFlags {
    let mode = if zero_copy { BindFlags::XDP_ZEROCOPY } else { BindFlags::XDP_COPY };
    let buffers = if multi_buffer { BindFlags::XDP_USE_SG } else { BindFlags::empty() };
    mode | buffers | BindFlags::XDP_USE_NEED_WAKEUP
}

/// On huge pages if asked for and there are any, else on small ones, with why.
fn open(options: &AfXdpOptions, flags: BindFlags) -> io::Result<(Socket, Option<String>)> {
    let why_not = if !options.huge_pages {
        None
    } else if !options.umem_octets().is_multiple_of(HUGE_PAGE) {
        // mmap would round up, and the munmap of xsk-rs, with the length as it was, would fail.
        Some("its size is no multiple of 2 MiB".to_owned())
    } else {
        match Socket::open(options, flags, true) {
            // What mmap says when too few huge pages are free. Were it another want of memory, small pages fail too.
            Err(error) if error.raw_os_error() == Some(libc::ENOMEM) => {
                Some("the host has too few of them free (/proc/sys/vm/nr_hugepages)".to_owned())
            }
            other => return other.map(|socket| (socket, None)),
        }
    };
    Ok((Socket::open(options, flags, false)?, why_not))
}

/// Whether the name still stands for the interface that is meant.
fn check_name(options: &AfXdpOptions) -> Result<(), SourceError> {
    let why = match if_nametoindex(options.interface.as_str()) {
        Ok(index) if index == options.index => return Ok(()),
        Ok(index) => io::Error::new(
            io::ErrorKind::NotFound,
            format!("that name belongs to ifIndex {index} now, not to {}", options.index),
        ),
        Err(error) => error.into(),
    };
    Err(failed(options, why))
}

fn failed(options: &AfXdpOptions, error: io::Error) -> SourceError {
    SourceError {
        attempted: "opening an AF_XDP socket",
        interface: options.interface.clone(),
        queue: Some(options.queue),
        error,
    }
}

/// Why zero-copy is not possible, in the words of who has to live with it.
fn refusal(error: &io::Error, multi_buffer: bool) -> String {
    match error.raw_os_error() {
        Some(libc::EOPNOTSUPP) if multi_buffer => {
            "its driver has no zero-copy, or none for packets of several frames".to_owned()
        }
        Some(libc::EOPNOTSUPP) => "its driver has no zero-copy".to_owned(),
        Some(libc::EINVAL) => "its driver refused these rings or this size of frames".to_owned(),
        _ => error.to_string(),
    }
}

/// The error with what to do about it. Its kind stays.
fn explained(error: &io::Error) -> io::Error {
    let hint = match error.raw_os_error() {
        Some(libc::EBUSY) => "another AF_XDP socket has this queue: end that program, or take other queues",
        Some(libc::EPERM) => "it takes CAP_NET_RAW and CAP_NET_ADMIN: run as root",
        Some(libc::ENOBUFS | libc::ENOMEM) => {
            "no memory for its frames: raise the limit of locked memory (ulimit -l), give CAP_IPC_LOCK, or use \
             fewer frames or queues"
        }
        Some(libc::EINVAL) => "there is no such queue (ethtool -l shows them), or the driver refused",
        Some(libc::EOPNOTSUPP) => "the driver has no zero-copy: leave it to copying",
        Some(libc::EAFNOSUPPORT) => "the kernel was built without AF_XDP (CONFIG_XDP_SOCKETS)",
        _ => return io::Error::new(error.kind(), error.to_string()),
    };
    io::Error::new(error.kind(), format!("{error}: {hint}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_options_and_interfaces_that_are_not_there_are_told_apart() {
        let missing = AfXdpOptions::new("nosuch0", 4_000_000, 0);
        let error = bind(&missing).err().unwrap().to_string();
        assert!(error.starts_with("opening an AF_XDP socket on interface nosuch0, queue 0: "), "{error}");
        let error = bind(&AfXdpOptions { ring: 3, ..missing }).err().unwrap().to_string();
        assert!(error.contains("power of two"), "{error}");
        let renamed = AfXdpOptions::new("lo", 4_000_000, 0);
        let error = bind(&renamed).err().unwrap().to_string();
        assert!(error.contains("ifIndex 1 now, not to 4000000"), "{error}");
    }
}
