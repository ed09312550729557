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
    /// The sum of reasons, and below it each that is not zero.
    fn reasons(
        &self,
        f: &mut fmt::Formatter<'_>,
        indent: &str,
        label: &str,
        reasons: &Reasons,
    ) -> fmt::Result {
        self.row(f, &format!("{indent}{label}"), reasons.total(), None)?;
        reasons
            .iter()
            .filter(|(_, count)| *count != 0)
            .try_for_each(|(reason, count)| self.row(f, &format!("{indent}  {reason}"), count, None))
    }

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
        let is_steered = packets.steered != 0 || packets.af_xdp.metered != 0;
        if !is_steered {
            self.write_kept(f, &columns, "    ")?;
        }
        columns.reasons(f, "  ", "not metered", &packets.unmetered)?;
        if is_steered {
            self.write_steered(f, &columns)?;
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
    /// What became of metered packets.
    fn write_kept(&self, f: &mut fmt::Formatter<'_>, columns: &Columns, indent: &str) -> fmt::Result {
        let (packets, octets) = (&self.packets, &self.octets);
        columns.row(f, &format!("{indent}exported"), packets.exported, Some(octets.exported))?;
        columns.row(f, &format!("{indent}live"), packets.live, Some(octets.live))?;
        columns.row(f, &format!("{indent}lost"), packets.lost.total(), Some(octets.lost.total()))?;
        for (reason, count) in packets.lost.iter().filter(|(_, count)| *count != 0) {
            columns.row(f, &format!("{indent}  {reason}"), count, Some(octets.lost.get(reason)))?;
        }
        Ok(())
    }

    /// What became of steered packets; and then of all that were metered, wherever that was.
    fn write_steered(&self, f: &mut fmt::Formatter<'_>, columns: &Columns) -> fmt::Result {
        let (packets, octets) = (&self.packets, &self.octets);
        let af_xdp = &packets.af_xdp;
        columns.row(f, "  steered to AF_XDP", packets.steered, None)?;
        columns.row(f, "    metered", af_xdp.metered, Some(octets.metered_by_af_xdp))?;
        columns.reasons(f, "    ", "not metered", &af_xdp.unmetered)?;
        columns.reasons(f, "    ", "dropped", &af_xdp.dropped)?;
        let packets = packets.metered.saturating_add(af_xdp.metered);
        let octets = octets.metered.saturating_add(octets.metered_by_af_xdp);
        columns.row(f, "metered by both", packets, Some(octets))?;
        self.write_kept(f, columns, "  ")
    }

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
                "metered, with something special: {} packets ({})",
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
