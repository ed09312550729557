// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Whether a collector that never answers seems to be there: what ICMP says, and what it stops saying.

use std::time::Duration;

use crate::export::stats::ErrorReason;
use crate::flow::Timestamp;

/// A host that refuses says so once a second at most (net.ipv4.icmp_ratelimit): silent for longer while datagrams
/// leave, it takes them.
const SILENCE: Duration = Duration::from_millis(1500);
/// Down for so long without a datagram that could be refused, it is tried.
const TRIAL: Duration = Duration::from_secs(10);

/// See the module.
#[derive(Default, Debug)]
pub(super) struct Health {
    /// Since when it is down, and when the last refusal came.
    down: Option<(Timestamp, Timestamp)>,
    /// The first datagram since the last refusal.
    sent: Option<Timestamp>,
    tried: Option<Timestamp>,
}

/// What to do about it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    /// Nothing.
    AsBefore,
    /// It is back, and may have lost its templates.
    Back,
    /// Nothing leaves for it that would tell whether it is back: send something.
    Try,
}

impl Health {
    pub(super) fn is_up(&self) -> bool {
        self.down.is_none()
    }

    /// Since when it has been down without a break.
    pub(super) fn down_since(&self) -> Option<Timestamp> {
        self.down.map(|(since, _)| since)
    }

    /// Datagrams left.
    pub(super) fn sent(&mut self, now: Timestamp) {
        self.sent.get_or_insert(now);
    }

    /// Something went wrong.
    pub(super) fn failed(&mut self, reason: ErrorReason, now: Timestamp) {
        if matches!(reason, ErrorReason::Refused | ErrorReason::Unreachable) {
            let since = self.down.map_or(now, |(since, _)| since);
            self.down = Some((since, now));
            self.sent = None;
            self.tried = None;
        }
    }

    /// To be called often. `can_try`: whether templates can be sent, which cost a collector nothing.
    pub(super) fn look(&mut self, can_try: bool, now: Timestamp) -> Verdict {
        let Some((_, last)) = self.down else { return Verdict::AsBefore };
        if self.sent.is_some_and(|sent| now.since(sent) >= SILENCE) {
            *self = Self::default();
            return Verdict::Back;
        }
        if self.sent.is_some() || now.since(self.tried.unwrap_or(last)) < TRIAL {
            return Verdict::AsBefore;
        }
        if !can_try {
            // The next records will tell.
            *self = Self::default();
            return Verdict::Back;
        }
        self.tried = Some(now);
        Verdict::Try
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Timestamp {
        Timestamp(0) + Duration::from_millis(ms)
    }

    #[test]
    fn it_is_back_when_datagrams_leave_and_nobody_refuses_them() {
        let mut health = Health::default();
        health.sent(at(0));
        health.failed(ErrorReason::Refused, at(10));
        assert!(!health.is_up());
        health.sent(at(20));
        health.failed(ErrorReason::Refused, at(1020));
        assert_eq!(health.look(true, at(2000)), Verdict::AsBefore, "nothing left since");
        health.sent(at(2100));
        assert_eq!(health.look(true, at(3599)), Verdict::AsBefore);
        assert_eq!(health.down_since(), Some(at(10)));
        assert_eq!(health.look(true, at(3600)), Verdict::Back);
        assert!(health.is_up());
        health.failed(ErrorReason::NoBuffer, at(4000));
        assert!(health.is_up(), "that is our own trouble");
    }

    #[test]
    fn without_records_templates_find_out_and_without_templates_time_does() {
        let mut health = Health::default();
        health.failed(ErrorReason::Unreachable, at(0));
        assert_eq!(health.look(true, at(10_000)), Verdict::Try);
        assert_eq!(health.look(true, at(10_001)), Verdict::AsBefore);
        assert_eq!(health.look(true, at(20_000)), Verdict::Try);
        assert!(!health.is_up());
        assert_eq!(health.look(false, at(30_000)), Verdict::Back);
    }
}
