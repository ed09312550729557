// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Wakes a thread that rests. Rung before it rests, it does not rest; rung often, it wakes once.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd},
    sync::Arc,
    time::Duration,
};

use nix::{
    poll::{PollFd, PollFlags, ppoll},
    sys::eventfd::{EfdFlags, EventFd},
};

/// An event counter of the kernel, so that its thread can wait for sockets as well. Cloning it gives the same bell.
#[derive(Clone, Debug)]
pub struct Bell(Arc<EventFd>);

impl Bell {
    /// One that has not been rung.
    ///
    /// # Errors
    /// When there is no file descriptor left.
    pub fn new() -> io::Result<Self> {
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        Ok(Self(Arc::new(EventFd::from_flags(flags)?)))
    }

    /// Wakes whoever waits for it, now or next.
    pub fn ring(&self) {
        // Refused only where it was rung 2^64 - 2 times and nobody came.
        self.0.write(1).ok();
    }

    /// Takes back what was rung until now.
    pub fn clear(&self) {
        // Refused where it was not rung.
        self.0.read().ok();
    }

    /// Returns when it is rung, or after `limit`.
    pub fn wait(&self, limit: Duration) {
        // A signal ends it early, which is as good as a ring: whoever rests looks what there is.
        ppoll(&mut [PollFd::new(self.as_fd(), PollFlags::POLLIN)], Some(limit.into()), None).ok();
        self.clear();
    }
}

impl AsFd for Bell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn rung_before_the_rest_there_is_none_and_once_is_enough() {
        let bell = Bell::new().unwrap();
        bell.ring();
        bell.clone().ring();
        bell.wait(LONG);
        bell.wait(Duration::from_millis(1));
        bell.ring();
        bell.clear();
        bell.wait(Duration::ZERO);
    }

    #[test]
    fn another_thread_wakes_it() {
        let bell = Bell::new().unwrap();
        let other = bell.clone();
        let thread = std::thread::spawn(move || other.ring());
        bell.wait(LONG);
        thread.join().unwrap();
    }
}
