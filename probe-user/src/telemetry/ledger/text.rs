// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The ledger for people.

use std::fmt;

use super::{CollectorLedger, Ledger, Reasons};

/// The widest number, 20 digits, is rare; columns are as wide as what they hold.
struct Columns {
    packets: usize,
    octets: usize,
}

const LABEL: usize = 34;

impl Columns {
    fn row(&self, f: &mut fmt::Formatter<'_>, label: &str, packets: u64, octets: Option<u64>) -> fmt::Result {
        write!(f, "{label:<LABEL$}{packets:>width$}", width = self.packets)?;
        if let Some(octets) = octets {
            write!(f, "  {octets:>width$}", width = self.octets)?;
        }
        writeln!(f)
    }
}

impl fmt::Display for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (packets, octets) = (&self.packets, &self.octets);
        let columns = Columns {
            packets: digits(packets.received.max(packets.metered)).max("packets".len()),
            octets: digits(octets.received.max(octets.metered)).max("octets".len()),
        };
        writeln!(
            f,
            "{:<LABEL$}{:>p$}  {:>o$}",
            "Ledger",
            "packets",
            "octets",
            p = columns.packets,
            o = columns.octets
        )?;
        columns.row(f, "received", packets.received, None)?;
        columns.row(f, "  metered", packets.metered, Some(octets.metered))?;
        columns.row(f, "    exported", packets.exported, Some(octets.exported))?;
        columns.row(f, "    live", packets.live, Some(octets.live))?;
        columns.row(f, "    lost", packets.lost.total(), Some(octets.lost.total()))?;
        for (reason, count) in packets.lost.iter().filter(|(_, count)| *count != 0) {
            columns.row(f, &format!("      {reason}"), count, Some(octets.lost.get(reason)))?;
        }
        columns.row(f, "  not metered", packets.unmetered.total(), None)?;
        for (reason, count) in packets.unmetered.iter().filter(|(_, count)| *count != 0) {
            columns.row(f, &format!("    {reason}"), count, None)?;
        }
        if packets.steered != 0 {
            columns.row(f, "  steered", packets.steered, None)?;
        }
        self.write_flows(f)?;
        self.collectors.iter().try_for_each(|collector| write_collector(f, collector))?;
        for nic in self.nic.iter().filter(|nic| nic.dropped.total() != 0) {
            writeln!(
                f,
                "{}: {} packets lost before the probe saw them ({})",
                nic.interface,
                nic.dropped.total(),
                Listed(&nic.dropped)
            )?;
        }
        self.write_verdict(f)
    }
}

impl Ledger {
    fn write_flows(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let flows = &self.flows;
        let ended = flows.expired.total();
        write!(f, "flows: {} created, {} live, {ended} ended", flows.created, flows.live)?;
        if ended != 0 {
            write!(f, " ({})", Listed(&flows.expired))?;
        }
        writeln!(f)?;
        if self.noted.total() != 0 {
            writeln!(
                f,
                "metered without their ports: {} packets ({})",
                self.noted.total(),
                Listed(&self.noted)
            )?;
        }
        Ok(())
    }

    fn write_verdict(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.balanced() {
            return writeln!(f, "balanced: every packet, octet and record is accounted for");
        }
        writeln!(
            f,
            "NOT BALANCED by {} packets, {} octets, {} records: please report this as a bug, with the ledger",
            self.imbalance_packets(),
            self.imbalance_octets(),
            self.imbalance_records()
        )
    }
}

fn write_collector(f: &mut fmt::Formatter<'_>, collector: &CollectorLedger) -> fmt::Result {
    let CollectorLedger {
        url,
        not_selected,
        paired,
        offered,
        records,
        datagrams,
        dropped,
        not_representable,
    } = collector;
    write!(f, "{url}: {offered} records, {records} sent in {datagrams} datagrams")?;
    if dropped.total() != 0 {
        write!(f, ", {} dropped ({})", dropped.total(), Listed(dropped))?;
    }
    if not_representable.total() != 0 {
        write!(f, ", {} not representable ({})", not_representable.total(), Listed(not_representable))?;
    }
    if not_selected.total() != 0 {
        write!(f, "; {} not for it ({})", not_selected.total(), Listed(not_selected))?;
    }
    if *paired != 0 {
        write!(f, "; {paired} told as the reverse of another")?;
    }
    writeln!(f)
}

/// Reasons that are not zero: `idle 3, end 4`.
struct Listed<'a>(&'a Reasons);

impl fmt::Display for Listed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (reason, count)) in self.0.iter().filter(|(_, count)| *count != 0).enumerate() {
            let comma = if i == 0 { "" } else { ", " };
            write!(f, "{comma}{reason} {count}")?;
        }
        Ok(())
    }
}

fn digits(number: u64) -> usize {
    number.checked_ilog10().map_or(1, |log| log as usize + 1)
}
