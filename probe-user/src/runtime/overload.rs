// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The overload ladder as the options ask for it, and the log of its moves: the harvester, which moves it, must not
//! wait for whoever reads the log.

use std::{
    sync::mpsc::{Receiver, channel},
    time::Duration,
};

use tracing::{info, warn};

use crate::{
    cli::OverloadMode,
    overload::{Change, Governor, Ladder, LadderOptions, Rung},
};

/// Moves to be logged.
pub(super) struct OverloadLog(Receiver<Change>);

impl OverloadLog {
    /// Says what has moved since the last time.
    pub(super) fn show(&self) {
        for change in self.0.try_iter() {
            if change.is_up() {
                warn!("{change}");
            } else {
                info!("{change}");
            }
        }
    }
}

/// What the harvester needs, and its log; nothing and an empty log when overload is not to be acted on. A level must
/// be high at two harvests, `interval` apart, to be acted on.
pub(super) fn governor(mode: OverloadMode, interval: Duration) -> (Option<Governor>, OverloadLog) {
    let (changes, told) = channel();
    let governor = match mode {
        OverloadMode::Off => None,
        OverloadMode::Adaptive => {
            Some(Governor::new(Ladder::new(LadderOptions::new(interval, Rung::TOP)), changes))
        }
    };
    (governor, OverloadLog(told))
}
