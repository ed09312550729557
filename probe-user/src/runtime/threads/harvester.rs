// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The threads that drain, merge, expire and enqueue.

use std::{
    sync::mpsc::{Receiver, Sender, channel},
    thread,
    time::Duration,
};

use super::{Handle, Rest, Running};
use crate::{
    error::ProbeError,
    harvest::{Activity, Command, Harvester},
    runtime::clock,
};

/// Shortest rest of a harvester that has emptied its rings.
const SHORTEST: Duration = Duration::from_micros(500);
/// Longest one: half of the time that a ring lasts when everything spills at once, and at most this.
const LONGEST: Duration = Duration::from_millis(6);
/// Records a second that one CPU spills at most.
const SPILLS: u32 = 20_000_000;
/// A ring that was so full after a rest asks for a shorter one.
const CROWDED: f64 = 1.0 / 32.0;

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

    /// The thread.
    pub(in super::super) fn thread(&self) -> &Handle<()> {
        &self.handle
    }

    /// The thread, to be stopped: it exports all flows first. After the deadline, records that find no room in the queue are lost.
    pub(in super::super) fn into_thread(self) -> Handle<()> {
        self.handle
    }
}

/// How long rings of so many records let a harvester rest.
fn longest_rest(records: usize) -> Duration {
    let seconds = f64::from(u32::try_from(records).unwrap_or(u32::MAX)) / f64::from(SPILLS) / 2.0;
    LONGEST.min(Duration::from_secs_f64(seconds))
}

fn harvest(mut harvester: Harvester, commands: &Receiver<Command>, running: &Running) {
    let mut rest = Rest::new(SHORTEST, longest_rest(harvester.ring_records()));
    while running.goes_on() {
        let moment = clock::now();
        while let Ok(command) = commands.try_recv() {
            harvester.command(command, moment);
        }
        if harvester.step(moment) == Activity::Idle {
            if harvester.take_fullest() > CROWDED {
                rest.shorten();
            }
            thread::sleep(rest.take());
        }
    }
    harvester.finish(clock::now, || {
        thread::sleep(SHORTEST);
        clock::now().now < running.deadline()
    });
}
