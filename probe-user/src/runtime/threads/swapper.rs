// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The thread that makes the halves of the caches change places.

use std::{thread, time::Duration};

use super::{Handle, Heartbeat, Running};
use crate::{
    error::ProbeError,
    flow::Timestamp,
    harvest::{Activity, Swapper},
    kernel::KernelError,
    runtime::clock,
};

/// Rest between two looks at the end.
const REST: Duration = Duration::from_millis(1);

/// See the module.
pub(in super::super) struct SwapperThread(Handle<(Swapper, Result<(), KernelError>)>);

impl SwapperThread {
    /// Starts it.
    ///
    /// # Errors
    /// When no thread can be had.
    pub(in super::super) fn start(swapper: Swapper) -> Result<Self, ProbeError> {
        let bell = swapper.bell().clone();
        let thread = Handle::start("swapper", None, move |running| swap(swapper, running))?;
        Ok(Self(thread.woken_by(bell)))
    }

    /// Whether it has not ended by itself.
    pub(in super::super) fn is_running(&self) -> bool {
        self.0.is_running()
    }

    /// Its turns.
    pub(in super::super) fn heartbeat(&self) -> Heartbeat {
        self.0.heartbeat()
    }

    /// Lets the harvesters read both halves once more, until `deadline`; to be called when nobody writes any more.
    /// Returns it for its last report.
    ///
    /// # Errors
    /// When it failed, now or before.
    pub(in super::super) fn stop(self, deadline: Timestamp) -> Result<Swapper, ProbeError> {
        self.0.tell_to_stop(deadline);
        let (swapper, result) = self.0.join()?;
        result.map(|()| swapper).map_err(ProbeError::from)
    }
}

fn swap(mut swapper: Swapper, running: &Running) -> (Swapper, Result<(), KernelError>) {
    while running.goes_on() {
        match swapper.step(clock::now()) {
            Ok(Activity::Busy) => {}
            Ok(Activity::Idle) => swapper.rest(clock::now().now),
            Err(error) => return (swapper, Err(error)),
        }
    }
    let result = swapper.finish(clock::now, || {
        thread::sleep(REST);
        clock::now().now < running.deadline()
    });
    (swapper, result)
}
