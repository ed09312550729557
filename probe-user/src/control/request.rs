// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Commands that only the probe's main thread can carry out: it polls for them, whoever asked waits.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel},
    },
    time::Duration,
};

use serde::Serialize;
use serde_json::Value;

use super::Refusal;
use crate::error::ProbeError;

/// Requests that can wait at once; one server thread asks one at a time.
const WAITING: usize = 4;

/// How long an answer is waited for. The main thread looks twenty times a second; attaching takes up to a second.
const PATIENCE: Duration = Duration::from_secs(10);

/// What the main thread is asked to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Action {
    /// Meter one more interface, by name; the answer is its [`super::InterfaceInfo`].
    AddInterface(String),
    /// Meter an interface no longer, by name; the answer is `()`.
    RemoveInterface(String),
    /// End; the answer is `()`, given before ending begins.
    Shutdown,
}

/// One request. Dropped without an answer, it is refused.
#[derive(Debug)]
pub struct ControlRequest {
    action: Action,
    reply: SyncSender<Result<Value, Refusal>>,
    abandoned: Arc<AtomicBool>,
}

impl ControlRequest {
    /// What is to be done.
    #[must_use]
    pub fn action(&self) -> &Action {
        &self.action
    }

    /// Tells whoever asked what came of it.
    pub fn answer<T: Serialize>(self, outcome: Result<T, ProbeError>) {
        let answer = outcome.map_err(Refusal::from).and_then(|value| {
            serde_json::to_value(value)
                .map_err(|error| ProbeError::run("cannot write the answer as JSON").because(error).into())
        });
        // Who asked may have given up: then nobody is there to be told.
        self.reply.send(answer).ok();
    }
}

/// Where requests are put; clones share one queue.
#[derive(Clone, Debug)]
pub struct Asker {
    queue: SyncSender<ControlRequest>,
    patience: Duration,
}

/// Where the main thread takes requests from. When it is dropped, all that wait are refused.
#[derive(Debug)]
pub struct Requests(Receiver<ControlRequest>);

/// A queue of requests: both of its ends.
#[must_use]
pub fn requests() -> (Asker, Requests) {
    let (queue, waiting) = sync_channel(WAITING);
    (Asker { queue, patience: PATIENCE }, Requests(waiting))
}

impl Requests {
    /// The next request, if one waits. Never blocks.
    #[must_use]
    pub fn try_next(&self) -> Option<ControlRequest> {
        // What nobody waits for any more was reported as not done, so it is not done.
        std::iter::from_fn(|| self.0.try_recv().ok())
            .find(|request| !request.abandoned.load(Ordering::Acquire))
    }
}

impl Asker {
    /// The same with another limit to how long an answer is waited for.
    #[must_use]
    pub fn with_patience(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// Puts a request and waits for its answer.
    ///
    /// # Errors
    /// The main thread's reason; or that it ends, is too busy, or did not answer in time.
    pub fn ask(&self, action: Action) -> Result<Value, Refusal> {
        let (reply, answer) = sync_channel(1);
        let abandoned = Arc::new(AtomicBool::new(false));
        let request = ControlRequest { action, reply, abandoned: Arc::clone(&abandoned) };
        let ending = || ProbeError::run("the probe is ending").into();
        match self.queue.try_send(request) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => {
                return Err(ProbeError::run("too many commands wait for the probe already")
                    .hint("try again in a few seconds")
                    .into());
            }
            Err(TrySendError::Disconnected(_)) => return Err(ending()),
        }
        match answer.recv_timeout(self.patience) {
            Ok(answer) => answer,
            Err(RecvTimeoutError::Disconnected) => Err(ending()),
            Err(RecvTimeoutError::Timeout) => {
                abandoned.store(true, Ordering::Release);
                Err(ProbeError::run(format!("the probe did not get to it within {:?}", self.patience))
                    .hint("its log says what keeps it; probe iface list shows whether it was done after all")
                    .into())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn who_asks_gets_what_the_main_thread_answers() {
        let (asker, requests) = requests();
        let asking = thread::spawn(move || {
            (asker.ask(Action::AddInterface("eth2".into())), asker.ask(Action::Shutdown))
        });
        let next = || loop {
            match requests.try_next() {
                Some(request) => return request,
                None => thread::yield_now(),
            }
        };
        let request = next();
        assert_eq!(request.action(), &Action::AddInterface("eth2".into()));
        request.answer(Ok(7));
        next().answer::<()>(Err(ProbeError::usage("no").hint("later")));
        let (added, ended) = asking.join().unwrap();
        assert_eq!(added, Ok(Value::from(7)));
        let refusal = Refusal { kind: "usage".into(), message: "no".into(), hint: Some("later".into()) };
        assert_eq!(ended, Err(refusal));
    }

    #[test]
    fn what_nobody_waits_for_is_not_done() {
        let (asker, requests) = requests();
        let asker = asker.with_patience(Duration::from_millis(1));
        let refusal = asker.ask(Action::Shutdown).unwrap_err();
        assert!(refusal.message.contains("did not get to it within 1ms"), "{refusal:?}");
        assert!(requests.try_next().is_none());
    }

    #[test]
    fn a_probe_that_ends_or_is_busy_says_so() {
        let (asker, requests) = requests();
        let asker = asker.with_patience(Duration::from_millis(1));
        for _ in 0..WAITING {
            assert!(asker.ask(Action::Shutdown).unwrap_err().message.contains("did not get to it"));
        }
        assert!(asker.ask(Action::Shutdown).unwrap_err().message.contains("too many commands"));
        drop(requests);
        assert_eq!(asker.ask(Action::Shutdown).unwrap_err().message, "the probe is ending");
    }

    #[test]
    fn a_request_dropped_without_answer_is_refused() {
        let (asker, requests) = requests();
        let asking = thread::spawn(move || asker.ask(Action::Shutdown));
        while requests.try_next().is_none() {
            thread::yield_now();
        }
        assert_eq!(asking.join().unwrap().unwrap_err().message, "the probe is ending");
    }
}
