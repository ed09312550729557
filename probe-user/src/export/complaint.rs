// SPDX-License-Identifier: Apache-2.0 OR MIT
//! How often the log mentions a trouble that comes with every datagram.

use std::time::Duration;

use crate::flow::Timestamp;

const EVERY: Duration = Duration::from_secs(60);

/// Lets the first occurrence through at once, then one a minute with the number that were held back.
#[derive(Default, Debug)]
pub struct Complaint {
    spoken: Option<Timestamp>,
    held_back: u64,
}

impl Complaint {
    /// Notes one occurrence; `Some(held_back)` when it is time to speak.
    pub fn due(&mut self, now: Timestamp) -> Option<u64> {
        if self.spoken.is_some_and(|spoken| now.since(spoken) < EVERY) {
            self.held_back += 1;
            return None;
        }
        self.spoken = Some(now);
        Some(std::mem::take(&mut self.held_back))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speaks_at_once_and_then_once_a_minute() {
        let mut complaint = Complaint::default();
        let at = |seconds| Timestamp(0) + Duration::from_secs(seconds);
        assert_eq!(complaint.due(at(5)), Some(0));
        assert_eq!(complaint.due(at(6)), None);
        assert_eq!(complaint.due(at(64)), None);
        assert_eq!(complaint.due(at(65)), Some(2));
        assert_eq!(complaint.due(at(66)), None);
    }
}
