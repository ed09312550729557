// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The threads that drain, merge, expire and enqueue.

use std::{
    sync::mpsc::{Receiver, Sender, channel},
    thread,
    time::Duration,
};

use super::{Handle, Heartbeat, Running};
use crate::{
    error::ProbeError,
    flow::Timestamp,
    harvest::{Activity, Command, Harvester},
    runtime::clock,
};

/// Rest of an idle harvester. A spill ring of the default size lasts 13 ms at 20 million records a second.
const REST: Duration = Duration::from_micros(500);

/// One of them.
pub(in super::super) struct HarvesterThread {
    handle: Handle<()>,
    commands: Sender<Command>,
}

impl HarvesterThread {
    /// Starts it. `name` tells it from the others.
    ///
    /// # Errors
    /// When no thread can be had.
    pub(in super::super) fn start(
        name: String,
        harvester: Harvester,
        cpu: Option<usize>,
    ) -> Result<Self, ProbeError> {
        let (commands, receiver) = channel();
        let handle = Handle::start(name, cpu, move |running| harvest(harvester, &receiver, running))?;
        Ok(Self { handle, commands })
    }

    /// Asks it for something.
    pub(in super::super) fn command(&self, command: Command) {
        // If the thread has ended there is nothing to do it to; `is_running` tells.
        self.commands.send(command).ok();
    }

    /// Whether it has not ended by itself.
    pub(in super::super) fn is_running(&self) -> bool {
        self.handle.is_running()
    }

    /// Its turns.
    pub(in super::super) fn heartbeat(&self) -> Heartbeat {
        self.handle.heartbeat()
    }

    /// Has it export all flows; after `deadline`, records that find no room in the queue are lost.
    pub(in super::super) fn tell_to_stop(&self, deadline: Timestamp) {
        self.handle.tell_to_stop(deadline);
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// When it failed, now or before.
    pub(in super::super) fn join(self) -> Result<(), ProbeError> {
        self.handle.join()
    }
}

fn harvest(mut harvester: Harvester, commands: &Receiver<Command>, running: &Running) {
    while running.goes_on() {
        let moment = clock::now();
        while let Ok(command) = commands.try_recv() {
            harvester.command(command, moment);
        }
        if harvester.step(moment) == Activity::Idle {
            thread::sleep(REST);
        }
    }
    harvester.finish(clock::now, || {
        thread::sleep(REST);
        clock::now().now < running.deadline()
    });
}
