// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a TCP connection has not had acknowledged. The one file with `unsafe` on the export side: there is no
//! other way to ask.

use std::io;
use std::os::fd::AsRawFd;

mod ioctl {
    // SIOCOUTQ of tcp(7), under the name that libc has for the same number.
    nix::ioctl_read_bad!(outq, libc::TIOCOUTQ, libc::c_int);
}

/// Octets written to a connected TCP socket that the peer's kernel has not acknowledged. Also right after the
/// connection broke (net/ipv4/tcp.c, `tcp_ioctl`: `write_seq - snd_una`).
///
/// # Errors
/// When the descriptor is no such socket.
pub(super) fn unacknowledged(socket: &impl AsRawFd) -> io::Result<u64> {
    let mut octets = 0;
    // SAFETY: the kernel writes one `int` to the address given, which is that of a `c_int` that outlives the call;
    // the descriptor is open as long as `socket` is borrowed.
    unsafe { ioctl::outq(socket.as_raw_fd(), &raw mut octets) }?;
    Ok(u64::try_from(octets).unwrap_or(0))
}
