// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The loop around a meter, as steps: frames of several sources of one engine, in turn, into one row.
//!
//! A worker does what it is told between two steps: sources come and go while it runs. One that fails goes by itself;
//! why is handed out once, and the others go on.
//!
//! When the swap tells a turn, a worker counts at least as many frames of each source as waited when it saw it, and
//! then leaves its half of the cache: all that had come before the turn was told is counted before it is taken.

use std::{
    sync::{
        Arc,
        mpsc::{Receiver, TryRecvError, channel},
    },
    time::Duration,
};

use super::{
    FrameSource, Meter, SourceDrops, Turn, Turns,
    handle::{Command, Shared, SourceFailure, SourceReport, WorkerHandle, WorkerReport},
    wait,
};
use crate::{
    bell::Bell,
    flow::{Moment, Timestamp},
};

/// Frames that a source may give before it is the turn of the next.
const ROUND: usize = 512;
/// How often fragments are looked for whose time is over, and how often the report is renewed between turns.
const LOOK: Duration = Duration::from_millis(100);
/// Frames at the end beyond those that wait: from a source that nobody has stopped they would come for ever.
const MORE_AT_THE_END: usize = 1 << 16;

/// Between two looks whether the kernel still hides frames of a source that is to go, and how many looks: half a second,
/// because its timer may be late.
const HIDDEN_LOOK: Duration = Duration::from_millis(5);
const MOST_LOOKS: u32 = 100;

/// What a step came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Activity {
    /// There was something to do, and there may be more.
    Busy,
    /// Nothing came: the worker may [`Worker::rest`].
    Idle,
}

/// A source, and what it has brought.
struct Feed {
    source: Box<dyn FrameSource>,
    frames: u64,
    /// As last read.
    drops: SourceDrops,
}

/// See the module.
pub struct Worker {
    number: usize,
    meter: Meter,
    turns: Turns,
    turn: Turn,
    /// Rung when there is something else than frames.
    bell: Bell,
    feeds: Vec<Feed>,
    commands: Receiver<Command>,
    shared: Arc<Shared>,
    /// Drops of sources that are gone.
    gone: SourceDrops,
    looked: Timestamp,
}

impl Worker {
    /// Worker `number` of those that take `turns`, without sources, and how to reach it.
    #[must_use]
    pub fn new(number: usize, meter: Meter, turns: Turns) -> (Self, WorkerHandle) {
        let (sender, commands) = channel();
        let shared = Arc::new(Shared::default());
        let bell = turns.bell(number);
        let handle = WorkerHandle::new(sender, Arc::clone(&shared), bell.clone());
        let worker = Self {
            number,
            meter,
            turns,
            bell,
            turn: Turn::default(),
            feeds: Vec::new(),
            commands,
            shared,
            gone: SourceDrops::default(),
            looked: Timestamp::default(),
        };
        (worker, handle)
    }

    /// Does what it was told, takes the turn if there is one, and counts what has come.
    pub fn step(&mut self, moment: Moment) -> Activity {
        let mut activity = self.obey(moment);
        let told = self.turns.told();
        if told != self.turn {
            self.take_turn(told, moment);
            activity = Activity::Busy;
        }
        if self.round(ROUND, moment) > 0 {
            activity = Activity::Busy;
            self.meter.flush();
        }
        if moment.now.since(self.looked) >= LOOK {
            self.looked = moment.now;
            self.meter.expire(moment.now);
            self.meter.publish();
            self.report();
        }
        activity
    }

    /// Waits for frames, a turn or something to obey, and no longer than to the next look.
    pub fn rest(&mut self) {
        let mut sources: Vec<&mut dyn FrameSource> = Vec::with_capacity(self.feeds.len());
        sources.extend(self.feeds.iter_mut().map(|feed| &mut *feed.source as &mut dyn FrameSource));
        wait(&mut sources, Some(&self.bell), LOOK);
    }

    /// Counts what is still to come of sources that were stopped, and what waits for anything else; lets all sources
    /// go. There is no step after it: the next swap reads the half that it wrote last, and waits for it no more. It looks a last time when no source can hold back frames any longer ([`FrameSource::lingers`]).
    pub fn finish(&mut self, moment: Moment) {
        self.obey(moment);
        self.drain_all(moment);
        self.wait_for_hidden(None, moment);
        self.read_drops();
        while let Some(feed) = self.feeds.pop() {
            self.gone = self.gone.plus(&feed.drops);
        }
        self.meter.finish();
        self.report();
        self.turns.leave(self.number);
    }

    /// Frames taken since the start.
    #[must_use]
    pub fn frames(&self) -> u64 {
        self.meter.frames()
    }

    fn obey(&mut self, moment: Moment) -> Activity {
        let mut activity = Activity::Idle;
        loop {
            match self.commands.try_recv() {
                Ok(Command::Add(source)) => {
                    self.feeds.push(Feed { source, frames: 0, drops: SourceDrops::default() });
                }
                Ok(Command::Remove { interface, done }) => {
                    self.remove(interface, moment);
                    // Whoever asked may have given up waiting.
                    done.send(()).ok();
                }
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => return activity,
            }
            activity = Activity::Busy;
            self.report();
        }
    }

    /// Lets the sources of an interface go, once what has come is counted. The rings of the others last while the
    /// last of it comes into sight.
    fn remove(&mut self, interface: u32, moment: Moment) {
        self.wait_for_hidden(Some(interface), moment);
        for place in (0..self.feeds.len()).rev() {
            if self.feeds[place].source.interface() == interface && self.drain(place, 0, moment) {
                self.let_go(place);
            }
        }
        self.meter.flush();
        self.meter.publish();
    }

    /// Receives until no frame of an interface, or of any, is out of sight any more, or traffic goes on for so long that
    /// there will always be some.
    fn wait_for_hidden(&mut self, interface: Option<u32>, moment: Moment) {
        let concerns = |feed: &Feed| interface.is_none_or(|interface| feed.source.interface() == interface);
        let of_interest = self.feeds.iter().filter(|feed| concerns(feed));
        let lingers = of_interest.map(|feed| feed.source.lingers()).max().unwrap_or_default();
        if lingers.is_zero() {
            return;
        }
        std::thread::sleep(lingers);
        for _ in 0..MOST_LOOKS {
            for place in (0..self.feeds.len()).rev() {
                if concerns(&self.feeds[place]) {
                    self.drain(place, MORE_AT_THE_END, moment);
                }
            }
            let hidden =
                self.feeds.iter_mut().filter(|feed| concerns(feed)).any(|feed| feed.source.hidden() > 0);
            if !hidden {
                break;
            }
            std::thread::sleep(HIDDEN_LOOK);
        }
        self.meter.flush();
    }

    /// Reads the drops of a source for the last time, and closes it.
    fn let_go(&mut self, place: usize) {
        let mut feed = self.feeds.remove(place);
        update_drops(&mut feed, &mut self.meter);
        self.gone = self.gone.plus(&feed.drops);
    }

    /// One round over all sources; returns how many frames came.
    fn round(&mut self, limit: usize, moment: Moment) -> usize {
        let (mut sum, mut place) = (0, 0);
        while place < self.feeds.len() {
            if let Some(frames) = self.receive(place, limit, moment) {
                sum += frames;
                place += 1;
            }
        }
        sum
    }

    /// Receives from one source; nothing, and the source is gone, when it has failed.
    fn receive(&mut self, place: usize, limit: usize, moment: Moment) -> Option<usize> {
        let feed = &mut self.feeds[place];
        // What came before a failure was taken too, so the meter is asked, not the source.
        let before = self.meter.frames();
        let received = feed.source.receive(moment, limit, &mut self.meter);
        feed.frames += self.meter.frames() - before;
        match received {
            Ok(frames) => Some(frames),
            Err(error) => {
                let failure = SourceFailure {
                    interface: feed.source.interface(),
                    queue: feed.source.status().queue,
                    error,
                };
                self.meter.flush();
                self.let_go(place);
                self.shared.fail(failure);
                None
            }
        }
    }

    /// Receives what waits in one source, and up to `more` if it keeps coming. Whether the source is still there.
    fn drain(&mut self, place: usize, more: usize, moment: Moment) -> bool {
        let mut left = self.feeds[place].source.waiting() + more;
        while left > 0 {
            match self.receive(place, left.min(ROUND), moment) {
                Some(0) => break,
                Some(frames) => left = left.saturating_sub(frames),
                None => return false,
            }
        }
        true
    }

    fn drain_all(&mut self, moment: Moment) {
        for place in (0..self.feeds.len()).rev() {
            self.drain(place, MORE_AT_THE_END, moment);
        }
        self.meter.flush();
    }

    fn take_turn(&mut self, told: Turn, moment: Moment) {
        // From the last to the first: one that fails takes no other's place.
        for place in (0..self.feeds.len()).rev() {
            self.drain(place, 0, moment);
        }
        self.meter.flush();
        self.read_drops();
        self.meter.switch(told.epoch());
        self.report();
        self.turn = told;
        self.turns.take(self.number, told);
    }

    fn read_drops(&mut self) {
        for feed in &mut self.feeds {
            update_drops(feed, &mut self.meter);
        }
    }

    fn report(&self) {
        let sources = self.feeds.iter().map(|feed| SourceReport {
            interface: feed.source.interface(),
            status: feed.source.status(),
            frames: feed.frames,
            drops: feed.drops,
        });
        let sources: Vec<_> = sources.collect();
        let drops = sources.iter().fold(self.gone, |sum, source| sum.plus(&source.drops));
        self.shared.tell(WorkerReport { sources, frames: self.meter.frames(), drops });
    }
}

impl Drop for Worker {
    /// However it ends: a swap that waited for it would never be over.
    fn drop(&mut self) {
        self.turns.leave(self.number);
    }
}

/// Reads the drops of a source; those that only the meter can account for are counted, each once.
fn update_drops(feed: &mut Feed, meter: &mut Meter) {
    let drops = feed.source.drops();
    meter.socket_full(drops.socket_full().saturating_sub(feed.drops.socket_full()));
    feed.drops = drops;
}
