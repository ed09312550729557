// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What collectors are told of the probe itself: brought together from what the parts publish.

use std::{
    fs,
    sync::{Arc, Mutex, PoisonError},
};

use super::interfaces::SharedStatus;
use crate::{
    cli::FlowOptions,
    export::{InterfaceName, MeteringStatistics, Told, ToldSource},
    flow::SamplingNow,
    harvest::{HarvestReport, SharedReport},
};

/// Longest alias that is passed on; the kernel's limit is 255 (IFALIASZ in include/uapi/linux/if.h).
const MAX_DESCRIPTION: usize = 255;

/// What may change while the probe runs.
pub(super) type SharedFlowOptions = Arc<Mutex<FlowOptions>>;

/// A source that reads what harvester and interfaces publish.
pub(super) fn source(
    harvest: SharedReport,
    interfaces: SharedStatus,
    options: &SharedFlowOptions,
    overload: SamplingNow,
) -> ToldSource {
    let options = SharedFlowOptions::clone(options);
    Arc::new(move || {
        let status = interfaces.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let (idle_timeout, active_timeout, sampling) = {
            let options = options.lock().unwrap_or_else(PoisonError::into_inner);
            (options.idle_timeout, options.active_timeout, options.sampling)
        };
        Told {
            interfaces: status
                .into_iter()
                .map(|status| InterfaceName {
                    description: description(&status.info.name),
                    index: status.info.index,
                    name: status.info.name,
                })
                .collect(),
            metering: metering(&harvest.read()),
            sampling,
            overload_sampling: overload.interval(),
            idle_timeout,
            active_timeout,
        }
    })
}

fn metering(report: &HarvestReport) -> MeteringStatistics {
    let kernel = report.writers();
    MeteringStatistics {
        observed_flows: report.created,
        ignored_packets: kernel.outcomes.iter().sum(),
        // Of packets that were not metered only their number is known.
        ignored_octets: 0,
        not_sent_flows: kernel.lost_records + report.queue_full.flows,
        not_sent_packets: kernel.lost_packets + report.queue_full.packets,
        not_sent_octets: kernel.lost_octets + report.queue_full.octets,
    }
}

/// The alias that the operator gave the interface (`ip link set dev NAME alias TEXT`), or nothing.
fn description(interface: &str) -> String {
    let alias = fs::read_to_string(format!("/sys/class/net/{interface}/ifalias")).unwrap_or_default();
    let alias = alias.trim();
    let end = (0..=alias.len().min(MAX_DESCRIPTION)).rev().find(|end| alias.is_char_boundary(*end));
    alias[..end.unwrap_or(0)].to_owned()
}
